"""For tests of code that uses autoprec: a backend with a reckoned clock, a tiny model, a contract for backends.

    from autoprec.testing import FakeBackend, tiny_data, tiny_model

    model = tiny_model(tmp_path)
    result = autoprec.search(model, calib=tiny_data(model, 32), backend=FakeBackend(), out=tmp_path / "run")

With `FakeBackend` a search depends on nothing but its arguments: the same seed gives the same trials and plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
import onnx
import onnx_ir as ir

from autoprec.backends.ort import OrtBackend
from autoprec.backends.protocol import Backend, Engine, RanAs
from autoprec.errors import BackendError
from autoprec.model import to_bytes
from autoprec.precision import Array, Precision
from autoprec.records import fingerprint, write_bytes

__all__ = ["BackendContract", "FakeBackend", "tiny_data", "tiny_model"]

Costs = Mapping[str, tuple[float, float]]
"""Node name or op type -> milliseconds in float and on 8-bit codes."""

_COSTS: dict[str, tuple[float, float]] = {
    "Conv": (1.0, 0.4), "ConvTranspose": (1.0, 1.1), "Gemm": (0.5, 0.2), "MatMul": (0.5, 0.25),
    "QuantizeLinear": (0.05, 0.05), "DequantizeLinear": (0.05, 0.05), "": (0.1, 0.08),
}  # fmt: skip
_CHANNELS, _SIDE, _CLASSES = 24, 8, 16


class FakeEngine:
    """Outputs by ONNX Runtime, milliseconds by arithmetic."""

    def __init__(self, engine: Engine, latency_ms: float, jitter: float, seed: int) -> None:
        self._engine, self._latency_ms, self._jitter = engine, latency_ms, jitter
        self._random = np.random.default_rng(seed)

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Output name -> array, for one batch."""
        return self._engine.run(feed)

    def time_ms(self, feed: Mapping[str, Array], runs: int) -> list[float]:
        """The reckoned milliseconds, `runs` times, each with its share of jitter; nothing runs."""
        factors = 1 + self._jitter * self._random.random(runs)
        return [float(self._latency_ms * factor) for factor in factors]

    def __enter__(self) -> FakeEngine:
        """The engine itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the session."""
        self._engine.__exit__(kind, error, trace)


