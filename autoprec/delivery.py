"""From a plan file to what is shipped: the lowered model, and an engine with the proof of what it runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoprec.errors import UsageError
from autoprec.graph import Topology
from autoprec.lower import Lowered, Lowerer
from autoprec.model import Model, check_model, load_model, save_model, to_bytes
from autoprec.plan import Plan, check_plan_fits, load_plan, usable_precisions
from autoprec.precision import Precision
from autoprec.proof import verified
from autoprec.ranges.table import ranges_from_plan
from autoprec.records import write_bytes, write_json
from autoprec.schemes import scheme_named
from autoprec.units.find import find_units
from autoprec.verify import Verification

if TYPE_CHECKING:
    from autoprec.backends.tensorrt.backend import TensorRtBackend
    from autoprec.backends.tensorrt.records import EngineFile, ShapeProfile

_SHAPE = re.compile(r"\d+(x\d+)*")
_SHAPE_AT_END = re.compile(r"(.*:)?\d+(x\d+)+")  # TensorFlow's names end in :0, which is no shape


@dataclass(frozen=True, slots=True)
class EngineWish:
    """The engine to build.

    Attributes:
        backend: "tensorrt" or "tensorrt-rtx".
        targets: compute capabilities, none for this machine's GPU.
        shapes: "INPUT:1x3x224x224", or with least, best and largest shape.
        batch: for inputs without a shape.
        time_limit_s: of the build.
        timing_cache: whether kernel timings of earlier builds are used.
    """

    backend: str
    targets: tuple[str, ...] = ()
    shapes: Sequence[str] = ()
    batch: int = 1
    time_limit_s: float = 900.0
    timing_cache: bool = True


@dataclass(frozen=True, slots=True)
class Delivered:
    """What was written.

    Attributes:
        model: the lowered model.
        counts: precision -> units.
        model_bytes: of the lowered model.
        original_bytes: of the model that was lowered.
        engine_path: the engine; its JSON lies beside it.
        engine: how it was made.
        verification: what it runs, unit by unit.
    """

    model: Path
    counts: Mapping[str, int]
    model_bytes: int
    original_bytes: int
    engine_path: Path | None = None
    engine: EngineFile | None = None
    verification: Verification | None = None

    def to_record(self) -> dict[str, Any]:
        """As JSON."""
        record: dict[str, Any] = {
            "written": str(self.model), "units": dict(self.counts), "bytes": self.model_bytes,
            "model_bytes": self.original_bytes,
        }  # fmt: skip
        if self.engine is not None and self.verification is not None:
            record["engine"] = engine_record(self.engine) | {"written": str(self.engine_path)}
            record["verification"] = self.verification.to_record()
        return record


def deliver(plan: Path, model: Path, out: Path | None = None, wish: EngineWish | None = None) -> Delivered:
    """Lower a model by a plan, and build an engine where one is wished for.

    Args:
        plan: a plan file.
        model: that it was made for.
        out: the lowered model, by default model.onnx beside the plan; the engine lies beside it.
        wish: the engine.

    Raises:
        PlanError: the plan is broken, or of another model.
        UsageError: `out` is the model itself, or the wish names no backend or shape.
        BackendError: the runtime refused.
    """
    chosen, loaded = load_plan(plan), load_model(model)
    check_plan_fits(chosen, loaded.graph_fingerprint, loaded.weights_fingerprint, model)
    target = out if out is not None else plan.parent / "model.onnx"
    if target.exists() and target.resolve() == model.resolve():
        raise UsageError(f"{target} is the model itself; choose another file by --out")
    backend = None if wish is None else _backend(wish, target.parent)
    scheme = chosen.scheme if backend is None else backend.scheme
    lowerer, precisions, lowered = _lower(chosen, loaded, scheme)
    check_model(lowered.ir)
    save_model(lowered.ir, target)
    counts = {p.value: sum(q is p for q in precisions.values()) for p in sorted(set(precisions.values()))}
    written = (target, counts, target.stat().st_size, model.stat().st_size)
    if backend is None:
        return Delivered(*written)
    data = to_bytes(lowered.ir)
    file = backend.build_file(data)
    path = target.with_suffix(".engine")
    write_bytes(path, file.path.read_bytes())
    verification = verified(lowerer, precisions, backend, data)
    record = {"schema": 1, "kind": "autoprec engine"} | engine_record(file)
    write_json(path.with_suffix(".json"), record | {"plan": str(plan), "verification": verification.to_record()})
    return Delivered(*written, path, file, verification)


def engine_record(file: EngineFile) -> dict[str, Any]:
    """How an engine was made, as JSON: its layers too."""
    record = asdict(file)
    del record["path"]
    return record


def parse_shapes(words: Sequence[str]) -> dict[str, ShapeProfile]:
    """Input -> shapes of "INPUT:1x3x224x224" or "INPUT:LEAST:BEST:LARGEST".

    Raises:
        UsageError: a text is no such shape.
    """
    from autoprec.backends.tensorrt.records import ShapeProfile

    found = {}
    for text in words:
        name, shapes = _name_and_shapes(text)
        if not name or not shapes or _SHAPE_AT_END.fullmatch(name):
            raise UsageError(
                f"--shapes must be INPUT:1x3x224x224, or INPUT:LEAST:BEST:LARGEST in that form, got {text!r}"
            )
        found[name] = ShapeProfile(*(shapes if len(shapes) == 3 else shapes * 3))
    return found


def _name_and_shapes(text: str) -> tuple[str, list[tuple[int, ...]]]:
    """What stands before the last three shapes, if they have one rank, else before the last; and these."""
    fields = text.split(":")
    for count in (3, 1):
        last = fields[-count:]
        if len(fields) > count and all(map(_SHAPE.fullmatch, last)) and len({s.count("x") for s in last}) == 1:
            return ":".join(fields[:-count]), [tuple(map(int, shape.split("x"))) for shape in last]
    return text, []


def _backend(wish: EngineWish, folder: Path) -> TensorRtBackend:
    from autoprec.backends.tensorrt.backend import TensorRtBackend
    from autoprec.backends.tensorrt.records import BuildOptions

    if wish.backend not in ("tensorrt", "tensorrt-rtx"):
        raise UsageError(f"engines are built by tensorrt or tensorrt-rtx, got --backend {wish.backend}")
    options = BuildOptions(
        parse_shapes(wish.shapes), wish.targets, time_limit_s=wish.time_limit_s, timing_cache=wish.timing_cache
    )
    return TensorRtBackend(wish.backend, options, folder=folder / "engines", batch=wish.batch)


def _lower(plan: Plan, model: Model, scheme_name: str) -> tuple[Lowerer, dict[str, Precision], Lowered]:
    partition, scheme = find_units(model.graph), scheme_named(scheme_name)
    precisions = usable_precisions(plan, partition, Topology(model.graph), scheme)
    lowerer = Lowerer(model, partition, scheme, plan.carrier)
    return lowerer, precisions, lowerer.lower(precisions, ranges_from_plan(plan.ranges))
