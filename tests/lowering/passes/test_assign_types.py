"""Float types written into the graph."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from autoprec.graph.model import check_model
from autoprec.graph.opset.convert import raised
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.assign_types import AssignTypesPass
from autoprec.precision import Precision

from ...helpers.lowering_bench import array_of, loaded, node_named, ops, run, sqnr_db
from ...helpers.networks import BUILDERS, random_feed
from ...helpers.onnx_builder import Builder

FP32, FP16, BF16 = Precision.FP32, Precision.FP16, Precision.BF16
HALF, FLOAT = ir.DataType.FLOAT16, ir.DataType.FLOAT


def typed(proto: onnx.ModelProto, carrier: Precision = FP16, **types: Precision) -> ir.Model:
    model = loaded(proto).ir
    AssignTypesPass(GraphEditor(model), {name.replace("__", "."): p for name, p in types.items()}, carrier)(model)
    check_model(model)
    return model


def test_casts_stand_only_where_types_meet() -> None:
    model = typed(BUILDERS["mlp"](), fc1=FP16, relu=FP16)
    casts = ops(model, "Cast")

    assert {(n.inputs[0].name, n.outputs[0].dtype) for n in casts} == {("x", HALF), ("relu_out", FLOAT)}
    assert node_named(model, "fc1").outputs[0].dtype == HALF
    assert node_named(model, "fc2").outputs[0].dtype == FLOAT


def test_a_value_is_cast_once_for_all_its_readers() -> None:
    model = typed(BUILDERS["concat_block"](), left=FP16, right=FP16)

    assert [n.inputs[0].name for n in ops(model, "Cast") if n.outputs[0].dtype == HALF] == ["x"]


def test_inputs_and_outputs_of_the_graph_keep_their_types_and_names() -> None:
    model = typed(BUILDERS["mlp"](), fc1=FP16, relu=FP16, fc2=FP16)

    assert [(v.name, v.dtype) for v in (*model.graph.inputs, *model.graph.outputs)] == [
        ("x", FLOAT),
        ("fc2_out", FLOAT),
    ]


def test_constants_are_converted_not_cast_and_clamped() -> None:
    b = Builder()
    x = b.input("x", ["N", 32])
    b.node("Add", "mask", [x, b.const("big", [-1e9] * 31 + [1e9])])
    b.output("mask_out", ["N", 32])
    model = typed(b.model(), mask=FP16)
    constant = node_named(model, "mask").inputs[1]

    assert constant.is_initializer()
    assert set(array_of(constant).tolist()) == {-65504.0, 65504.0}


def test_minus_infinity_in_a_mask_survives() -> None:
    b = Builder()
    b.node("Add", "mask", [b.input("x", ["N", 2]), b.const("m", [-np.inf, 0])])
    b.output("mask_out", ["N", 2])
    model = typed(b.model(), mask=FP16)

    assert array_of(node_named(model, "mask").inputs[1]).tolist() == [-np.inf, 0.0]


def test_ops_that_move_data_follow_their_input() -> None:
    model = typed(BUILDERS["embedding_mlp"](), embed=FP16, fc1=FP32)

    assert node_named(model, "flatten").outputs[0].dtype == HALF
    assert node_named(model, "fc1").inputs[0].producer().op_type == "Cast"


def test_a_concat_of_two_types_is_made_in_fp32() -> None:
    model = typed(BUILDERS["concat_block"](), left=FP16, left__relu=FP16, after=FP16)

    assert node_named(model, "concat").outputs[0].dtype == FLOAT
    assert node_named(model, "after").inputs[0].dtype == HALF


def test_what_a_body_reads_stays_fp32() -> None:
    proto = BUILDERS["if_body"]()
    model = typed(proto, conv=FP16, relu=FP16, after=FP16)
    feed = random_feed(proto, 4)

    assert node_named(model, "relu").outputs[0].dtype == HALF
    for name in ("then_branch", "else_branch"):
        body = node_named(model, "if").attributes[name].as_graph()
        assert next(iter(body)).inputs[0].dtype == FLOAT
    assert sqnr_db(run(loaded(proto).ir, feed), run(model, feed)) > 55


def test_a_body_that_hands_an_outer_value_through_hands_fp32() -> None:
    b = Builder()
    value = b.node("Relu", "relu", [b.conv("conv", b.image(), 32, 32)])
    branches = {}
    for name in ("then_branch", "else_branch"):
        inner = [onnx.helper.make_node("Identity" if name == "else_branch" else "Neg", [value], [f"{name}_out"])]
        out = onnx.helper.make_tensor_value_info(f"{name}_out", onnx.TensorProto.FLOAT, ["N", 32, 8, 8])
        branches[name] = onnx.helper.make_graph(inner, name, [], [out])
    flag = b.input("flag", [], onnx.TensorProto.BOOL)
    b.conv("after", b.node("If", "if", [flag], **branches), 32, 32)
    b.output("after_out", ["N", 32, 8, 8])
    proto = b.model()
    model = typed(proto, conv=FP16, relu=FP16)
    feed = random_feed(proto, 2)

    assert sqnr_db(run(loaded(proto).ir, feed), run(model, feed)) > 55


def test_inputs_that_have_no_half_form_stay_fp32() -> None:
    """Resize takes its scales in FP32 whatever it resizes."""
    b = Builder()
    x = b.input("x", ["N", 4, 6, 6])
    b.node("Resize", "up", [x, "", b.const("scales", [1, 1, 1.7, 1.7])], mode="nearest")
    b.output("up_out", ["N", 4, 10, 10])
    model = typed(b.model(), up=FP16)
    node = node_named(model, "up")

    assert (node.inputs[0].dtype, node.inputs[2].dtype) == (HALF, FLOAT)
    assert array_of(node.inputs[2]).tolist() == array_of(loaded(b.model()).graph.initializers["scales"]).tolist()


def test_outputs_typed_by_an_attribute_stay_as_they_are() -> None:
    b = Builder()
    shape = b.node("Shape", "shape", [b.input("x", ["N", 4])])
    fill = onnx.helper.make_tensor("value", onnx.TensorProto.FLOAT, [1], [0.5])
    made = b.node("ConstantOfShape", "fill", [shape], value=fill)
    b.node("Add", "add", ["x", made])
    b.output("add_out", ["N", 4])
    model = typed(b.model(), fill=FP16, add=FP16)

    assert node_named(model, "fill").outputs[0].dtype == FLOAT
    assert node_named(model, "add").inputs[1].dtype == HALF


def test_it_requires_that_no_listed_node_is_in_half_precision_yet() -> None:
    model = loaded(BUILDERS["mlp"]()).ir
    once = AssignTypesPass(GraphEditor(model), {"fc1": FP16}, FP16)
    once(model)
    with pytest.raises(ir.passes.PreconditionError, match="'fc1' gives fp16; it must give FP32"):
        once(model)


def test_it_ensures_one_type_for_the_inputs_of_a_node() -> None:
    model = loaded(BUILDERS["mlp"]()).ir
    node_named(model, "fc1").inputs[0].type = ir.TensorType(HALF)
    with pytest.raises(ir.passes.PostconditionError, match="'fc1' reads fp16 and fp32"):
        AssignTypesPass(GraphEditor(model), {}, FP16).ensures(model)


def test_an_operator_without_a_form_in_the_type_reads_casts() -> None:
    b = Builder()
    hidden = b.node("Relu", "relu", [b.input("x", ["N", 8])])
    top = b.node("TopK", "top", [hidden, b.const("k", [2], "int64")], 2)
    b.node("Relu", "after", [top])
    b.output("after_out", ["N", 2])
    model = raised(loaded(b.model()).ir, 22)
    AssignTypesPass(GraphEditor(model), {"relu": BF16, "after": BF16}, BF16)(model)
    check_model(model)

    assert node_named(model, "top").inputs[0].dtype == FLOAT
    assert [n.op_type for n in model.graph].count("Cast") == 4  # of the input, around TopK, and of the result


def test_a_shape_is_read_of_a_value_in_whatever_type_it_is() -> None:
    b = Builder()
    b.node("Shape", "shape", [b.node("Relu", "relu", [b.input("x", ["N", 8])])])
    b.output("shape_out", [2], onnx.TensorProto.INT64)
    model = typed(b.model(), relu=FP16)

    assert node_named(model, "shape").inputs[0].dtype == HALF


def test_a_sequence_is_made_of_values_in_the_type_that_they_had() -> None:
    b = Builder()
    parts = b.node("SplitToSequence", "split", [b.node("Relu", "relu", [b.input("x", ["N", 8])])], axis=1)
    b.node("Relu", "after", [b.node("SequenceAt", "part", [parts, b.const("first", 0, "int64")])])
    b.output("after_out", ["N", 1])
    model = typed(b.model(), relu=FP16, after=FP16)

    assert node_named(model, "split").inputs[0].dtype == FLOAT
    assert node_named(model, "after").inputs[0].dtype == HALF


def test_a_value_of_unknown_type_is_cast_for_an_operator_in_half_precision() -> None:
    b = Builder()
    strange = b.node("Thing", "thing", [b.input("x", ["N", 8])], domain="somebody")
    b.node("MatMul", "product", [strange, b.weight("w", 8, 8)])
    b.output("product_out", ["N", 8])
    model = loaded(b.model(check=False)).ir
    node_named(model, "product").inputs[0].type = None
    AssignTypesPass(GraphEditor(model), {"product": FP16}, FP16)(model)

    assert [n.op_type for n in model.graph] == ["Thing", "Cast", "MatMul", "Cast"]


def test_a_transposed_weight_that_others_read_too_is_stored_in_one_type() -> None:
    b = Builder()
    table = b.weight("table", 16, 8)
    rows = b.node("Gather", "rows", [table, b.input("ids", ["N"], onnx.TensorProto.INT64)])
    b.node("MatMul", "head", [rows, b.node("Transpose", "turned", [table], perm=[1, 0])])
    b.output("head_out", ["N", 16])
    model = typed(b.model(), rows=FP16, head=FP16)

    assert [v.dtype for v in model.graph.initializers.values()] == [HALF]
    assert [n.op_type for n in model.graph].count("Transpose") == 1


@pytest.mark.parametrize("opset", [13, 19])
def test_a_pair_whose_scale_is_computed_in_halves_reads_what_its_opset_lets_it_read(opset: int) -> None:
    b = Builder()
    x = b.input("x", ["N", 4])
    scale = b.node("ReduceMax", "scale", [x], keepdims=0)
    b.node("QuantizeLinear", "codes", [x, scale, b.const("zero", 0, np.uint8)])
    b.output("codes_out", ["N", 4], onnx.TensorProto.UINT8)
    proto = b.model()
    proto.opset_import[0].version = opset
    model = typed(proto, scale=FP16)

    assert {value.dtype for value in node_named(model, "codes").inputs[:2]} == {FLOAT if opset < 19 else HALF}
