"""A backend that is neither ONNX Runtime nor TensorRT: an imagined accelerator with everything of its own.

It brings its own scheme, search space, targets, engine sizes and clock. It builds either for itself, or ahead of time
for machines that are not here. ONNX Runtime lends it the arithmetic alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import onnx

from autoprec.backends.ort import OrtBackend
from autoprec.backends.protocol import Clock, Engine, RanAs, TimeProfile
from autoprec.backends.scheme import Scheme
from autoprec.backends.sharing import Kernel, share_out
from autoprec.errors import BackendError
from autoprec.precision import Array, Precision

NPU_SCHEME = Scheme(
    name="npu-v1",
    symmetric=True,
    quantize_outputs=True,
    tensor_core_limits=False,
    dequantize_after_gather=True,
    float_islands=False,
    gemms_as_products=True,
    norms_as_convs=False,
)
"""Symmetric as TensorRT's, with pairs on results as ONNX Runtime's: no scheme of autoprec mixes these."""
_CONVERTS = ("QuantizeLinear", "DequantizeLinear", "Cast")


@dataclass(frozen=True)
class Step:
    """A node of the engine, with its cost and whether it computes on codes."""

    node: onnx.NodeProto
    milliseconds: float
    on_codes: bool


class NpuEngine:
    """An engine for the accelerator; one that is built ahead of time only has a clock and a size here."""

    def __init__(self, model: bytes, arithmetic: Engine | None) -> None:
        self.latency_ms = sum(step.milliseconds for step in steps(model))
        self.size_bytes = 7 * len(model) + 1  # as no file of this machine has
        self._arithmetic = arithmetic

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        if self._arithmetic is None:
            raise BackendError("an engine that was built ahead of time cannot run on this machine")
        return self._arithmetic.run(feed)

    def time_ms(self, feed: Mapping[str, Array], runs: int) -> list[float]:
        """The sum of the costs."""
        return [self.latency_ms] * runs

    def __enter__(self) -> NpuEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class NpuBackend:
    """The accelerator's compiler.

    Args:
        targets: the machines that it builds for ahead of time; none where the accelerator is here.
    """

    name = "npu"
    scheme = NPU_SCHEME
    default_space = str(Path(__file__).with_name("third_space.toml"))
    threads = 1
    uses_gpu = False
    portable = False
    builds_quickly = False
    keeps_engines = False

    def __init__(self, targets: tuple[str, ...] = ()) -> None:
        self.targets = targets
        self.runs_here = not targets
        self.clock = Clock("modelled", targets[0]) if targets else Clock("measured", "npu3")

    def for_run(self, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> NpuBackend:
        return self

    def describe(self) -> dict[str, str]:
        return {"backend": self.name, "compiler": "3.1", "hardware": ",".join(self.targets) or "npu3"}

    def support(self) -> dict[Precision, str | None]:
        refusal = "the accelerator has no such arithmetic"
        return {p: None if p in (Precision.FP32, Precision.INT8) else refusal for p in Precision}

    def build(self, model: bytes, *, exact: bool = False, threads: int | None = None) -> Engine:
        if exact:
            return OrtBackend(threads=1).build(model, exact=True)
        return NpuEngine(model, OrtBackend(threads=1).build(model, exact=True) if self.runs_here else None)

    def build_busy(self, model: bytes) -> Engine:
        return self.build(model)

    def inspect(self, model: bytes, nodes: Sequence[str]) -> dict[str, RanAs]:
        return {
            step.node.name: RanAs(
                operator=f"npu.{step.node.op_type}",
                quantized=step.on_codes,
                precision=Precision.INT8 if step.on_codes else Precision.FP32,
            )
            for step in steps(model)
            if step.node.name in set(nodes)
        }

    def profile(
        self, model: bytes, feed: Mapping[str, Array], home: Mapping[str, str], macs: Mapping[str, int]
    ) -> TimeProfile:
        timed = [
            (
                Kernel(
                    name=step.node.name,
                    units={home[step.node.name]: 1.0} if step.node.name in home else {},
                    reads=tuple(step.node.input),
                    writes=tuple(step.node.output),
                    converts=step.node.op_type in _CONVERTS,
                ),
                step.milliseconds,
            )
            for step in steps(model)
        ]
        return share_out(timed, [kernel for kernel, _ in timed])


def steps(model: bytes) -> Iterator[Step]:
    """The nodes of a model with their costs; one computes on codes where all that it multiplies is dequantised.

    Raises:
        BackendError: the bytes are no model.
    """
    try:
        graph = onnx.load_from_string(model).graph
    except Exception as error:
        raise BackendError(f"the accelerator's compiler cannot read the model: {error}") from error
    if not graph.node:
        raise BackendError("the accelerator's compiler cannot read the model: it has no nodes")
    makers = {name: node.op_type for node in graph.node for name in node.output}
    for node in graph.node:
        on_codes = all(makers.get(name) == "DequantizeLinear" for name in node.input[:2])
        cost = 0.02 if node.op_type in _CONVERTS else 0.3 if on_codes else 1.0
        yield Step(node, cost, on_codes)
