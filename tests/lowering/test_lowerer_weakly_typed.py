"""Plans for TensorRT 8.6: FP32 tensors with INT8 pairs, old formats, and each node's precision in its metadata."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoprec.backends.scheme import TENSORRT, TENSORRT_8
from autoprec.errors import PlanError
from autoprec.graph.model import check_model, load_model, to_bytes
from autoprec.graph.topology import Topology
from autoprec.lowering.lowerer import Lowerer
from autoprec.lowering.passes.float_weights import FloatWeightsPass
from autoprec.lowering.possible import usable_precisions, why_not
from autoprec.plan import Choice, Plan
from autoprec.precision import FLOATS, PRECISION_KEY, Precision
from autoprec.ranges.bins import Range
from autoprec.units.find import find_units

from ..helpers.lowering_bench import Bench, array_of, bench, ops, run, sqnr_db
from ..helpers.networks import BUILDERS, random_feed, write
from ..helpers.onnx_builder import Builder

FP32, FP16, BF16, FP8, INT8 = (Precision(p) for p in ("fp32", "fp16", "bf16", "fp8", "int8"))
HALVES = {ir.DataType.FLOAT16, ir.DataType.BFLOAT16}

LIKE_TYPED_DB = 34.0
"""Of the whole range of FP16 plans with INT8, 3 dB below the worst seen: rounding moves codes, and half scales too."""
LIKE_TYPED_FLOATS_DB = 58.0
"""Of plans in float types alone: FP16 rounding and nothing else."""

MANY = settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow], deadline=None)


def weak(name: str, carrier: Precision = FP16) -> Bench:
    return bench(name, TENSORRT_8, carrier)


def mixed(one: Bench, seed: int, *precisions: Precision) -> dict[str, Precision]:
    """Any of the possible ones among `precisions` for each unit."""
    draw = random.Random(seed)
    return {
        unit: draw.choice([p for p in precisions if found[p] is None] or [FP32]) for unit, found in one.possible.items()
    }


def plans(one: Bench) -> dict[str, dict[str, Precision]]:
    found = {"int8": one.uniform(INT8), "fp16": one.uniform(FP16), "mixed": mixed(one, 7, FP32, FP16, INT8)}
    return {name: plan for name, plan in found.items() if set(plan.values()) != {FP32}}


def annotated(model: ir.Model) -> dict[str, str]:
    return {
        str(node.name): node.metadata_props[PRECISION_KEY]
        for node in model.graph
        if PRECISION_KEY in node.metadata_props
    }


# --- what the runtime can read ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDERS)
def test_every_block_is_of_a_format_that_8_6_reads(name: str) -> None:
    one = weak(name)
    for label, plan in plans(one).items():
        lowered = one.lower(plan).ir
        check_model(lowered)
        proto = onnx.load_from_string(to_bytes(lowered))
        onnx.checker.check_model(proto, full_check=True)

        assert proto.ir_version <= 8, label
        assert {entry.domain: entry.version for entry in proto.opset_import}[""] <= 17, label


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("carrier", [FP32, FP16])
def test_no_tensor_is_in_half_precision_and_there_are_no_casts_for_it(name: str, carrier: Precision) -> None:
    one = weak(name, carrier)
    for label, plan in plans(one).items():
        lowered = one.lower(plan).ir
        values = [*lowered.graph.inputs, *lowered.graph.initializers.values()]
        values += [value for node in lowered.graph for value in node.outputs]

        assert not {v.name for v in values if v.dtype in HALVES}, label
        assert ops(lowered, "Cast") == ops(one.model.ir, "Cast") == [], label


@pytest.mark.parametrize("name", BUILDERS)
def test_scales_are_fp32_and_zero_points_are_zero(name: str) -> None:
    """8.6 takes symmetric INT8 only; without a zero point the codes of opset 13 would be UINT8."""
    one = weak(name)
    for plan in plans(one).values():
        pairs = ops(one.lower(plan).ir, "QuantizeLinear", "DequantizeLinear")

        assert all(array_of(node.inputs[1]).dtype == np.float32 for node in pairs)
        assert all(array_of(n.inputs[2]).dtype == np.int8 and not array_of(n.inputs[2]).any() for n in pairs)


@pytest.mark.parametrize("name", BUILDERS)
def test_no_dequantizer_reads_a_constant(name: str) -> None:
    one = weak(name)
    lowered = one.lower(one.uniform(INT8)).ir

    for node in ops(lowered, "DequantizeLinear"):
        maker = node.inputs[0].producer() if node.inputs[0] is not None else None
        assert maker is not None
        assert maker.op_type == "QuantizeLinear"


# --- what the runtime is told ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDERS)
def test_each_node_of_a_unit_is_told_its_precision_and_no_other_node_any(name: str) -> None:
    """A unit in INT8 whose pairs came to nothing is told the carrier, in which it runs."""
    one = weak(name)
    for label, plan in plans(one).items():
        lowered = one.lower(plan)
        present = {str(node.name) for node in lowered.ir.graph}
        expected = {}
        for unit in one.partition.units:
            told = FP16 if unit.name in lowered.placement.skipped else plan[unit.name]
            expected |= {node: told.value for node in unit.nodes if node in present}

        assert annotated(lowered.ir) == expected, label
        assert expected, label


def test_all_nodes_of_a_float_unit_are_told() -> None:
    one = weak("resnet_block")
    told = annotated(one.lower({**one.uniform(INT8), "conv1": FP32, "conv2": FP16}).ir)

    assert told == {
        **dict.fromkeys(("stem", "stem.relu"), "int8"),
        **dict.fromkeys(("conv1", "bn1", "relu1"), "fp32"),  # of FP32 units, normalisations stay nodes
        **dict.fromkeys(("conv2", "add", "relu2"), "fp16"),
    }


def test_the_precisions_reach_the_one_that_builds() -> None:
    """The builder reads them from the serialised model, by the name of the node."""
    from autoprec.backends.tensorrt.asked_by_model import requested_precisions

    one = weak("resnet_block")
    lowered = one.lower(one.random_plan(4)).ir
    found = requested_precisions(to_bytes(lowered))

    assert {node: precision for node, precision in found.items() if precision} == annotated(lowered)
    assert {node for node, precision in found.items() if not precision} == {
        node.name for node in ops(lowered, "QuantizeLinear", "DequantizeLinear")
    }


@pytest.mark.parametrize("name", BUILDERS)
def test_a_typed_plan_has_no_such_metadata(name: str) -> None:
    one = bench(name)

    assert annotated(one.lower(one.uniform(FP16)).ir) == {}


# --- the same numbers ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDERS)
@given(seed=st.integers(0, 10**6))
@MANY
def test_plans_of_fp32_and_int8_compute_the_simulated_arithmetic_bit_for_bit(name: str, seed: int) -> None:
    """Around an FP32 carrier nothing is rounded but codes, so both graphs are the same function."""
    one = weak(name, FP32)
    plan = mixed(one, seed, FP32, INT8)
    lowered, twin = one.lower(plan), one.lower(plan, simulate=True)
    expected = run(twin.ir, one.feed)

    assert lowered.placement == twin.placement
    for output, array in run(lowered.ir, one.feed).items():
        np.testing.assert_array_equal(array, expected[output])


@pytest.mark.parametrize("name", BUILDERS)
@given(seed=st.integers(0, 10**6))
@MANY
def test_any_plan_computes_what_the_typed_scheme_simulates_but_for_fp16_rounding(name: str, seed: int) -> None:
    """ONNX Runtime does not know of the metadata and computes FP16 units in FP32."""
    one, typed = weak(name), bench(name, TENSORRT, FP16)
    plan = one.random_plan(seed)
    limit = LIKE_TYPED_DB if INT8 in plan.values() else LIKE_TYPED_FLOATS_DB
    found, expected = run(one.lower(plan).ir, one.feed), run(typed.lower(plan, simulate=True).ir, one.feed)

    assert sqnr_db(expected, found) > limit, plan
    for output, array in expected.items():
        assert np.abs(found[output] - array).max() < 0.1 * np.abs(array).max()


def wrong_floats(monkeypatch: pytest.MonkeyPatch, change: Callable[[ir.Node], None]) -> None:
    """Have the pass that makes weights float spoil the first QuantizeLinear that it makes for each."""
    plain = FloatWeightsPass.call

    def call(self: FloatWeightsPass, model: ir.Model) -> ir.passes.PassResult:
        result = plain(self, model)
        for node in ops(model, "QuantizeLinear"):
            if node.inputs[0] is not None and node.inputs[0].is_initializer():
                change(node)
        return result

    monkeypatch.setattr(FloatWeightsPass, "call", call)


def set_array(value: ir.Value | None, array: np.ndarray) -> None:  # type: ignore[type-arg]
    assert value is not None
    value.const_value = ir.tensor(np.ascontiguousarray(array), name=value.name)


def next_channel(node: ir.Node) -> None:
    array = array_of(node.inputs[0])
    axis = node.attributes.get_int("axis", 1) if array_of(node.inputs[1]).ndim else 0
    set_array(node.inputs[0], np.roll(array, 1, axis))


def codes_for_floats(node: ir.Node) -> None:
    set_array(node.inputs[0], np.rint(array_of(node.inputs[0]) / array_of(node.inputs[1]).max()))


def one_code_off(node: ir.Node) -> None:
    scale = array_of(node.inputs[1])
    axis = node.attributes.get_int("axis", 1)
    array = array_of(node.inputs[0])
    shape = [-1 if place == axis and scale.ndim else 1 for place in range(array.ndim)]
    set_array(node.inputs[0], array + scale.reshape(shape if scale.ndim else []))


@pytest.mark.parametrize("change", [next_channel, codes_for_floats, one_code_off])
def test_wrong_weights_are_neither_the_same_bits_nor_within_the_tolerance(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[ir.Node], None]
) -> None:
    one, exact = weak("resnet_block"), weak("resnet_block", FP32)
    wrong_floats(monkeypatch, change)
    plan = one.uniform(INT8)
    typed = run(bench("resnet_block", TENSORRT, FP16).lower(plan, simulate=True).ir, one.feed)
    twin = run(exact.lower(plan, simulate=True).ir, one.feed)

    assert sqnr_db(typed, run(one.lower(plan).ir, one.feed)) < LIKE_TYPED_DB - 2
    assert sqnr_db(twin, run(exact.lower(plan).ir, one.feed)) < 60


def test_a_plan_that_is_not_written_at_all_is_told_from_one_that_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """FP32 outputs are near INT8's, so the tolerance of FP16 would not do: bits do."""
    one = weak("resnet_block", FP32)
    plan = one.uniform(INT8)
    twin = run(one.lower(plan, simulate=True).ir, one.feed)
    monkeypatch.setattr("autoprec.lowering.lowerer.range_of", lambda *_: Range(-1e-3, 1e-3))

    assert sqnr_db(twin, one.reference) < 60
    assert sqnr_db(twin, run(one.lower(plan).ir, one.feed)) < 20


