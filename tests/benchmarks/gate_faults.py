"""The case of the gate's benchmark, and the faults that are injected into its model; `gate.py` says what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from autoprec.backends.make import make_backend
from autoprec.backends.ort import OrtBackend
from autoprec.data.feeds import batch_feed
from autoprec.data.sources import load_data
from autoprec.gate.baseline import load_baseline
from autoprec.gate.rebuild import rebuild_plan
from autoprec.stats.intervals import median
from autoprec.timing.race import race

Array = npt.NDArray[np.float32]
POINT = 0.01
STEPS = [(down, right) for down in range(-2, 3) for right in range(-2, 3) if down or right]
DIRECTIONS = sorted(STEPS, key=lambda by: (by[0] ** 2 + by[1] ** 2, abs(by[0]), -by[1]))


class Case:
    """What is tuned and gated, and by which runtime."""

    def __init__(self, folder: Path, backend: str, batch: int, threads: int | None, timeout_s: float | None) -> None:
        self.model = next(path for path in (folder / "digits.onnx", folder / "model.onnx") if path.is_file())
        self.calibration, self.evaluation = folder / "calib.npz", folder / "eval.npz"
        self.batch, self.threads, self.timeout_s = batch, threads, timeout_s
        self.name, self.made = backend, make_backend(backend, threads)
        with np.load(self.evaluation) as data:
            self.input = next(name for name in data.files if name != "labels")
            self.shapes = {self.input: (batch, *data[self.input].shape[1:])}

    def read(self) -> tuple[Array, Array]:
        """The pictures and their labels."""
        with np.load(self.evaluation) as data:
            return data[self.input], data["labels"]


def perturbed(case: Case, target: Path, number: int) -> Path:
    """The model with hardly any noise in its classifier, another one for each number."""
    perturb(case.model, target, np.random.default_rng(number), scale=1e-4)
    return target


def shifted(case: Case, work: Path, shifts: int) -> Path:
    """The evaluation images, each also shifted by one or two pixels, in so many of 24 directions."""
    path = work / "wide.npz"
    work.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        images, labels = case.read()
        every = [images, *(np.roll(images, by, axis=(2, 3)) for by in DIRECTIONS[:shifts])]
        np.savez(path, **{case.input: np.concatenate(every), "labels": np.tile(labels, len(every))})
    return path


def slowed(case: Case, work: Path, baseline: Path) -> tuple[Path, float]:
    """The model with more work, and its plan's latency against the baseline's in a long race."""
    path, committed = work / "slower.onnx", load_baseline(baseline)
    base = (baseline.parent / "run" / "model.onnx").read_bytes()
    backend = case.made.for_run(case.shapes, work / "slowed")
    amount, ratio = (64, 1.0) if case.name.startswith("tensorrt") else (11, 1.0)
    for _ in range(6):
        (add_channels if case.name.startswith("tensorrt") else add_sines)(case.model, path, amount)
        found = rebuild_plan(path, committed)
        feed = batch_feed(found.model.interface, load_data(case.evaluation, found.model.interface), case.batch)
        fastest = race(backend, {"base": base, "now": found.lowered}, feed, 12)
        ratio = median(np.divide(fastest["now"], fastest["base"]))
        print(f"slower: {amount} of it take {ratio:.3f}", flush=True)
        if abs(ratio - 1.1) < 0.006:
            break
        amount = max(1, round(amount * min(0.1 / max(ratio - 1, 0.01), 4.0)))
    return path, ratio


def add_sines(source_path: Path, path: Path, times: int) -> None:
    """Write the model with `times` Sin over its input, which end in 0 added to the logits."""
    model = onnx.load(source_path)
    graph = model.graph
    source = graph.input[0].name
    for number in range(times):
        graph.node.append(helper.make_node("Sin", [source], [f"extra_{number}"], name=f"extra_sin_{number}"))
        source = f"extra_{number}"
    add_nothing(graph, source)
    onnx.save(model, path)


def add_channels(source_path: Path, path: Path, channels: int) -> None:
    """Write the model with a convolution of so many channels on its input, whose mean ends in 0 added to the logits.

    A GPU computes a chain of Sin in one kernel, and takes hardly any longer for it.
    """
    model = onnx.load(source_path)
    graph = model.graph
    read = graph.input[0].type.tensor_type.shape.dim[1].dim_value
    weight = np.random.default_rng(0).normal(size=(channels, read, 1, 1)).astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(weight, "extra_weight"))
    graph.node.append(helper.make_node("Conv", [graph.input[0].name, "extra_weight"], ["extra"], name="extra_conv"))
    add_nothing(graph, "extra")
    onnx.save(model, path)


def add_nothing(graph: onnx.GraphProto, source: str) -> None:
    """Add the mean of a value, times 0, to the logits."""
    result = graph.output[0].name
    last = next(node for node in graph.node if result in node.output)
    last.output[list(last.output).index(result)] = "extra_logits"
    for name, array in (("extra_zero", np.zeros(1, np.float32)), ("extra_axes", np.array([1], np.int64))):
        graph.initializer.append(numpy_helper.from_array(array, name))
    for op, inputs, output, attributes in (
        ("ReduceMean", [source], "extra_mean", {"axes": [1, 2, 3], "keepdims": 0}),
        ("Mul", ["extra_mean", "extra_zero"], "extra_nothing", {}),
        ("Unsqueeze", ["extra_nothing", "extra_axes"], "extra_column", {}),
        ("Add", ["extra_logits", "extra_column"], result, {}),
    ):
        graph.node.append(helper.make_node(op, inputs, [output], name=f"extra_{op}", **attributes))


def perturb(source: Path, target: Path, random: np.random.Generator, scale: float) -> None:
    """Write the model with relative noise in the weights of its classifier."""
    model = onnx.load(source)
    weight = classifier(model)
    array = numpy_helper.to_array(weight)
    noise = random.normal(size=array.shape).astype(np.float32) * array.std()
    weight.CopyFrom(numpy_helper.from_array((array + scale * noise).astype(np.float32), weight.name))
    onnx.save(model, target)


def classifier(model: onnx.ModelProto) -> onnx.TensorProto:
    """The weight of the last matrix product."""
    node = [node for node in model.graph.node if node.op_type in ("Gemm", "MatMul")][-1]
    return next(tensor for tensor in model.graph.initializer if tensor.name == node.input[1])


class Flipper:
    """Finds noise that costs FP32 one point on the images of `data`."""

    def __init__(self, case: Case, data: Path) -> None:
        self._source = case.model
        with np.load(data) as arrays:
            images, self._labels = arrays[case.input], arrays["labels"]
        model = onnx.load(self._source)
        node = next(node for node in reversed(model.graph.node) if node.op_type == "Gemm")
        self._transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        self._bias = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == node.input[2])
        model.graph.output.append(helper.make_tensor_value_info(node.input[0], onnx.TensorProto.FLOAT, None))
        with OrtBackend().build(model.SerializeToString()) as engine:
            batches = [images[start : start + 256] for start in range(0, len(images), 256)]
            self._features = np.concatenate([engine.run({case.input: batch})[node.input[0]] for batch in batches])
        self._right = self._accuracy(model)

    def model(self, path: Path, number: int) -> Path:
        """A model that is one point worse, another one for each number."""
        low, high = 0.0, 4.0
        for _ in range(16):
            middle = (low + high) / 2
            perturb(self._source, path, np.random.default_rng(number), middle)
            drop = self._right - self._accuracy(onnx.load(path))
            if abs(drop - POINT) < 0.0002:
                break
            low, high = (middle, high) if drop < POINT else (low, middle)
        return path

    def _accuracy(self, model: onnx.ModelProto) -> float:
        weight = numpy_helper.to_array(classifier(model))
        logits = self._features @ (weight.T if self._transposed else weight) + self._bias
        return float((logits.argmax(axis=1) == self._labels).mean())
