"""A backend whose clock adds up given costs, so that a search depends only on its arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import onnx
import onnx_ir as ir

from autoprec.backends.ort import OrtBackend
from autoprec.backends.protocol import Clock, Engine, RanAs, TimeProfile
from autoprec.backends.scheme import ORT_CPU
from autoprec.backends.sharing import Kernel, share_out
from autoprec.errors import BackendError
from autoprec.files.json import fingerprint
from autoprec.precision import Array, Precision

Costs = Mapping[str, tuple[float, float]]
"""Node name or operator -> the milliseconds in float and the milliseconds on 8-bit codes."""

_COSTS: dict[str, tuple[float, float]] = {
    "Conv": (1.0, 0.4),
    "ConvTranspose": (1.0, 1.1),
    "Gemm": (0.5, 0.2),
    "MatMul": (0.5, 0.25),
    "QuantizeLinear": (0.05, 0.05),
    "DequantizeLinear": (0.05, 0.05),
    "": (0.1, 0.08),
}


class FakeEngine:
    """An engine whose outputs come from ONNX Runtime and whose latency is computed from costs."""

    size_bytes = 0

    def __init__(self, engine: Engine, latency_ms: float, jitter: float, seed: int) -> None:
        self._engine, self._latency_ms, self._jitter = engine, latency_ms, jitter
        self._random = np.random.default_rng(seed)

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Return the outputs for one batch by name."""
        return self._engine.run(feed)

    def time_ms(self, feed: Mapping[str, Array], runs: int) -> list[float]:
        """Return the computed milliseconds `runs` times, each with its share of jitter; nothing is run."""
        factors = 1 + self._jitter * self._random.random(runs)
        return [float(self._latency_ms * factor) for factor in factors]

    def __enter__(self) -> FakeEngine:
        """Return the engine itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the session of ONNX Runtime."""
        self._engine.__exit__(kind, error, trace)


class FakeBackend:
    """A backend that computes with ONNX Runtime, but whose clock adds up the costs of nodes, without noise or waiting.

    Args:
        costs: node name or operator -> (milliseconds in float, milliseconds on 8-bit codes). Names take precedence over
            operators, "" stands for all other operators, and operators that are not given have default costs. A
            QuantizeLinear or DequantizeLinear of an activation has the cost of its operator; one of a weight is free.
        busy: the costs while several batches are in flight, in the same form; by default the same costs.
        jitter: the largest share by which a timed run may take longer. It is drawn at random from model and `seed`.
        seed: the seed of the jitter.
    """

    name = "fake"
    scheme = ORT_CPU
    default_space = "cpu"
    threads = 1
    targets: tuple[str, ...] = ()
    runs_here = True
    uses_gpu = False
    portable = True
    builds_quickly = True
    keeps_engines = False
    clock = Clock("modelled", "a sum of costs")

    def __init__(
        self, costs: Costs | None = None, *, busy: Costs | None = None, jitter: float = 0.0, seed: int = 0
    ) -> None:
        self._costs = {**_COSTS, **(costs or {})}
        self._busy = {**self._costs, **(busy or {})}
        self._jitter, self._seed = jitter, seed
        self._runtime = OrtBackend(threads=1)

    def for_run(self, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> FakeBackend:
        """Return this backend, which needs no preparation for a run."""
        return self

    def describe(self) -> dict[str, str]:
        """Return the settings that determine the latencies."""
        costs = fingerprint(f"{key}={value}" for c in (self._costs, self._busy) for key, value in sorted(c.items()))
        return {"backend": self.name, "costs": costs, "jitter": str(self._jitter), "seed": str(self._seed)}

    def support(self) -> dict[Precision, str | None]:
        """Return the precisions that have costs: FP32 and INT8."""
        refusal = "the fake backend has no costs for it, so it cannot be timed"
        return {p: None if p in (Precision.FP32, Precision.INT8) else refusal for p in Precision}

    def build(self, model: bytes, *, exact: bool = False, threads: int | None = None) -> FakeEngine:
        """Build a session, and compute the latency of the model.

        Raises:
            BackendError: ONNX Runtime refused the model.
        """
        return self._engine(model, self._runtime.build(model, exact=exact, threads=threads), self._costs)

    def build_busy(self, model: bytes) -> FakeEngine:
        """Build the same with the costs while several batches are in flight.

        Raises:
            BackendError: ONNX Runtime refused the model.
        """
        return self._engine(model, self._runtime.build(model), self._busy)

    def _engine(self, model: bytes, engine: Engine, costs: Costs) -> FakeEngine:
        seed = int(fingerprint([model, str(self._seed)]), 16)
        return FakeEngine(engine, sum(ms for _, ms, _ in self._reckon(model, costs)), self._jitter, seed)

    def inspect(self, model: bytes, nodes: Sequence[str]) -> dict[str, RanAs]:
        """Return each named node as it is written in the model; it counts as quantised if it computes on codes."""
        wanted = set(nodes)
        rows = self._reckon(model)
        return {
            str(n.name): RanAs(operator=n.op_type, quantized=quantized) for n, _, quantized in rows if n.name in wanted
        }

    def profile(
        self, model: bytes, feed: Mapping[str, Array], home: Mapping[str, str], macs: Mapping[str, int]
    ) -> TimeProfile:
        """Return the cost of each node by unit; a Q/DQ pair or a cast in no unit belongs to a boundary."""
        kernels, timed = [], []
        for node, milliseconds, _ in self._reckon(model):
            reads = tuple(str(v.name) for v in node.inputs if v is not None and not v.is_initializer())
            units = {home[str(node.name)]: 1.0} if node.name in home else {}
            converts = node.op_type in ("QuantizeLinear", "DequantizeLinear", "Cast")
            kernels.append(
                Kernel(
                    name=str(node.name),
                    units=units,
                    reads=reads,
                    writes=tuple(str(v.name) for v in node.outputs),
                    converts=converts,
                )
            )
            timed.append((kernels[-1], milliseconds))
        return share_out(timed, kernels)

    def _reckon(self, model: bytes, costs: Costs | None = None) -> list[tuple[ir.Node, float, bool]]:
        """Return (node, milliseconds, whether it computes on codes) for every node that costs anything."""
        try:
            graph = ir.from_proto(onnx.load_from_string(model)).graph
        except Exception as error:  # protobuf and onnx_ir have no common class of errors
            raise BackendError(f"the fake backend cannot read the model: {error}") from error
        costs = self._costs if costs is None else costs
        rows = []
        for node in graph:
            pair = node.op_type in ("QuantizeLinear", "DequantizeLinear")
            if pair and (node.inputs[0] is None or node.inputs[0].is_initializer()):
                continue
            quantized = _computes_on_codes(node)
            cost = costs.get(str(node.name)) or costs.get(node.op_type) or costs[""]
            rows.append((node, cost[int(quantized)], quantized))
        return rows


def _computes_on_codes(node: ir.Node) -> bool:
    """Return whether all operands are dequantised, weights included.

    If there is a single operand, the result must be quantised again too; otherwise the node computes in float.
    """
    operands = [value.producer() for value in node.inputs[:2] if value is not None]
    if not operands or any(maker is None or maker.op_type != "DequantizeLinear" for maker in operands):
        return False
    return len(operands) == 2 or any(reader.op_type == "QuantizeLinear" for reader in node.outputs[0].consumers())
