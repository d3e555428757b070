"""Plans written into models: valid ONNX, the builder's hard constraints, and the right numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoprec import lower as lower_module
from autoprec.errors import ModelError, PlanError
from autoprec.lower import OPSET_QDQ, Lowered, Lowerer
from autoprec.model import check_model, to_bytes
from autoprec.passes.assign_types import DATA_TYPES, free_slots
from autoprec.passes.insert_qdq import InsertQDQPass
from autoprec.passes.quantize_weights import QuantizeWeightsPass
from autoprec.precision import FLOATS, Precision
from autoprec.ranges.affine import QuantParams
from autoprec.ranges.histogram import Range
from autoprec.ranges.table import RangeTable, load_ranges
from autoprec.schemes import ORT_CPU, SCHEMES, TENSORRT

from .lowering import Bench, array_of, bench, loaded, lowered_everywhere, node_named, ops, run, sqnr_db
from .models import BUILDERS, random_feed
from .onnx_builder import Builder

FP32, FP16, BF16, FP8, INT8 = (Precision(p) for p in ("fp32", "fp16", "bf16", "fp8", "int8"))

FLOOR_DB = {FP32: 130.0, FP16: 55.0, BF16: 37.0, INT8: 30.0, FP8: 19.0}
"""What the worst precision of a plan allows on the tiny models, some 4 dB below the worst case seen."""

NO_LIMIT = settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow], deadline=None)


def floor_db(one: Bench, plan: dict[str, Precision]) -> float:
    used = set(plan.values())
    used |= {one.carrier} if used - set(FLOATS) else set()
    return min(FLOOR_DB[p] for p in used)


def float_types(model: ir.Model) -> list[tuple[str, set[str]]]:
    """For each node, the types of its float inputs that must be one."""
    found = []
    for node in model.graph:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear", "Cast"):
            continue
        tied = free_slots(node, model.opset_imports[""], FP16)[0]
        types = {str(v.dtype) for i in tied if (v := node.inputs[i]) is not None and v.dtype in DATA_TYPES.values()}
        found.append((str(node.name), types))
    return found


# --- every block, any plan -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDERS)
@given(seed=st.integers(0, 10**6), scheme=st.sampled_from(sorted(SCHEMES)), carrier=st.sampled_from(FLOATS))
@NO_LIMIT
def test_any_plan_lowers_to_a_valid_typed_model_with_the_right_outputs(
    name: str, seed: int, scheme: str, carrier: Precision
) -> None:
    one = bench(name, SCHEMES[scheme], carrier)
    plan = one.random_plan(seed)
    lowered = one.lower(plan)
    check_model(lowered.ir)

    assert all(len(types) <= 1 for _, types in float_types(lowered.ir))
    twin = one.lower(plan, simulate=True)
    assert twin.placement == lowered.placement
    assert one.sqnr(twin.ir) >= floor_db(one, plan), plan


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("scheme", sorted(SCHEMES))
def test_the_all_fp32_plan_is_the_model_bit_for_bit(name: str, scheme: str) -> None:
    one = bench(name, SCHEMES[scheme], FP16)
    lowered = one.lower(dict.fromkeys(one.possible, FP32))

    assert to_bytes(lowered.ir) == to_bytes(one.model.ir)
    for output, array in run(lowered.ir, one.feed).items():
        np.testing.assert_array_equal(array, one.reference[output])


@pytest.mark.parametrize("name", BUILDERS)
def test_simulated_fp16_is_what_a_typed_fp16_graph_computes(name: str) -> None:
    one = bench(name)
    for plan in (one.uniform(FP16), {u: p if p in (FP32, FP16) else FP32 for u, p in one.random_plan(3).items()}):
        typed, twin = run(one.lower(plan).ir, one.feed), run(one.lower(plan, simulate=True).ir, one.feed)

        assert sqnr_db(typed, twin) > 57, plan


@pytest.mark.parametrize("name", BUILDERS)
def test_a_simulated_quantised_model_is_what_a_typed_one_computes(name: str) -> None:
    """The same codes in FP16 arithmetic; single codes may differ by one where FP16 rounding moves a value."""
    one = bench(name)
    for precision, alike_db in ((INT8, 38), (FP8, 26)):
        plan = one.uniform(precision)
        typed, twin = run(one.lower(plan).ir, one.feed), run(one.lower(plan, simulate=True).ir, one.feed)

        assert sqnr_db(typed, twin) > alike_db, precision


# --- the builder's hard constraints ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def everywhere() -> list[tuple[str, Lowered]]:
    return [found for carrier in FLOATS for found in lowered_everywhere(carrier)]


def conversions(lowered: Lowered) -> list[ir.Node]:
    return ops(lowered.ir, "QuantizeLinear", "DequantizeLinear")


def test_quantisation_is_symmetric_all_zero_points_are_zero(everywhere: list[tuple[str, Lowered]]) -> None:
    for name, lowered in everywhere:
        for node in conversions(lowered):
            if len(node.inputs) > 2:
                assert not np.any(array_of(node.inputs[2]).astype(np.float32)), (name, node.name)
                assert node.inputs[2].dtype in (ir.DataType.INT8, ir.DataType.FLOAT8E4M3FN)


def test_scales_are_constant_positive_and_finite(everywhere: list[tuple[str, Lowered]]) -> None:
    for name, lowered in everywhere:
        for node in conversions(lowered):
            scale = array_of(node.inputs[1]).astype(np.float64)
            assert np.all((scale > 0) & (scale < np.inf)), (name, node.name)


def test_scales_are_scalars_or_one_for_each_slice_along_an_explicit_axis(
    everywhere: list[tuple[str, Lowered]],
) -> None:
    vectors = 0
    for name, lowered in everywhere:
        for node in conversions(lowered):
            scale = array_of(node.inputs[1])
            if scale.ndim:
                vectors += 1
                axis = node.attributes["axis"].as_int()
                assert scale.shape == (node.inputs[0].shape[axis],), (name, node.name)
    assert vectors > 100


def test_only_weights_have_a_scale_for_each_channel(everywhere: list[tuple[str, Lowered]]) -> None:
    for name, lowered in everywhere:
        for node in conversions(lowered):
            if array_of(node.inputs[1]).ndim:
                assert node.op_type == "DequantizeLinear", (name, node.name)
                assert node.inputs[0].is_initializer()


def test_no_quantised_value_has_rank_0_or_fewer_than_8_elements(everywhere: list[tuple[str, Lowered]]) -> None:
    for name, lowered in everywhere:
        for node in ops(lowered.ir, "QuantizeLinear"):
            shape = node.inputs[0].shape
            assert len(shape) > 0, (name, node.name)
            assert np.prod([dim if isinstance(dim, int) else 8 for dim in shape]) >= 8


def test_the_scale_of_a_quantisation_has_the_type_of_its_input(everywhere: list[tuple[str, Lowered]]) -> None:
    for name, lowered in everywhere:
        for node in ops(lowered.ir, "QuantizeLinear"):
            assert node.inputs[0].dtype == node.inputs[1].dtype, (name, node.name)


def test_a_dequantised_value_has_the_type_of_its_scale(everywhere: list[tuple[str, Lowered]]) -> None:
    for name, lowered in everywhere:
        for node in ops(lowered.ir, "DequantizeLinear"):
            assert node.outputs[0].dtype == node.inputs[1].dtype, (name, node.name)


def test_both_ends_of_a_pair_use_the_same_number(everywhere: list[tuple[str, Lowered]]) -> None:
    """Whatever types the two scales are stored in."""
    for name, lowered in everywhere:
        for node in ops(lowered.ir, "DequantizeLinear"):
            quantize = node.inputs[0].producer()
            if quantize is not None:
                scales = [array_of(n.inputs[1]).astype(np.float64) for n in (quantize, node)]
                np.testing.assert_array_equal(*scales, err_msg=f"{name} {node.name}")


def test_half_scales_and_fp8_come_with_opset_19_and_bf16_with_22(everywhere: list[tuple[str, Lowered]]) -> None:
    for name, lowered in everywhere:
        opset = lowered.ir.opset_imports[""]
        kinds = {value.dtype for node in lowered.ir.graph for value in (*node.inputs, *node.outputs) if value is not None}
        if ir.DataType.BFLOAT16 in kinds:
            assert opset >= 22, name
        if conversions(lowered) and kinds & {ir.DataType.FLOAT16, ir.DataType.FLOAT8E4M3FN}:
            assert opset >= 19, name
        assert opset >= OPSET_QDQ


def test_a_dequantised_weight_feeds_its_op_directly(everywhere: list[tuple[str, Lowered]]) -> None:
    for name, lowered in everywhere:
        for node in ops(lowered.ir, "DequantizeLinear"):
            if node.inputs[0].is_initializer():
                kinds = {reader.op_type for reader in node.outputs[0].consumers()}
                assert kinds <= {"Conv", "ConvTranspose", "Gemm", "MatMul", "Gather"}, (name, kinds)


def test_a_transposed_weight_is_folded_before_it_is_quantised() -> None:
    b = Builder()
    turned = b.node("Transpose", "turn", [b.weight("w", 48, 64)], perm=[1, 0])
    b.node("MatMul", "mm", [b.input("x", ["N", 64]), turned])
    b.output("mm_out", ["N", 48])
    one = Bench(b.model())
    lowered = one.lower(one.uniform(INT8)).ir
    reader = node_named(lowered, "mm").inputs[1].producer()

    assert ops(lowered, "Transpose") == []
    assert (reader.op_type, reader.inputs[0].shape) == ("DequantizeLinear", ir.Shape([64, 48]))
    assert one.sqnr(lowered) > 35


def test_biases_are_never_quantised(everywhere: list[tuple[str, Lowered]]) -> None:
    for name, lowered in everywhere:
        for node in ops(lowered.ir, "Conv", "ConvTranspose", "Gemm"):
            if len(node.inputs) > 2:
                assert node.inputs[2].is_initializer(), (name, node.name)
                assert node.inputs[2].dtype in DATA_TYPES.values()


def linear_block(op: str, *shape: int, **attributes: int) -> Bench:
    """One linear op whose output channels differ in size by three orders of magnitude, between two others."""
    b = Builder()
    sizes = np.geomspace(1e-3, 1, 32)
    group = attributes.get("group", 1)
    axis = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0 if attributes.get("transB") else 1}.get(op, len(shape) - 1)
    weight = b.random.normal(0, 0.1, shape)
    if group == 1 or op == "Conv":
        weight *= sizes.reshape([-1 if place == axis else 1 for place in range(len(shape))])
    x = b.image() if op.startswith("Conv") else b.input("x", ["N", 32] if len(shape) == 2 else ["N", 4, 16, 32])
    b.node(op, "op", [x, b.const("w", weight)], **attributes)
    b.output("op_out", [None] * (2 if len(shape) == 2 else 4))
    return Bench(b.model())


@pytest.mark.parametrize(
    ("one", "axis"),
    [
        (linear_block("Conv", 32, 32, 3, 3), 0),
        (linear_block("Conv", 32, 16, 3, 3, group=2), 0),
        (linear_block("ConvTranspose", 32, 32, 3, 3), 1),
        (linear_block("ConvTranspose", 32, 16, 3, 3, group=2), None),
        (linear_block("Gemm", 32, 32, transB=1), 0),
        (linear_block("Gemm", 32, 32), 1),
        (linear_block("MatMul", 32, 32), 1),
        (linear_block("MatMul", 4, 32, 32), None),
    ],
)
def test_weights_are_quantised_along_their_output_channels(one: Bench, axis: int | None) -> None:
    """Every output channel keeps its accuracy, the small ones too, where there is an axis for them."""
    lowered = one.lower(one.uniform(INT8)).ir
    reader = node_named(lowered, "op").inputs[1].producer()
    out, reference = run(lowered, one.feed)["op_out"], one.reference["op_out"]
    channel = 1 if out.ndim == 4 and "Conv" in node_named(lowered, "op").op_type else out.ndim - 1
    parts = [sqnr_db({"y": np.take(reference, [c], channel)}, {"y": np.take(out, [c], channel)}) for c in range(32)]

    assert (reader.attributes["axis"].as_int() if axis is not None else None) == axis
    assert array_of(reader.inputs[1]).ndim == (0 if axis is None else 1)
    if axis is not None:
        assert min(parts) > 30


# --- what a wrong graph would give -----------------------------------------------------------------------


def shift_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scales applied to the next channel."""
    plain = QuantizeWeightsPass._dequantized

    def shifted(self: QuantizeWeightsPass, graph: ir.Graph, node: ir.Node, point: object) -> ir.Value:
        value = plain(self, graph, node, point)  # type: ignore[arg-type]
        scale = value.producer().inputs[1]
        scale.const_value = ir.tensor(np.roll(array_of(scale), 1))
        return value

    monkeypatch.setattr(QuantizeWeightsPass, "_dequantized", shifted)


