"""An upper bound that codes cannot exceed anyway is left to QuantizeLinear, code for code."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.saturated_clips import SaturatedClipsPass

NAME = "clip"


def model(
    *,
    low: float = 0.0,
    high: float = 6.0,
    scale: float = 6 / 127,
    between: str = "",
    beside: bool = False,
    zero: int = 0,
    code: type = np.int8,
) -> onnx.ModelProto:
    """Input -> Clip -> [between] -> QuantizeLinear -> DequantizeLinear; with `beside` its result is an output too."""
    nodes = [helper.make_node("Clip", ["x", "low", "high"], ["c"], name=NAME)]
    source = "c"
    if between:
        options = {"kernel_shape": [1, 2]} if between in ("MaxPool", "AveragePool") else {}
        nodes.append(helper.make_node(between, ["c"], ["b"], name="between", **options))
        source = "b"
    nodes.append(helper.make_node("QuantizeLinear", [source, "scale", "zero"], ["q"], name="q"))
    nodes.append(helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"], name="dq"))
    constants = [
        numpy_helper.from_array(np.array(value, kind), name)
        for name, value, kind in (
            ("low", low, np.float32),
            ("high", high, np.float32),
            ("scale", scale, np.float32),
            ("zero", zero, code),
        )
    ]
    dims = [None] * (2 if between == "Flatten" else 4)
    shapes = {"y": dims, "c": [None] * 4} if beside else {"y": dims}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 4, 64])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def passed(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, bool]:
    work = ir.serde.deserialize_model(proto)
    modified = SaturatedClipsPass(GraphEditor(work))(work).modified
    done = ir.serde.serialize_model(work)
    onnx.checker.check_model(done, full_check=True)
    return done, modified


def outputs(proto: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(array) for array in session.run(None, {"x": x})]


@given(
    st.floats(0.01, 100),
    st.floats(0.05, 1.0),
    st.sampled_from(["", "MaxPool", "Transpose", "Flatten", "Identity"]),
    st.integers(0, 99),
)
def test_codes_stay_the_same(high: float, share: float, between: str, seed: int) -> None:
    x = np.random.default_rng(seed).normal(0, high, (1, 1, 4, 64)).astype(np.float32)
    x.flat[:4] = [high, np.nextafter(np.float32(high), np.float32(np.inf)), 0, -high]
    before = model(high=high, scale=share * high / 127, between=between)

    after, modified = passed(before)

    assert modified
    assert [node.op_type for node in after.graph.node].count("Clip") == 0
    np.testing.assert_array_equal(outputs(after, x)[0], outputs(before, x)[0])


def test_the_relu_takes_the_name_and_the_result_of_the_clip() -> None:
    after, _ = passed(model())

    relu = after.graph.node[0]
    assert (relu.op_type, relu.name, list(relu.output)) == ("Relu", NAME, ["c"])


def test_other_readers_keep_the_clip() -> None:
    before = model(beside=True)
    x = np.linspace(-3, 12, 256, dtype=np.float32).reshape(1, 1, 4, 64)

    after, modified = passed(before)

    assert modified
    assert sorted(node.op_type for node in after.graph.node) == ["Clip", "DequantizeLinear", "QuantizeLinear", "Relu"]
    for one, other in zip(outputs(after, x), outputs(before, x), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "proto",
    [
        pytest.param(model(scale=7 / 127), id="codes reach above the bound"),
        pytest.param(model(low=-1.0), id="a lower bound of its own"),
        pytest.param(model(low=0.5), id="a lower bound above zero"),
        pytest.param(model(code=np.uint8), id="unsigned codes"),
        pytest.param(model(zero=3), id="shifted codes"),
        pytest.param(model(between="AveragePool"), id="means differ"),
        pytest.param(model(between="Neg"), id="the bound becomes the lower one"),
    ],
)
def test_other_clips_stay(proto: onnx.ModelProto) -> None:
    after, modified = passed(proto)

    assert not modified
    assert [node.op_type for node in after.graph.node] == [node.op_type for node in proto.graph.node]
