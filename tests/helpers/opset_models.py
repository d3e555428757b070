"""A model of one node, what it computes, and the same model in another opset."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx import helper, numpy_helper

from autoprec.graph.model import check_model
from autoprec.graph.opset.convert import to_opset
from autoprec.graph.preparation import prepare

Array = npt.NDArray[Any]
IMAGE = np.random.default_rng(0).standard_normal((2, 4, 6, 6)).astype(np.float32)


def one_node(
    op: str, opset: int, constants: list[Array | None], outputs: int = 1, image: Array = IMAGE, **attributes: Any
) -> onnx.ModelProto:
    """A model of node "n" that reads x and constants."""
    names = ["x", *("" if c is None else f"c{n}" for n, c in enumerate(constants))]
    weights = [numpy_helper.from_array(c, f"c{n}") for n, c in enumerate(constants) if c is not None]
    made = [f"y{n}" for n in range(outputs)]
    kinds = [onnx.TensorProto.INT64 if op == "TopK" and n else onnx.TensorProto.FLOAT for n in range(outputs)]
    graph = helper.make_graph(
        [helper.make_node(op, names, made, "n", **attributes)],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, image.shape)],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in zip(made, kinds, strict=True)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10 if opset > 9 else 4)


def computed(model: onnx.ModelProto, image: Array = IMAGE) -> list[Array]:
    """The outputs by ONNX Runtime, whose optimiser is left out."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    found: list[Array] = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    ).run(None, {"x": image})
    return found


def rewritten(model: onnx.ModelProto, opset: int) -> ir.Model:
    """The model in another opset, which the checker accepts."""
    found = prepare(to_opset(prepare(ir.from_proto(model)), opset))
    check_model(found)
    return found


def assert_same(model: onnx.ModelProto, opset: int, image: Array = IMAGE) -> ir.Model:
    """Check that the model computes the same in `opset`, and that the node that makes its result is still called n."""
    found = rewritten(model, opset)
    expected, got = computed(model, image), computed(ir.to_proto(found), image)
    for one, other in zip(expected, got, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert found.graph.outputs[0].producer().name == "n"
    return found