# --- what 8.6 does not have ------------------------------------------------------------------------------


@pytest.mark.parametrize(("precision", "words"), [(FP8, "TensorRT 8.6 has no FP8"), (BF16, "TensorRT 8.6 has no BF16")])
@pytest.mark.parametrize("name", BUILDERS)
def test_fp8_and_bf16_are_refused_in_words(name: str, precision: Precision, words: str) -> None:
    one = weak(name)

    for unit in one.partition.units:
        assert why_not(one.topology, unit, precision, TENSORRT_8) == words
    assert not {FP8, BF16} & set(one.random_plan(0).values())


@pytest.mark.parametrize("precision", [FP8, BF16])
def test_a_plan_of_another_runtime_is_refused_by_the_unit(precision: Precision) -> None:
    one = weak("mlp")
    choices = {unit.name: Choice(precision, "", False, "") for unit in one.partition.units}
    plan = Plan(
        units=choices, carrier=FP16, scheme="tensorrt", backend="tensorrt", fingerprints={}, evidence={}, ranges=None
    )
    with pytest.raises(
        PlanError,
        match=rf"unit 'fc1' cannot run in {precision}: TensorRT 8.6 has no {precision.value.upper()}; change the plan",
    ):
        usable_precisions(plan, one.partition, Topology(one.model.graph), TENSORRT_8)