class FakeBackend:
    """Computes with ONNX Runtime, but its clock only adds up costs of nodes: no noise, no waiting.

    Args:
        costs: node name or op type -> (milliseconds in float, milliseconds on 8-bit codes); names come before
            types, "" stands for all other types, and what is not given has a default. A QuantizeLinear or
            DequantizeLinear of an activation costs as its op type, one of a weight costs nothing.
        jitter: each timed run takes up to this share longer, by a generator seeded with model and `seed`.
        seed: of the jitter.
    """

    name = "fake"
    scheme = "ort-cpu"
    threads = 1

    def __init__(self, costs: Costs | None = None, *, jitter: float = 0.0, seed: int = 0) -> None:
        self._costs = {**_COSTS, **(costs or {})}
        self._jitter, self._seed = jitter, seed
        self._runtime = OrtBackend(threads=1)

    def describe(self) -> dict[str, str]:
        """The settings that decide what the clock shows."""
        costs = fingerprint(f"{key}={value}" for key, value in sorted(self._costs.items()))
        return {"backend": self.name, "costs": costs, "jitter": str(self._jitter), "seed": str(self._seed)}

    def support(self) -> dict[Precision, str | None]:
        """FP32 and INT8 have costs, the other precisions have none."""
        refusal = "the fake backend has no costs for it, so it cannot be timed"
        return {p: None if p in (Precision.FP32, Precision.INT8) else refusal for p in Precision}

    def build(self, model: bytes, *, exact: bool = False, threads: int | None = None) -> FakeEngine:
        """Build a session and reckon the latency of the model.

        Raises:
            BackendError: ONNX Runtime refused the model.
        """
        engine = self._runtime.build(model, exact=exact, threads=threads)
        seed = int(fingerprint([model, str(self._seed)]), 16)
        return FakeEngine(engine, sum(ms for _, ms, _ in self._reckon(model)), self._jitter, seed)

    def inspect(self, model: bytes, nodes: Sequence[str]) -> dict[str, RanAs]:
        """Each named node as it is written; it counts as quantised where it computes on codes."""
        wanted = set(nodes)
        rows = self._reckon(model)
        return {str(n.name): RanAs(n.op_type, quantized) for n, _, quantized in rows if n.name in wanted}

    def profile_ms(self, model: bytes, feed: Mapping[str, Array], nodes: Sequence[str]) -> dict[str, float]:
        """The cost of each named node; all others under ""."""
        wanted = set(nodes)
        times: dict[str, float] = {"": 0.0}
        for node, milliseconds, _ in self._reckon(model):
            name = str(node.name) if node.name in wanted else ""
            times[name] = times.get(name, 0.0) + milliseconds
        return times

    def _reckon(self, model: bytes) -> list[tuple[ir.Node, float, bool]]:
        """(node, milliseconds, whether it computes on codes) for every node that costs anything."""
        try:
            graph = ir.from_proto(onnx.load_from_string(model)).graph
        except Exception as error:  # protobuf and onnx_ir have no error in common
            raise BackendError(f"the fake backend cannot read the model: {error}") from error
        rows = []
        for node in graph:
            pair = node.op_type in ("QuantizeLinear", "DequantizeLinear")
            if pair and (node.inputs[0] is None or node.inputs[0].is_initializer()):
                continue
            quantized = _computes_on_codes(node)
            cost = self._costs.get(str(node.name)) or self._costs.get(node.op_type) or self._costs[""]
            rows.append((node, cost[int(quantized)], quantized))
        return rows


def _computes_on_codes(node: ir.Node) -> bool:
    """Whether its operands are dequantised, weights too; with a single operand, the result must go back to codes."""
    operands = [value.producer() for value in node.inputs[:2] if value is not None]
    if not operands or any(maker is None or maker.op_type != "DequantizeLinear" for maker in operands):
        return False
    return len(operands) == 2 or any(reader.op_type == "QuantizeLinear" for reader in node.outputs[0].consumers())


def tiny_model(folder: str | Path, *, seed: int = 0, name: str = "tiny.onnx") -> Path:
    """Write a residual network of three convolutions and a classifier; returns its path.

    Input "x" is float32[N, 24, 8, 8], output "scores" is float32[N, 16]; the weights are random and the file
    has about 60 kB.

    Args:
        folder: made where it does not exist.
        seed: of the weights.
        name: of the file.
    """
    weights = _weights(seed)
    constants = {key: ir.Value(name=key, const_value=ir.tensor(array, name=key)) for key, array in weights.items()}
    nodes: list[ir.Node] = []

    def add(op: str, label: str, inputs: list[ir.Value], **attributes: int | list[int]) -> ir.Value:
        nodes.append(ir.node(op, inputs, attributes, name=label))
        nodes[-1].outputs[0].name = f"{label}_out"
        return nodes[-1].outputs[0]

    def conv(label: str, value: ir.Value) -> ir.Value:
        return add("Conv", label, [value, constants[f"{label}.weight"]], pads=[1] * 4)

    floats = ir.TensorType(ir.DataType.FLOAT)
    x = ir.Value(name="x", type=floats, shape=ir.Shape(["N", _CHANNELS, _SIDE, _SIDE]))
    first = add("Relu", "relu1", [conv("conv1", x)])
    second = add("Relu", "relu2", [conv("conv2", first)])
    added = add("Add", "add", [conv("conv3", second), first])
    pooled = add("Flatten", "flatten", [add("GlobalAveragePool", "pool", [added])], axis=1)
    scores = add("Gemm", "head", [pooled, constants["head.weight"], constants["head.bias"]], transB=1)
    scores.name, scores.type, scores.shape = "scores", floats, ir.Shape(["N", _CLASSES])
    graph = ir.Graph(
        [x], [scores], nodes=nodes, initializers=list(constants.values()), opset_imports={"": 17}, name="tiny"
    )  # fmt: skip
    path = Path(folder) / name
    write_bytes(path, to_bytes(ir.Model(graph, ir_version=9)))
    return path