def wrong_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Activation scales a tenth too small, so that the largest values are clipped."""
    plain = InsertQDQPass.call

    def call(self: InsertQDQPass, model: ir.Model) -> ir.passes.PassResult:
        self.scales = {k: QuantParams(0.5 * s.scale, s.zero_point, s.signed) for k, s in self.scales.items()}
        return plain(self, model)

    monkeypatch.setattr(InsertQDQPass, "call", call)


def other_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value quantised with the range of another one, eight times as wide."""
    monkeypatch.setattr(Lowerer, "_range", lambda *_: Range(-40.0, 40.0))


def one_sided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Different scales at the two ends of a pair."""
    plain = InsertQDQPass.call

    def call(self: InsertQDQPass, model: ir.Model) -> ir.passes.PassResult:
        result = plain(self, model)
        for node in ops(model, "DequantizeLinear"):
            if node.inputs[0].producer() is not None:
                value = ir.Value(name=f"{node.name}/wrong", const_value=ir.tensor(array_of(node.inputs[1]) * np.float32(1.1)))
                value.dtype, value.shape = ir.DataType.FLOAT, ir.Shape([])
                model.graph.register_initializer(value)
                node.replace_input_with(1, value)
        return result

    monkeypatch.setattr(InsertQDQPass, "call", call)


def no_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    """BatchNormalization folded without its shift."""
    plain = lower_module.FoldBatchNormPass.call

    def call(self: object, model: ir.Model) -> ir.passes.PassResult:
        result = plain(self, model)
        for name, value in list(model.graph.initializers.items()):
            if name.endswith("folded.bias"):
                value.const_value = ir.tensor(np.zeros_like(array_of(value)))
        return result

    monkeypatch.setattr(lower_module.FoldBatchNormPass, "call", call)


@pytest.mark.parametrize("mutate", [shift_axis, wrong_scale, other_range, one_sided, no_bias])
def test_a_wrong_graph_does_not_meet_the_bound(
    mutate: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Bench(BUILDERS["resnet_block"](), TENSORRT, FP32)
    plan = one.uniform(INT8)
    right = one.sqnr(one.lower(plan, simulate=True).ir)
    mutate(monkeypatch)
    wrong = one.sqnr(one.lower(plan, simulate=True).ir)

    assert right >= FLOOR_DB[INT8]
    assert wrong < FLOOR_DB[INT8] - 2


def test_swapped_weights_do_not_meet_the_bound() -> None:
    one = bench("resnet_block")
    model = one.lower(one.uniform(INT8), simulate=True).ir
    first, second = node_named(model, "conv1"), node_named(model, "conv2")
    kept = first.inputs[1]
    first.replace_input_with(1, second.inputs[1])
    second.replace_input_with(1, kept)

    assert one.sqnr(model) < 10


# --- sizes, outputs, errors ------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [TENSORRT, ORT_CPU])
def test_int8_weights_are_stored_as_int8(scheme: object) -> None:
    b = Builder()
    hidden = b.node("Relu", "relu", [b.gemm("fc1", b.input("x", ["N", 512]), 512, 512)])
    b.gemm("fc2", hidden, 512, 256)
    b.output("fc2_out", ["N", 256])
    one = Bench(b.model(), scheme, FP16 if scheme is TENSORRT else FP32)  # type: ignore[arg-type]
    lowered = one.lower(one.uniform(INT8)).ir
    big = {v.dtype for v in lowered.graph.initializers.values() if array_of(v).size > 1024}

    assert big == {ir.DataType.INT8}
    assert len(to_bytes(lowered)) < 0.3 * len(to_bytes(one.model.ir))


def test_graph_inputs_and_outputs_are_never_changed(everywhere: list[tuple[str, Lowered]]) -> None:
    for name, lowered in everywhere:
        original = bench(name).model.graph
        for side in ("inputs", "outputs"):
            before, after = ([(v.name, v.dtype) for v in getattr(g, side)] for g in (original, lowered.ir.graph))
            assert before == after, name


def test_lowering_leaves_the_loaded_model_alone() -> None:
    one = bench("resnet_block")
    before = to_bytes(one.model.ir)
    one.lower(one.uniform(INT8))
    one.lower(one.uniform(BF16), simulate=True)

    assert to_bytes(one.model.ir) == before


def test_lowering_is_reproducible() -> None:
    one = bench("mha_block")
    plan = one.random_plan(5)

    assert to_bytes(one.lower(plan).ir) == to_bytes(one.lower(plan).ir)


def test_a_quantised_plan_without_ranges_says_what_to_do() -> None:
    one = bench("mlp")
    with pytest.raises(PlanError, match="needs calibrated ranges; give calibration data by --calib"):
        one.lowerer.lower(one.uniform(INT8), None)


def test_a_value_without_a_range_is_named() -> None:
    one = bench("mlp")
    empty = RangeTable("minmax", {}, {}, {}, 0, "", {})
    with pytest.raises(PlanError, match="value 'x' must be quantised but was not calibrated; run the calibration"):
        one.lowerer.lower(one.uniform(INT8), empty)


def test_float_plans_need_no_ranges() -> None:
    one = bench("mlp")
    check_model(one.lowerer.lower(one.uniform(FP16), None).ir)


@pytest.mark.parametrize("carrier", [INT8, FP8])
def test_the_carrier_must_be_a_float(carrier: Precision) -> None:
    one = bench("mlp")
    with pytest.raises(PlanError, match=f"the carrier must be a float type .*, got {carrier}"):
        Lowerer(one.model, one.partition, TENSORRT, carrier)


def test_a_raised_model_that_lost_a_node_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    one = Bench(BUILDERS["mlp"]())
    other = loaded(BUILDERS["conv_relu"]()).ir
    monkeypatch.setattr(lower_module, "raise_opset", lambda *_: other)
    with pytest.raises(ModelError, match="raising the opset replaced node 'fc1', which belongs to a unit"):
        Lowerer(one.model, one.partition, TENSORRT, FP16).base(19)


@pytest.mark.parametrize(("precision", "smallest"), [(INT8, 2.0**-64), (FP8, 2.0**-64)])
def test_a_value_that_is_always_zero_has_a_positive_scale(precision: Precision, smallest: float) -> None:
    one = Bench(BUILDERS["mlp"](), TENSORRT, FP32)
    zero = dict.fromkeys(one.ranges.clipped, Range(0.0, 0.0))
    table = RangeTable("minmax", zero, zero, {}, 1, "", {})
    lowered = one.lowerer.lower(one.uniform(precision), table).ir

    assert all(float(array_of(n.inputs[1])) >= smallest for n in ops(lowered, "QuantizeLinear"))


def test_scales_are_the_largest_magnitude_over_the_largest_code() -> None:
    one = Bench(BUILDERS["mlp"](), TENSORRT, FP32)
    for precision, largest in ((INT8, 127), (FP8, 448)):
        lowered = one.lower(one.uniform(precision)).ir
        quantize = next(n for n in ops(lowered, "QuantizeLinear") if n.inputs[0].name == "x")

        assert float(array_of(quantize.inputs[1])) == pytest.approx(np.abs(one.feed["x"]).max() / largest, rel=1e-6)


def test_range_tables_survive_a_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    one = bench("mha_block")
    one.ranges.save(tmp_path / "ranges.json")
    again = load_ranges(tmp_path / "ranges.json")
    plan = one.uniform(INT8)

    assert again.clipped == one.ranges.clipped
    assert again.extent == one.ranges.extent
    assert sqnr_db(
        run(one.lower(plan).ir, one.feed), run(one.lowerer.lower(plan, again).ir, one.feed)
    ) > 60


def test_real_cpu_kernels_run_in_8_bits() -> None:
    """The fused operators are there, so the pattern is the one that ONNX Runtime wants."""
    from autoprec.backends.ort import OrtBackend

    one = bench("resnet_block", ORT_CPU, FP32)
    kernels = OrtBackend(1).inspect(to_bytes(one.lower(one.uniform(INT8)).ir), ["stem", "conv1", "conv2", "add"])

    assert {name: ran.operator for name, ran in kernels.items()} == {
        "stem": "QLinearConv",
        "conv1": "QLinearConv",
        "conv2": "QLinearConv",
        "add": "QLinearAdd",
    }


def test_the_feeds_differ_between_samples() -> None:
    """Otherwise most of the above would be vacuous."""
    feed = random_feed(BUILDERS["mlp"](), 4)["x"]

    assert np.ptp(feed, axis=0).min() > 0
