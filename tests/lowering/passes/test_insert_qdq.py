"""Q/DQ pairs on the edges that were asked for, and on no others."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from autoprec.graph.model import check_model
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.insert_qdq import InsertQDQPass
from autoprec.lowering.placement import ActivationPoint
from autoprec.precision import Precision
from autoprec.ranges.affine import QuantParams, fake_quantize

from ...helpers.lowering_bench import loaded, node_named, ops, run
from ...helpers.networks import BUILDERS, random_feed

INT8 = Precision.INT8
PAIR = QuantParams(0.05, 0, signed=True)


def point(tensor: str, *consumers: tuple[str, int], everywhere: bool = False) -> ActivationPoint:
    return ActivationPoint(tensor=tensor, precision=INT8, consumers=frozenset(consumers), everywhere=everywhere)


def test_only_the_named_edges_read_the_pair() -> None:
    model = loaded(BUILDERS["concat_block"]()).ir
    InsertQDQPass(GraphEditor(model), [point("x", ("left", 0))], {("x", INT8): PAIR})(model)
    check_model(model)

    assert node_named(model, "left").inputs[0].producer().op_type == "DequantizeLinear"
    assert node_named(model, "right").inputs[0].is_graph_input()
    assert len(ops(model, "QuantizeLinear", "DequantizeLinear")) == 2


def test_a_pair_at_the_producer_serves_everyone_and_keeps_the_name() -> None:
    proto = BUILDERS["concat_block"]()
    model = loaded(proto).ir
    feed = random_feed(proto, 2)
    InsertQDQPass(GraphEditor(model), [point("concat_out", everywhere=True)], {("concat_out", INT8): PAIR})(model)
    check_model(model)
    source = node_named(model, "after").inputs[0]

    assert source.name == "concat_out"
    assert source.producer().op_type == "DequantizeLinear"
    assert node_named(model, "concat").outputs[0].name == "concat_out/raw"
    values = {}
    for name in ("concat_out/raw", "concat_out"):
        copy = model.clone()
        copy.graph.outputs.append(next(v for n in copy.graph for v in n.outputs if v.name == name))
        values[name] = run(copy, feed)[name]
    np.testing.assert_array_equal(values["concat_out"], fake_quantize(values["concat_out/raw"], PAIR))


def test_a_graph_output_keeps_its_name_behind_a_pair() -> None:
    model = loaded(BUILDERS["conv_relu"]()).ir
    InsertQDQPass(GraphEditor(model), [point("relu_out", everywhere=True)], {("relu_out", INT8): PAIR})(model)
    check_model(model)

    assert [v.name for v in model.graph.outputs] == ["relu_out"]
    assert model.graph.outputs[0].producer().op_type == "DequantizeLinear"


def test_unsigned_pairs_have_a_zero_point_of_their_own_type() -> None:
    model = loaded(BUILDERS["conv_relu"]()).ir
    InsertQDQPass(GraphEditor(model), [point("x", ("conv", 0))], {("x", INT8): QuantParams(0.05, 128, signed=False)})(
        model
    )
    check_model(model)
    quantize = ops(model, "QuantizeLinear")[0]

    assert quantize.inputs[2].dtype == ir.DataType.UINT8
    assert int(quantize.inputs[2].const_value.numpy()) == 128


@pytest.mark.parametrize("scale", [0.0, -1.0, float("inf"), float("nan")])
def test_it_requires_a_positive_finite_scale(scale: float) -> None:
    model = loaded(BUILDERS["conv_relu"]()).ir
    scales = {("x", INT8): QuantParams(scale, 0, signed=True)}
    with pytest.raises(ir.passes.PreconditionError, match="the scale of 'x' must be positive and finite"):
        InsertQDQPass(GraphEditor(model), [point("x", ("conv", 0))], scales)(model)


def test_it_requires_a_scale_of_the_same_precision() -> None:
    model = loaded(BUILDERS["conv_relu"]()).ir
    with pytest.raises(ir.passes.PreconditionError, match="the scale of 'x'"):
        InsertQDQPass(GraphEditor(model), [point("x", ("conv", 0))], {("x", Precision.FP8): PAIR})(model)


def test_it_requires_that_the_value_exists() -> None:
    model = loaded(BUILDERS["conv_relu"]()).ir
    with pytest.raises(ir.passes.PreconditionError, match="there is no value 'y'"):
        InsertQDQPass(GraphEditor(model), [point("y", ("conv", 0))], {("y", INT8): PAIR})(model)


def test_it_ensures_that_consumers_read_a_pair() -> None:
    model = loaded(BUILDERS["conv_relu"]()).ir
    lazy = InsertQDQPass(GraphEditor(model), [point("x", ("conv", 0))], {("x", INT8): PAIR})
    with pytest.raises(ir.passes.PostconditionError, match="input 0 of 'conv' must read a DequantizeLinear"):
        lazy.ensures(model)