def test_fp32_fp16_and_int8_are_as_possible_as_for_newer_ones() -> None:
    for name in BUILDERS:
        old, new = weak(name).possible, bench(name).possible
        for unit, found in old.items():
            assert [found[p] for p in (FP32, FP16, INT8)] == [new[unit][p] for p in (FP32, FP16, INT8)], (name, unit)


def test_a_model_of_a_newer_opset_is_brought_down_in_every_plan(tmp_path: Path) -> None:
    b = Builder()
    b.node("ReduceMean", "mean", [b.conv("conv", b.image(), 32, 32), b.const("axes", [2, 3], np.int64)])
    b.output("mean_out", ["N", 32, 1, 1])
    proto = b.model(check=False)
    proto.opset_import[0].version = 20
    model = load_model(write(proto, tmp_path), 17)
    one, feed = weak("conv_relu"), random_feed(proto, 2)
    lowerer = Lowerer(model, find_units(model.graph), TENSORRT_8, FP16)

    for precision in (FP32, FP16):
        lowered = lowerer.lower({unit.name: precision for unit in lowerer.partition.units}, one.ranges).ir
        check_model(lowered)
        assert lowered.opset_imports[""] == 17
        assert sqnr_db(run(ir.from_proto(proto), feed), run(lowered, feed)) > 60


@pytest.mark.parametrize("opset", [11, 12])
def test_an_older_model_is_raised_to_what_pairs_need_and_no_further(opset: int, tmp_path: Path) -> None:
    proto = BUILDERS["conv_relu"]()
    proto.opset_import[0].version = opset  # Conv and Relu had the same form then
    model = load_model(write(proto, tmp_path))
    one = weak("conv_relu")
    lowered = Lowerer(model, one.partition, TENSORRT_8, FP16).lower(one.uniform(INT8), one.ranges).ir
    check_model(lowered)

    assert lowered.opset_imports[""] == 13
    assert len(ops(lowered, "QuantizeLinear")) == 2


def test_the_simulation_knows_the_precisions_that_the_metadata_names() -> None:
    """Else a plan for 8.6 would be judged as if FP16 cost nothing."""
    one = weak("resnet_block")
    twin = one.lower(one.uniform(FP16), simulate=True).ir

    assert ops(twin, "Cast")
    assert 50 < one.sqnr(twin) < 90
    assert set(one.uniform(FP16).values()) <= set(FLOATS)
