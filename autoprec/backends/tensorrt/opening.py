"""Open an engine file with the runtime that wrote it."""

from __future__ import annotations

import json
from pathlib import Path

from autoprec.backends.tensorrt.bindings import Bindings, find_bindings
from autoprec.backends.tensorrt.cuda import Cuda, load_cuda
from autoprec.backends.tensorrt.engine import TensorRtEngine
from autoprec.errors import BackendError

RUNTIMES = ("tensorrt", "tensorrt_rtx")


def open_engine(path: Path, *, cuda: Cuda | None = None, cuda_graph: bool = True) -> TensorRtEngine:
    """Load an engine on the current GPU.

    The runtime is the one that the record beside the engine names; without a record those installed are tried.

    Args:
        path: the engine file.
        cuda: CUDA; by default this machine's.
        cuda_graph: whether timed runs are launched as a CUDA graph, as for TensorRtEngine.

    Raises:
        BackendError: no file, no runtime, no GPU, or the engine cannot be loaded here.
    """
    if not path.is_file():
        raise BackendError(f"there is no engine {path}; build one with autoprec build PLAN MODEL --backend tensorrt")
    named = recorded_runtime(path)
    candidates = [find_bindings(named)] if named is not None else _installed()
    cuda = load_cuda() if cuda is None else cuda
    cuda.device()  # without a GPU, that is what is to be said, and not what each runtime makes of it
    refusals = []
    for bindings in candidates:
        try:
            return TensorRtEngine(path, bindings.module, cuda, cuda_graph=cuda_graph)
        except BackendError as error:
            refusals.append(error)
    if len(refusals) == 1:
        raise refusals[0]
    raise BackendError("; or else ".join(map(str, refusals))) from refusals[0]


def recorded_runtime(path: Path) -> str | None:
    """The runtime that the record beside an engine names: NAME.json for NAME.engine, or NAME.engine.json."""
    for beside in (path.with_suffix(".json"), path.with_name(f"{path.name}.json")):
        try:
            record = json.loads(beside.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and isinstance(record.get("runtime"), str):
            return str(record["runtime"])
    return None


def _installed() -> list[Bindings]:
    found, missing = [], []
    for name in RUNTIMES:
        try:
            found.append(find_bindings(name))
        except BackendError as error:
            missing.append(str(error))
    if not found:
        raise BackendError(f"loading engines needs the runtime that built them: {'; or '.join(missing)}")
    return found
