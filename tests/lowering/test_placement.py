"""NVIDIA's placement rules for INT8 and FP8, one test each (Model Optimizer's explicit quantisation)."""

from __future__ import annotations

import onnx
import onnx_ir as ir
import pytest

from autoprec.backends.scheme import ORT_CPU, TENSORRT_RTX
from autoprec.graph.topology import COPY_OPS, Topology
from autoprec.lowering.placement import Placement, calibration_tensors, quantized_macs, range_root
from autoprec.precision import FLOATS, Precision

from ..helpers.lowering_bench import Bench, bench, edges, finish, int8_edges, loaded
from ..helpers.networks import BUILDERS
from ..helpers.onnx_builder import CHANNELS, SIDE, Builder

INT8, FP8, FP16, FP32 = Precision.INT8, Precision.FP8, Precision.FP16, Precision.FP32


def weights_of(placement: Placement) -> set[str]:
    return {point.node for point in placement.weights}


def test_rule_1_pairs_sit_on_inputs_only() -> None:
    one = bench("conv_relu")
    placement = one.place(one.uniform(INT8))

    assert edges(placement) == {"x": {("conv", 0)}}
    assert not any(point.everywhere for point in placement.activations)


def test_rule_1_every_dynamic_input_of_a_linear_op_has_a_pair() -> None:
    for name in BUILDERS:
        one = bench(name)
        topology, placement = one.lowerer.placement(one.uniform(INT8))
        served = {edge for found in edges(placement).values() for edge in found}
        for node in topology.nodes:
            if str(node.name) in weights_of(placement) and node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
                assert (str(node.name), 0) in served, (name, node.name)


def test_rule_2_all_quantised_consumers_share_one_pair() -> None:
    one = bench("concat_block")
    placement = one.place(one.uniform(INT8))

    assert [p.consumers for p in placement.activations if p.tensor == "x"] == [{("left", 0), ("right", 0)}]


def test_rule_2_a_float_consumer_bypasses_the_pair() -> None:
    one = bench("concat_block")
    lowered = one.lower(one.uniform(INT8, right=FP16))
    nodes = {node.name: node for node in lowered.ir.graph}

    assert nodes["left"].inputs[0].producer().op_type == "DequantizeLinear"
    assert nodes["right"].inputs[0].producer().op_type == "Cast"
    assert nodes["right"].inputs[0].producer().inputs[0].is_graph_input()