def _weights(seed: int) -> dict[str, Array]:
    """Of He's scale; the bias takes away what all samples have in common, so that every class occurs."""
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> Array:
        return random.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)

    weights = {f"conv{number}.weight": draw(_CHANNELS, _CHANNELS, 3, 3) for number in (1, 2, 3)}
    weights |= {"head.weight": draw(_CLASSES, _CHANNELS), "head.bias": np.zeros(_CLASSES, np.float32)}
    weights["head.bias"] = -_scores(weights, _images(random, 64)).mean(axis=0)
    return weights


def _images(random: np.random.Generator, samples: int) -> Array:
    """Noise whose pattern and strength differ from sample to sample."""
    strength = random.uniform(0.2, 2.0, (samples, _CHANNELS, 1, 1))
    return (strength * random.normal(size=(samples, _CHANNELS, _SIDE, _SIDE))).astype(np.float32)


def tiny_data(model: str | Path, samples: int = 64, *, seed: int = 0) -> dict[str, Array]:
    """Random inputs "x" for `tiny_model`, with its own answers as "labels", so that its top-1 is 100 %.

    Args:
        model: the file that `tiny_model` wrote.
        samples: how many.
        seed: of the inputs.

    Returns:
        x float32[samples, 24, 8, 8], labels int64[samples].
    """
    x = _images(np.random.default_rng(seed), samples)
    with OrtBackend(threads=1).build(Path(model).read_bytes()) as engine:
        scores = engine.run({"x": x})["scores"]
    return {"x": x, "labels": scores.argmax(axis=1)}


