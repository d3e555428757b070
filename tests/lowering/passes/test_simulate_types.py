"""Half precision by rounding in an FP32 graph."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from autoprec.graph.model import check_model
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.simulate_types import SimulateTypesPass
from autoprec.precision import Precision

from ...helpers.lowering_bench import array_of, loaded, node_named, run
from ...helpers.networks import BUILDERS, random_feed
from ...helpers.onnx_builder import Builder

FP16, BF16 = Precision.FP16, Precision.BF16


@pytest.mark.parametrize(("precision", "dtype"), [(FP16, np.float16), (BF16, ml_dtypes.bfloat16)])
def test_operands_and_result_are_rounded_and_the_sum_is_not(precision: Precision, dtype: type) -> None:
    proto = BUILDERS["mlp"]()
    model = loaded(proto).ir
    feed = random_feed(proto, 8)
    x, w, b = (
        v.astype(dtype).astype(np.float64)
        for v in (feed["x"], array_of(model.graph.initializers["fc1.w"]), array_of(model.graph.initializers["fc1.b"]))
    )
    SimulateTypesPass(GraphEditor(model), {"fc1": precision})(model)
    check_model(model)
    model.graph.outputs.append(next(v for n in model.graph for v in n.outputs if v.name == "fc1_out"))
    found = run(model, feed)["fc1_out"]
    expected = (x @ w.T + b).astype(dtype).astype(np.float32)

    assert np.mean(found == expected) > 0.99  # FP32 sums may fall on the other side of a rounding step
    step = np.finfo(np.float16).eps if precision is FP16 else 2.0**-7
    np.testing.assert_allclose(found, expected, rtol=1.01 * step)


def test_the_rounded_value_carries_the_name_of_the_graph_output() -> None:
    proto = BUILDERS["conv_relu"]()
    model = loaded(proto).ir
    SimulateTypesPass(GraphEditor(model), {"conv": FP16, "relu": FP16})(model)
    out = run(model, random_feed(proto, 2))["relu_out"]

    np.testing.assert_array_equal(out, out.astype(np.float16).astype(np.float32))
    assert all(v.dtype == ir.DataType.FLOAT for v in node_named(model, "conv").inputs)


def test_bf16_convolutions_are_rounded_though_the_opset_of_the_model_has_none() -> None:
    """The real model would be raised to opset 22."""
    proto = BUILDERS["conv_relu"]()
    model = loaded(proto).ir
    SimulateTypesPass(GraphEditor(model), {"conv": BF16})(model)
    out = run(model, random_feed(proto, 2))["relu_out"]

    assert model.opset_imports[""] == 17
    np.testing.assert_array_equal(out, out.astype(ml_dtypes.bfloat16).astype(np.float32))


def test_inputs_that_have_no_half_form_are_not_rounded() -> None:
    b = Builder()
    x = b.input("x", ["N", 4, 10, 10])
    scales = b.const("scales", [1, 1, 0.30004, 0.30004])  # in FP16 it is below 0.3, and the size another
    b.node("Resize", "down", [x, "", scales], mode="nearest")
    b.output("down_out", ["N", 4, 3, 3])
    model = loaded(b.model()).ir
    SimulateTypesPass(GraphEditor(model), {"down": FP16})(model)

    assert node_named(model, "down").inputs[2].name == "scales"


def test_it_requires_fp32_values() -> None:
    model = loaded(BUILDERS["mlp"]()).ir
    node_named(model, "fc1").outputs[0].type = ir.TensorType(ir.DataType.FLOAT16)
    with pytest.raises(ir.passes.PreconditionError, match="'fc1' gives fp16"):
        SimulateTypesPass(GraphEditor(model), {"fc1": FP16})(model)


def test_fp32_nodes_are_untouched() -> None:
    model = loaded(BUILDERS["mlp"]()).ir
    before = len(list(model.graph))

    assert not SimulateTypesPass(GraphEditor(model), {"fc1": Precision.FP32})(model).modified
    assert len(list(model.graph)) == before