def test_rule_3_weight_and_activation_are_quantised_together_or_not_at_all() -> None:
    for name in BUILDERS:
        one = bench(name)
        for seed in range(6):
            topology, placement = one.lowerer.placement(one.random_plan(seed))
            points = {(n, p.precision) for p in placement.activations for n, i in p.consumers if i == 0}
            nodes = {str(n.name): n for n in topology.nodes}
            linear = {n for n in nodes if nodes[n].op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul")}
            constant = {n for n in linear if nodes[n].inputs[1] in topology.constants}
            static = [p for p in placement.weights if not (p.precision.weights_only or p.precision.scaled_block)]
            stored = {(p.node, p.precision) for p in static}

            assert {p for p in points if p[0] in constant} == {p for p in stored if p[0] in linear}, (name, seed)


@pytest.mark.parametrize("name", ["resnet_block", "depthwise_block", "silu_block", "gelu_erf", "gelu_tanh"])
def test_rule_4_no_pair_inside_a_fused_chain(name: str) -> None:
    one = bench(name)
    topology, placement = one.lowerer.placement(one.uniform(INT8))
    inner = set()
    for unit in one.partition.units:
        made = {str(v.name) for n in topology.nodes if n.name in unit.nodes for v in n.outputs}
        inner |= made - set(unit.outputs)

    assert len(inner) > 0
    assert inner.isdisjoint(edges(placement))


def test_rule_4_max_pool_right_behind_a_convolution_belongs_to_its_chain() -> None:
    one = bench("pool_block")
    found = edges(one.place(one.uniform(INT8)))

    assert "relu_out" not in found
    assert found["maxpool_out"] == {("conv2", 0)}


def squeeze_excite(constant: bool = False) -> onnx.ModelProto:
    b = Builder()
    value = b.node("Relu", "relu", [b.conv("conv", b.image(), CHANNELS, CHANNELS)])
    mean = b.node("GlobalAveragePool", "gap", [value])
    gate = b.node("Sigmoid", "gate", [b.conv("fc", mean, CHANNELS, CHANNELS, kernel=1)])
    factor = b.const("factor", b.random.uniform(0.5, 1.5, (1, CHANNELS, 1, 1))) if constant else gate
    return finish(b, b.conv("after", b.node("Mul", "mul", [value, factor]), CHANNELS, CHANNELS))


def test_rule_6_a_mul_of_two_branches_behind_a_conv_chain_has_pairs() -> None:
    found = int8_edges(squeeze_excite())

    assert ("mul", 0) in found["relu_out"]
    assert found["gate_out"] == {("mul", 1)}


def test_rule_6_no_pair_on_a_mul_by_a_constant() -> None:
    found = int8_edges(squeeze_excite(constant=True))

    assert not any(node == "mul" for served in found.values() for node, _ in served)


def test_rule_6_an_add_behind_no_convolution_stays_float() -> None:
    b = Builder()
    x = b.image()
    total = b.node("Add", "add", [b.node("Tanh", "tanh", [x]), b.node("Sigmoid", "sigmoid", [x])])
    found = int8_edges(finish(b, b.conv("after", total, CHANNELS, CHANNELS)))

    assert found == {"add_out": {("after", 0)}}


def test_rule_7_pools_beside_a_quantised_neighbour_have_a_pair() -> None:
    one = bench("pool_block")
    found = edges(one.place(one.uniform(INT8)))

    assert found["conv2_out"] == {("avgpool", 0)}
    assert found["conv3_out"] == {("gap", 0)}


def test_rule_7_a_neighbour_is_found_through_copy_ops() -> None:
    """Fc reads the pool's result through Flatten."""
    one = bench("pool_block")
    plan = dict.fromkeys(one.uniform(FP16), FP16)

    assert "conv3_out" in edges(one.place({**plan, "gap": INT8, "fc": INT8}))


def test_rule_7_pools_without_a_quantised_neighbour_stay_float() -> None:
    one = bench("pool_block")
    plan = dict.fromkeys(one.uniform(FP16), FP16) | {"gap": INT8, "avgpool": INT8}
    placement = one.place(plan)

    assert edges(placement) == {}
    assert placement.skipped == dict.fromkeys(
        ["avgpool", "gap"], "no neighbour is in INT8, so a lone pair would only cost"
    )


def test_rule_7_pools_that_only_have_each_other_stay_float() -> None:
    b = Builder()
    value = b.node("Tanh", "tanh", [b.conv("conv", b.image(), CHANNELS, CHANNELS)])
    first = b.node("AveragePool", "pool1", [value], kernel_shape=[2, 2], strides=[2, 2])
    second = b.node("AveragePool", "pool2", [first], kernel_shape=[2, 2], strides=[2, 2])
    b.conv("after", second, CHANNELS, CHANNELS)
    proto = finish(b, "after_out", ["N", CHANNELS, SIDE // 4, SIDE // 4])

    assert int8_edges(proto, conv=FP16, after=FP16) == {}
    assert set(int8_edges(proto, conv=FP16)) == {"tanh_out", "pool1_out", "pool2_out"}


def resize(after_conv: bool) -> onnx.ModelProto:
    b = Builder()
    x = b.image()
    value = b.node("Relu", "relu", [b.conv("conv", x, CHANNELS, CHANNELS)]) if after_conv else x
    scales = b.const("scales", [1, 1, 2, 2])
    up = b.node("Resize", "up", [value, "", scales], mode="nearest")
    return finish(b, b.conv("after", up, CHANNELS, CHANNELS), ["N", CHANNELS, 2 * SIDE, 2 * SIDE])


def test_rule_8_resize_behind_a_conv_chain_has_a_pair() -> None:
    assert int8_edges(resize(after_conv=True))["relu_out"] == {("up", 0)}


def test_rule_8_resize_behind_no_convolution_has_none() -> None:
    assert int8_edges(resize(after_conv=False)) == {"up_out": {("after", 0)}}


def test_rule_10_copy_ops_never_carry_a_pair_of_their_own() -> None:
    for name in BUILDERS:
        for scheme, carrier in ((bench(name).scheme, FP16), (ORT_CPU, FP32)):
            one = bench(name, scheme, carrier)
            topology, placement = one.lowerer.placement(one.uniform(INT8))
            kinds = {str(node.name): node.op_type for node in topology.nodes}

            assert not any(kinds[n] in COPY_OPS for served in edges(placement).values() for n, _ in served), name


def test_rule_10_ranges_are_shared_through_copy_ops() -> None:
    one = bench("mha_block")
    topology, placement = one.lowerer.placement(one.uniform(INT8))

    assert "merge_out" in edges(placement)
    assert {"x", "av_out"} == set(calibration_tensors(topology, [placement]))


def test_rule_11_is_left_out_a_lone_batch_norm_stays_float() -> None:
    b = Builder()
    value = b.node("Relu", "relu", [b.conv("conv", b.image(), CHANNELS, CHANNELS)])
    value = b.node("Tanh", "tanh", [b.node("GlobalLpPool", "lp", [value])])
    b.conv("after", b.bn("bn", value, CHANNELS), CHANNELS, CHANNELS, kernel=1)
    found = int8_edges(finish(b, "after_out", ["N", CHANNELS, 1, 1]))

    assert not any(node == "bn" for served in found.values() for node, _ in served)


def late_norm() -> onnx.ModelProto:
    """Conv -> Relu -> BatchNormalization -> conv, as in EtinyNet: nothing can take the normalisation in."""
    b = Builder()
    value = b.node("Relu", "relu", [b.conv("conv", b.image(), CHANNELS, CHANNELS)])
    b.conv("after", b.bn("bn", value, CHANNELS), CHANNELS, CHANNELS)
    return finish(b, "after_out", ["N", CHANNELS, SIDE, SIDE])


def test_rule_11_a_normalisation_between_int8_convolutions_has_a_pair() -> None:
    one = Bench(late_norm())

    assert edges(one.place(one.uniform(INT8))) == {
        "x": {("conv", 0)},
        "relu_out": {("bn", 0)},
        "bn_out": {("after", 0)},
    }


def test_rule_11_a_normalisation_that_is_read_in_float_has_none() -> None:
    one = Bench(late_norm())

    assert "relu_out" not in edges(one.place(one.uniform(INT8, after=FP16)))
    assert "relu_out" not in edges(one.place(one.uniform(INT8, conv=FP16)))


def test_rule_11_is_left_out_for_rtx_whose_convolutions_write_floats() -> None:
    one = Bench(late_norm(), scheme=TENSORRT_RTX)

    assert edges(one.place(one.uniform(INT8))) == {"x": {("conv", 0)}, "bn_out": {("after", 0)}}


def test_rule_12_a_graph_output_of_a_light_op_stays_float() -> None:
    b = Builder()
    value = b.node("Tanh", "tanh", [b.conv("conv", b.image(), CHANNELS, CHANNELS)])
    b.node("GlobalAveragePool", "gap", [value])
    one = Bench(finish(b, "gap_out", ["N", CHANNELS, 1, 1]))

    assert one.possible["gap"][INT8] == "its result leaves the network, so it stays float"
    assert edges(one.place(one.uniform(INT8))) == {"x": {("conv", 0)}}


def test_rule_13_tensors_that_are_no_floats_are_skipped() -> None:
    for name in BUILDERS:
        one = bench(name)
        topology, placement = one.lowerer.placement(one.uniform(INT8))
        values = {str(v.name): v for n in topology.nodes for v in n.outputs} | {
            str(v.name): v for v in topology.graph.inputs
        }

        assert all(values[tensor].dtype == ir.DataType.FLOAT for tensor in edges(placement)), name


def test_kept_out_layer_norm_softmax_and_mask_have_no_pair_in_int8() -> None:
    one = bench("mha_block")
    placement = one.place(one.uniform(INT8))

    assert edges(placement) == {"x": {("q", 0), ("k", 0), ("v", 0)}, "merge_out": {("out", 0)}}


def test_the_exception_conv_before_layer_norm_has_a_pair() -> None:
    b = Builder()
    value = b.node("Transpose", "nhwc", [b.conv("conv", b.image(), CHANNELS, CHANNELS)], perm=[0, 2, 3, 1])
    norm = [b.const("scale", [1.0] * CHANNELS), b.const("bias", [0.0] * CHANNELS)]
    value = b.node("LayerNormalization", "norm", [value, *norm], axis=-1)
    b.linear("fc", value, CHANNELS, CHANNELS)
    found = int8_edges(finish(b, "fc.add_out", ["N", SIDE, SIDE, CHANNELS]))

    assert found == {"x": {("conv", 0)}, "nhwc_out": {("norm", 0)}, "norm_out": {("fc", 0)}}


def test_fp8_attention_quantises_both_products_with_a_fixed_scale_behind_softmax() -> None:
    one = bench("mha_block")
    placement = one.place(one.uniform(FP8))
    scales = {point.tensor: point.fixed_scale for point in placement.activations}

    assert {"q.heads_out", "k.heads_out", "softmax_out", "v.heads_out"} <= scales.keys()
    assert {name: scale for name, scale in scales.items() if scale is not None} == {"softmax_out": 1 / 448}
    assert not {"qk_out", "scale_out", "masked_out", "mask"} & scales.keys()


def test_a_tensor_read_in_int8_and_in_fp8_has_a_pair_of_each() -> None:
    one = bench("concat_block")
    plan = one.uniform(INT8, right=FP8)
    placement = one.place(plan)
    scales = {
        str(node.inputs[2].dtype): float(node.inputs[1].const_value.numpy())
        for node in one.lower(plan).ir.graph
        if node.op_type == "QuantizeLinear" and node.inputs[0].name == "x"
    }

    assert {(p.precision, p.consumers) for p in placement.activations if p.tensor == "x"} == {
        (INT8, frozenset({("left", 0)})),
        (FP8, frozenset({("right", 0)})),
    }
    assert scales["INT8"] / scales["FLOAT8E4M3FN"] == pytest.approx(448 / 127, rel=2e-3)


def test_cpu_convolutions_have_pairs_at_both_sides_behind_their_activation() -> None:
    one = bench("depthwise_block", ORT_CPU, FP32)
    placement = one.place(one.uniform(INT8))
    points = {p.tensor: p for p in placement.activations}

    assert points.keys() == {"x", "dw.relu6_out", "pw.relu6_out"}
    assert points["dw.relu6_out"].everywhere
    assert points["pw.relu6_out"].everywhere
    assert not points["x"].everywhere


def test_cpu_residual_adds_have_pairs_at_both_inputs_and_the_output() -> None:
    one = bench("resnet_block", ORT_CPU, FP32)
    placement = one.place(one.uniform(INT8))
    found = edges(placement)

    assert ("add", 0) in found["bn2_out"]
    assert ("add", 1) in found["stem.relu_out"]
    assert "relu2_out" in found
    assert "add_out" not in found


@pytest.mark.parametrize("name", ["mlp", "gelu_erf", "mha_block"])
def test_cpu_products_have_pairs_on_inputs_only(name: str) -> None:
    one = bench(name, ORT_CPU, FP32)

    assert not any(point.everywhere for point in one.place(one.uniform(INT8)).activations)


def test_cpu_embeddings_are_dequantised_after_the_gather() -> None:
    one = bench("embedding_mlp", ORT_CPU, FP32)
    (table,) = [p for p in one.place(one.uniform(INT8)).weights if p.node == "embed"]

    assert table.after_gather
    assert table.axis == 1


def test_node_types_are_the_precision_or_the_carrier() -> None:
    one = bench("resnet_block")
    types = one.place({"stem": FP32, "conv1": Precision.BF16, "conv2": INT8}).node_types

    assert (types["stem"], types["conv1"], types["conv2"], types["relu2"]) == (FP32, Precision.BF16, FP16, FP16)


def test_arithmetic_of_a_placement_is_reported_by_unit() -> None:
    one = bench("pool_block")
    topology, placement = one.lowerer.placement(one.uniform(INT8, conv2=FP8, conv3=FP32))
    found = quantized_macs(topology, one.partition, placement)

    assert (found["conv1"], found["conv2"], found["conv3"], found["fc"]) == (INT8, FP8, FP32, INT8)


def test_a_range_is_that_of_the_value_before_reshaping_and_max_pooling() -> None:
    topology = Topology(loaded(BUILDERS["pool_block"]()).graph)
    values = {str(v.name): v for n in topology.nodes for v in n.outputs}

    assert range_root(topology, values["maxpool_out"]).name == "relu_out"
    assert range_root(topology, values["flatten_out"]).name == "gap_out"
    assert range_root(topology, values["avgpool_out"]).name == "avgpool_out"


def test_every_random_plan_needs_only_ranges_that_uniform_plans_need() -> None:
    for name in BUILDERS:
        one = bench(name)
        for seed in range(10):
            topology, placement = one.lowerer.placement(one.random_plan(seed))
            assert set(calibration_tensors(topology, [placement])) <= one.ranges.clipped.keys(), (name, seed)


def test_a_plan_of_floats_places_nothing() -> None:
    one = bench("mha_block")
    for precision in FLOATS:
        placement = one.place(one.uniform(precision))
        assert (placement.activations, placement.weights) == ((), ())
