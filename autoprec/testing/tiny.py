"""A tiny model and random data for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from autoprec.backends.ort import OrtBackend
from autoprec.files.json import write_bytes
from autoprec.graph.model import to_bytes
from autoprec.precision import Array

_CHANNELS, _SIDE, _CLASSES = 24, 8, 16


def tiny_model(folder: str | Path, *, seed: int = 0, name: str = "tiny.onnx") -> Path:
    """Write a residual network of three convolutions and a classifier, and return its path.

    The input "x" is float32[N, 24, 8, 8], the output "scores" is float32[N, 16]. The weights are random, and the file
    has about 60 kB.

    Args:
        folder: the folder of the file, which is made if it does not exist.
        seed: the seed of the weights.
        name: the name of the file.
    """
    weights = tiny_weights(seed)
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
    )
    path = Path(folder) / name
    write_bytes(path, to_bytes(ir.Model(graph, ir_version=9)))
    return path


def tiny_weights(seed: int) -> dict[str, Array]:
    """Return random weights by name.

    They have the scale of He et al., "Delving Deep into Rectifiers", 2015. The bias subtracts the mean of the scores,
    so that every class occurs.
    """
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> Array:
        return random.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)

    weights = {f"conv{number}.weight": draw(_CHANNELS, _CHANNELS, 3, 3) for number in (1, 2, 3)}
    weights |= {"head.weight": draw(_CLASSES, _CHANNELS), "head.bias": np.zeros(_CLASSES, np.float32)}
    weights["head.bias"] = -tiny_scores(weights, _images(random, 64)).mean(axis=0)
    return weights


def _images(random: np.random.Generator, samples: int) -> Array:
    """Return noise whose pattern and strength differ from sample to sample."""
    strength = random.uniform(0.2, 2.0, (samples, _CHANNELS, 1, 1))
    return (strength * random.normal(size=(samples, _CHANNELS, _SIDE, _SIDE))).astype(np.float32)


def tiny_data(model: str | Path, samples: int = 64, *, seed: int = 0) -> dict[str, Array]:
    """Return random inputs "x" for `tiny_model`, with its own answers as "labels", so that its top-1 is 100 %.

    Args:
        model: the path of the file that `tiny_model` wrote.
        samples: the number of samples.
        seed: the seed of the inputs.

    Returns:
        "x" as float32[samples, 24, 8, 8] and "labels" as int64[samples].
    """
    x = _images(np.random.default_rng(seed), samples)
    with OrtBackend(threads=1).build(Path(model).read_bytes()) as engine:
        scores = engine.run({"x": x})["scores"]
    return {"x": x, "labels": scores.argmax(axis=1)}


def tiny_scores(weights: Mapping[str, Array], x: Array) -> Array:
    """Compute the scores of `tiny_model` in NumPy, float32[N, 16]."""

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