class BackendContract:
    """What every backend must hold to; tests of one inherit this and give it in `backend`.

    class TestMyBackend(BackendContract):
        def backend(self) -> Backend:
            return MyBackend()
    """

    def backend(self) -> Backend:
        """The backend to test.

        Raises:
            NotImplementedError: the subclass gives none.
        """
        raise NotImplementedError("return the backend to test from backend()")

    def test_it_has_a_name_and_a_known_scheme(self) -> None:
        """The scheme decides how plans are lowered."""
        from autoprec.schemes import SCHEMES

        backend = self.backend()
        assert backend.name
        assert backend.scheme in SCHEMES

    def test_describe_is_flat_words_and_stable(self) -> None:
        """What is described becomes part of fingerprints."""
        described = self.backend().describe()
        assert described
        assert all(isinstance(text, str) and text for pair in described.items() for text in pair)
        assert self.backend().describe() == described

    def test_support_answers_for_every_precision(self) -> None:
        """None, or a reason that people can read."""
        support = self.backend().support()
        assert set(support) == set(Precision)
        assert all(why is None or why.strip() for why in support.values())
        assert support[Precision.FP32] is None

    def test_garbage_is_a_backend_error(self) -> None:
        """Never the runtime's own kind of error."""
        import pytest

        for garbage in (b"", b"no model at all", bytes(range(256))):
            with pytest.raises(BackendError):
                self.backend().build(garbage)

    def test_a_batch_that_does_not_fit_is_a_backend_error(self, tmp_path: Path) -> None:
        """Likewise."""
        import pytest

        with self.backend().build(tiny_model(tmp_path).read_bytes()) as engine, pytest.raises(BackendError):
            engine.run({"x": np.zeros((1, 2, 3, 4), np.float32)})

    def test_run_returns_every_output(self, tmp_path: Path) -> None:
        """Under its name, with one row for each sample, and equal to the network's arithmetic."""
        model = tiny_model(tmp_path)
        x = tiny_data(model, 3)["x"]
        with self.backend().build(model.read_bytes()) as engine:
            outputs = engine.run({"x": x})
        assert set(outputs) == {"scores"}
        np.testing.assert_allclose(outputs["scores"], _scores(_weights(0), x), rtol=1e-3, atol=1e-4)

    def test_exact_runs_pairs_as_written(self, tmp_path: Path) -> None:
        """With `exact` a Q/DQ pair rounds, and what reads it computes in FP32."""
        model, scale = tiny_model(tmp_path), 0.25
        x = tiny_data(model, 3)["x"]
        with self.backend().build(_with_pair(model, scale), exact=True) as engine:
            found = engine.run({"x": x})["scores"]
        rounded = np.clip(np.rint(x / scale), -128, 127).astype(np.float32) * scale
        np.testing.assert_allclose(found, _scores(_weights(0), rounded), rtol=1e-3, atol=1e-4)

    def test_times_are_positive_and_as_many_as_asked(self, tmp_path: Path) -> None:
        """In milliseconds."""
        model = tiny_model(tmp_path)
        with self.backend().build(model.read_bytes()) as engine:
            times = engine.time_ms({"x": tiny_data(model, 2)["x"]}, 4)
        assert len(times) == 4
        assert all(milliseconds > 0 for milliseconds in times)

    def test_inspect_names_only_given_nodes(self, tmp_path: Path) -> None:
        """Kernels that belong to none of them are left out."""
        model = tiny_model(tmp_path).read_bytes()
        found = self.backend().inspect(model, ["conv2", "head", "absent"])
        assert set(found) <= {"conv2", "head"}
        assert all(ran.operator and not ran.quantized for ran in found.values())
        assert self.backend().inspect(model, []) == {}

    def test_profiled_times_are_of_given_nodes_and_not_negative(self, tmp_path: Path) -> None:
        """The rest is summed up under ""."""
        model = tiny_model(tmp_path)
        feed = {"x": tiny_data(model, 4)["x"]}
        times = self.backend().profile_ms(model.read_bytes(), feed, ["conv1", "conv2"])
        assert set(times) <= {"conv1", "conv2", ""}
        assert all(milliseconds >= 0 for milliseconds in times.values())
        assert sum(times.values()) > 0

    def test_an_engine_is_a_context_manager(self, tmp_path: Path) -> None:
        """It gives itself, and lets errors through."""
        import pytest

        engine = self.backend().build(tiny_model(tmp_path).read_bytes())
        with engine as entered:
            assert entered is engine
        with pytest.raises(ZeroDivisionError), self.backend().build(tiny_model(tmp_path).read_bytes()):
            raise ZeroDivisionError


def _scores(weights: Mapping[str, Array], x: Array) -> Array:
    """What `tiny_model` computes, in NumPy."""

    def conv(value: Array, label: str) -> Array:
        padded = np.pad(value, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
        result: Array = np.einsum("nchwij,ocij->nohw", windows, weights[f"{label}.weight"], optimize=True)
        return result

    first = np.maximum(conv(x, "conv1"), 0)
    second = np.maximum(conv(first, "conv2"), 0)
    pooled = (conv(second, "conv3") + first).mean(axis=(2, 3))
    scores: Array = pooled @ weights["head.weight"].T + weights["head.bias"]
    return scores


def _with_pair(path: Path, scale: float) -> bytes:
    """`tiny_model` with a Q/DQ pair on its input."""
    model = ir.load(path)
    graph = model.graph
    x = graph.inputs[0]
    readers = list(x.uses())
    step = ir.Value(name="scale", const_value=ir.tensor(np.array(scale, np.float32), name="scale"))
    zero = ir.Value(name="zero", const_value=ir.tensor(np.array(0, np.int8), name="zero"))
    for value in (step, zero):
        graph.register_initializer(value)
    quantize = ir.node("QuantizeLinear", [x, step, zero], name="x/quantize")
    dequantize = ir.node("DequantizeLinear", [quantize.outputs[0], step, zero], name="x/dequantize")
    graph.insert_before(graph[0], [quantize, dequantize])
    for node, index in readers:
        node.replace_input_with(index, dequantize.outputs[0])
    return to_bytes(model)
