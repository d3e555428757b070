"""A backend of one's own: a board whose kernels were timed once, and whose arithmetic is that of ONNX Runtime.

    python examples/backend/board.py

A board that is reached by a cable or a network looks the same: `time_ms` asks it, and `run` may ask it too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import onnx

import autoprec
from autoprec.backends.ort import OrtBackend
from autoprec.backends.protocol import Clock, Engine, RanAs, TimeProfile
from autoprec.backends.scheme import ORT_CPU
from autoprec.backends.sharing import Kernel, share_out
from autoprec.errors import BackendError
from autoprec.precision import Array, Precision
from autoprec.testing import tiny_data, tiny_model

KERNELS_MS = {"Conv": (0.80, 0.25), "Gemm": (0.30, 0.10), "QuantizeLinear": (0.02, 0.02)}
"""Operator -> milliseconds in FP32 and in INT8, as they were timed on the board."""
OTHER_MS = (0.05, 0.05)
CONVERTS = ("QuantizeLinear", "DequantizeLinear")


class BoardEngine:
    """A model on the board."""

    size_bytes = 0  # the board keeps no engine, so the size of the lowered model counts

    def __init__(self, arithmetic: Engine, latency_ms: float) -> None:
        self._arithmetic, self._latency_ms = arithmetic, latency_ms

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        return self._arithmetic.run(feed)

    def time_ms(self, feed: Mapping[str, Array], runs: int) -> list[float]:
        return [self._latency_ms] * runs

    def __enter__(self) -> BoardEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._arithmetic.__exit__(kind, error, trace)


class BoardBackend:
    """The board, as autoprec.backends.protocol.Backend asks."""

    name = "board"
    scheme = ORT_CPU  # how Q/DQ pairs are written: like ONNX Runtime's; bring a Scheme of your own if that differs
    default_space = "cpu"
    threads = 1
    targets: tuple[str, ...] = ()
    runs_here = True
    uses_gpu = False
    portable = True
    builds_quickly = True
    keeps_engines = False
    clock = Clock("modelled", "the board, by its table of kernels")

    def for_run(self, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> BoardBackend:
        return self

    def describe(self) -> dict[str, str]:
        return {"backend": self.name, "table": str(sorted(KERNELS_MS.items()))}

    def support(self) -> dict[Precision, str | None]:
        refusal = "the board has no kernels for it"
        return {p: None if p in (Precision.FP32, Precision.INT8) else refusal for p in Precision}

    def build(self, model: bytes, *, exact: bool = False, threads: int | None = None) -> BoardEngine:
        latency_ms = sum(ms for _, ms, _ in kernels(model))
        return BoardEngine(OrtBackend(threads=1).build(model, exact=exact), latency_ms)

    def build_busy(self, model: bytes) -> BoardEngine:
        return self.build(model)

    def inspect(self, model: bytes, nodes: Sequence[str]) -> dict[str, RanAs]:
        return {
            node.name: RanAs(f"board.{node.op_type}", on_codes, Precision.INT8 if on_codes else Precision.FP32)
            for node, _, on_codes in kernels(model)
            if node.name in set(nodes)
        }

    def profile(
        self, model: bytes, feed: Mapping[str, Array], home: Mapping[str, str], macs: Mapping[str, int]
    ) -> TimeProfile:
        timed = [
            (
                Kernel(
                    name=node.name,
                    units={home[node.name]: 1.0} if node.name in home else {},
                    reads=tuple(node.input),
                    writes=tuple(node.output),
                    converts=node.op_type in CONVERTS,
                ),
                ms,
            )
            for node, ms, _ in kernels(model)
        ]
        return share_out(timed, [kernel for kernel, _ in timed])


def kernels(model: bytes) -> Iterator[tuple[onnx.NodeProto, float, bool]]:
    """Each node with its milliseconds, and whether it computes on 8-bit codes.

    Raises:
        BackendError: the bytes are no model.
    """
    try:
        graph = onnx.load_from_string(model).graph
    except Exception as error:
        raise BackendError(f"the board's compiler cannot read the model: {error}") from error
    makers = {name: node.op_type for node in graph.node for name in node.output}
    constants = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in CONVERTS and node.input[0] in constants:
            continue  # weights are converted when the engine is built
        on_codes = all(makers.get(name) == "DequantizeLinear" for name in node.input[:2])
        yield node, KERNELS_MS.get(node.op_type, OTHER_MS)[int(on_codes)], on_codes


def main() -> None:
    """Tune a tiny model for the board."""
    folder = Path("board")
    folder.mkdir(exist_ok=True)
    model = tiny_model(folder)
    result = autoprec.search(
        model, calib=tiny_data(model, 32), eval=tiny_data(model, 64), backend=BoardBackend(), out=folder / "run"
    )
    result.save()
    print(result)


if __name__ == "__main__":
    main()
