"""Plans written into models: valid ONNX, the builder's hard constraints, and the right numbers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoprec.backends.scheme import ORT_CPU, SCHEMES, TENSORRT
from autoprec.errors import PlanError
from autoprec.graph.model import check_model, to_bytes
from autoprec.lowering import lowerer as lower_module
from autoprec.lowering.lowerer import Lowerer
from autoprec.lowering.passes.insert_qdq import InsertQDQPass
from autoprec.lowering.passes.quantize_weights import QuantizeWeightsPass
from autoprec.lowering.passes.type_slots import DATA_TYPES, following_slots
from autoprec.precision import CARRIERS, FLOATS, Precision
from autoprec.ranges.affine import QuantParams
from autoprec.ranges.bins import Range
from autoprec.ranges.table import RangeTable, load_ranges

from ..helpers.lowering_bench import Bench, array_of, bench, node_named, ops, run, sqnr_db
from ..helpers.networks import BUILDERS, random_feed
from ..helpers.onnx_builder import Builder

FP32, FP16, BF16, FP8, INT8 = (Precision(p) for p in ("fp32", "fp16", "bf16", "fp8", "int8"))

FLOOR_DB = {FP32: 130.0, FP16: 55.0, BF16: 37.0, INT8: 30.0, Precision.INT8_DYNAMIC: 30.0, FP8: 19.0}
FLOOR_DB |= {Precision.INT8_WEIGHTS: 30.0, Precision.MXFP8: 19.0, Precision.NVFP4: 8.0}
FLOOR_DB |= {p: 10.0 for p in Precision if p.block}
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
        tied = following_slots(node, model.opset_imports, FP16)[0]
        types = {str(v.dtype) for i in tied if (v := node.inputs[i]) is not None and v.dtype in DATA_TYPES.values()}
        found.append((str(node.name), types))
    return found


# --- every block, any plan -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BUILDERS)
@given(seed=st.integers(0, 10**6), scheme=st.sampled_from(sorted(SCHEMES)), carrier=st.sampled_from(CARRIERS))
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

    assert to_bytes(lowered.ir) == to_bytes(one.model.original)
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
    # ONNX Runtime 1.23, the last for Python 3.10, divides by a half-precision scale in half precision.
    newer = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 30)
    for precision, alike_db in ((INT8, 38 if newer else 20), (FP8, 26)):
        plan = one.uniform(precision)
        typed, twin = run(one.lower(plan).ir, one.feed), run(one.lower(plan, simulate=True).ir, one.feed)

        assert sqnr_db(typed, twin) > alike_db, precision


# --- what a wrong graph would give -----------------------------------------------------------------------


def shift_axis(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scales applied to the next channel."""
    plain = QuantizeWeightsPass.call

    def call(self: QuantizeWeightsPass, model: ir.Model) -> ir.passes.PassResult:
        result = plain(self, model)
        for scale in {node.inputs[1] for node in ops(model, "DequantizeLinear")}:
            scale.const_value = ir.tensor(np.roll(array_of(scale), 1))
        return result

    monkeypatch.setattr(QuantizeWeightsPass, "call", call)


def wrong_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Activation scales a tenth too small, so that the largest values are clipped."""
    plain = InsertQDQPass.call

    def call(self: InsertQDQPass, model: ir.Model) -> ir.passes.PassResult:
        self.scales = {k: QuantParams(0.5 * s.scale, s.zero_point, s.signed) for k, s in self.scales.items()}
        return plain(self, model)

    monkeypatch.setattr(InsertQDQPass, "call", call)


def other_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each value quantised with the range of another one, eight times as wide."""
    monkeypatch.setattr(lower_module, "range_of", lambda *_: Range(-40.0, 40.0))


def one_sided(monkeypatch: pytest.MonkeyPatch) -> None:
    """Different scales at the two ends of a pair."""
    plain = InsertQDQPass.call

    def call(self: InsertQDQPass, model: ir.Model) -> ir.passes.PassResult:
        result = plain(self, model)
        for node in ops(model, "DequantizeLinear"):
            if node.inputs[0].producer() is not None:
                value = ir.Value(
                    name=f"{node.name}/wrong", const_value=ir.tensor(array_of(node.inputs[1]) * np.float32(1.1))
                )
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
    empty = RangeTable(method="minmax", clipped={}, extent={}, means={}, samples=0, fingerprint="", evidence={})
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


@pytest.mark.parametrize(("precision", "smallest"), [(INT8, 2.0**-64), (FP8, 2.0**-64)])
def test_a_value_that_is_always_zero_has_a_positive_scale(precision: Precision, smallest: float) -> None:
    one = Bench(BUILDERS["mlp"](), TENSORRT, FP32)
    zero = dict.fromkeys(one.ranges.clipped, Range(0.0, 0.0))
    table = RangeTable(method="minmax", clipped=zero, extent=zero, means={}, samples=1, fingerprint="", evidence={})
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
    assert sqnr_db(run(one.lower(plan).ir, one.feed), run(one.lowerer.lower(plan, again).ir, one.feed)) > 60


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
