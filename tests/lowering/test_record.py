"""The record of a lowering says where each value and node of the model is."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from autoprec.backends.scheme import ORT_CPU, TENSORRT, TENSORRT_8
from autoprec.lowering.lowerer import Lowered
from autoprec.precision import Precision

from ..helpers.lowering_bench import Bench, bench, node_named, ops, run
from ..helpers.networks import BUILDERS

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8


def computed(lowered: Lowered, one: Bench, value: ir.Value) -> np.ndarray:
    """What a value of a lowered model holds."""
    copy = lowered.ir.clone()
    known = {v.name: v for v in copy.graph.inputs} | {v.name: v for node in copy.graph for v in node.outputs}
    copy.graph.outputs[:] = [known[value.name]]
    return run(copy, one.feed)[str(value.name)]


def test_in_the_fp32_model_nothing_is_converted() -> None:
    one = bench("mlp")
    record = one.lower(dict.fromkeys(one.possible, FP32)).record

    assert set(record.values) == {"x", "fc1_out", "relu_out", "fc2_out"}
    assert all(value.exact is value.raw is value.final for value in record.values.values())
    assert {name: [node.name for node in nodes] for name, nodes in record.nodes.items()} == {
        name: [name] for name in ("fc1", "relu", "fc2")
    }


def test_a_pair_at_the_producer_lies_between_the_raw_and_the_final_value() -> None:
    one = bench("resnet_block", ORT_CPU, FP32)
    lowered = one.lower(one.uniform(INT8), simulate=True)
    value = lowered.record.values["relu1_out"]

    assert value.exact is value.raw
    assert value.raw.producer() is node_named(lowered.ir, "relu1")
    assert value.final.producer().op_type == "DequantizeLinear"
    assert value.final.producer().inputs[0].producer().inputs[0] is value.raw


def test_a_rounded_value_is_behind_the_exact_one() -> None:
    one = bench("mlp")
    lowered = one.lower({"fc1": FP16, "fc2": FP32}, simulate=True)
    value = lowered.record.values["relu_out"]
    exact = computed(lowered, one, value.exact)

    assert value.exact is value.raw
    np.testing.assert_array_equal(computed(lowered, one, value.final), exact.astype(np.float16).astype(np.float32))


def test_where_both_happen_the_pair_quantises_the_rounded_value() -> None:
    one = Bench(BUILDERS["resnet_block"](), ORT_CPU, FP16)
    lowered = one.lower(one.uniform(INT8), simulate=True)
    value = lowered.record.values["relu1_out"]

    assert len({value.exact, value.raw, value.final}) == 3
    assert value.exact.producer() is node_named(lowered.ir, "relu1")
    assert value.raw.producer().op_type == "Cast"
    assert value.final.producer().op_type == "DequantizeLinear"


def test_a_value_whose_only_pair_was_replaced_is_still_found() -> None:
    """Nothing reads the scalar pair of relu_out any more, so only the one with a scale for each channel is left."""
    one = bench("conv_transpose_block", ORT_CPU, FP32)
    lowered = one.lower(one.uniform(INT8), simulate=True)
    value = lowered.record.values["relu_out"]

    assert value.final.producer() in list(lowered.ir.graph)
    assert node_named(lowered.ir, "up") in value.final.consumers()


def test_values_that_were_folded_away_are_not_recorded() -> None:
    one = bench("resnet_block")
    record = one.lower(one.uniform(INT8), simulate=True).record

    assert "conv1_out" not in record.values
    assert record.values["bn1_out"].exact.producer() is record.nodes["conv1"][0]


def test_nodes_lead_to_those_that_do_their_work() -> None:
    folded = bench("resnet_block")
    gemms = bench("mlp", ORT_CPU, FP32)
    table = bench("embedding_mlp", ORT_CPU, FP32)
    of = {
        name: {
            old: [(n.op_type, n.name) for n in new] for old, new in one.lower(one.uniform(INT8)).record.nodes.items()
        }
        for name, one in (("folded", folded), ("gemms", gemms), ("table", table))
    }

    assert of["folded"]["conv1"] == of["folded"]["bn1"] == [("Conv", "conv1")]
    assert of["gemms"]["fc1"] == [("MatMul", "fc1"), ("Sub", "fc1/subtract")]
    assert of["table"]["embed"] == [("Gather", "embed"), ("DequantizeLinear", "embed/dequantize")]


def test_a_clip_that_became_a_relu_is_found() -> None:
    one = Bench(BUILDERS["depthwise_block"](), TENSORRT_8, FP16)
    lowered = one.lower(one.uniform(INT8))

    for name in ("dw.relu6", "pw.relu6"):
        assert set(lowered.record.nodes[name]) <= set(lowered.ir.graph)
        assert node_named(lowered.ir, name) in lowered.record.nodes[name]


@pytest.mark.parametrize("simulate", [False, True])
@pytest.mark.parametrize("name", BUILDERS)
def test_everything_that_a_record_names_is_in_the_graph(name: str, simulate: bool) -> None:
    for scheme, carrier in ((TENSORRT, FP16), (ORT_CPU, FP32)):
        one = bench(name, scheme, carrier)
        for plan in (one.uniform(INT8), one.uniform(FP16), one.random_plan(7)):
            lowered = one.lower(plan, simulate=simulate)
            graph, record = lowered.ir.graph, lowered.record
            values = {*graph.inputs, *(value for node in graph for value in node.outputs)}

            assert {v for row in record.values.values() for v in (row.exact, row.raw, row.final)} <= values
            assert {node for nodes in record.nodes.values() for node in nodes} <= set(graph)
            assert set(graph.outputs) <= {row.final for row in record.values.values()}
            assert {pair.quantize for pair in record.pairs} == {
                node for node in ops(lowered.ir, "QuantizeLinear") if node.inputs[0].const_value is None
            }
