"""Requested beside ran: what was honoured, what was not, and what is a reason to fail."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.backends.protocol import RanAs
from autoprec.backends.scheme import ORT_CPU
from autoprec.backends.tensorrt.inspector import parse_layers
from autoprec.backends.tensorrt.nodes import ran_as
from autoprec.graph.model import to_bytes
from autoprec.lowering.placement import quantized_macs
from autoprec.precision import Precision
from autoprec.proof.verification import UnitRan, UnitStatus, Verification, verify
from autoprec.units.records import Partition, Unit

from ..helpers.lowering_bench import Bench, Plan, bench
from ..helpers.networks import BUILDERS
from ..helpers.tensorrt.rtx_log import layers_text

FP32, FP16, BF16, FP8, INT8 = (Precision(p) for p in ("fp32", "fp16", "bf16", "fp8", "int8"))
DYNAMIC = Precision.INT8_DYNAMIC
RECORDED = Path(__file__).parents[1] / "backends" / "tensorrt" / "recorded"


def unit(name: str, kind: str = "conv", macs: int = 100, *, nodes: str = "", anchors: str = "") -> Unit:
    members = tuple(nodes.split()) or (name,)
    return Unit(
        name=name,
        kind=kind,
        nodes=members,
        anchors=tuple(anchors.split()) or (name,),
        inputs=(),
        outputs=(),
        macs=macs,
        weights=0,
        key=name,
    )


def partition(*units: Unit) -> Partition:
    return Partition(units=units, reasons={}, edges=())


def judged(name: str, requested: Precision, found: Precision | None, status: UnitStatus) -> UnitRan:
    return UnitRan(unit=name, requested=requested, written=requested, ran=found, status=status, heavy=True, macs=1)


def ran(precision: Precision | None, layer: str = "layer", *beside: str) -> RanAs:
    quantized = precision is not None and precision.is_quantized
    return RanAs(
        operator="CaskConvolution",
        quantized=quantized,
        precision=precision,
        layer=layer,
        tactic="kernel",
        beside=beside,
    )


def nodes_of(one: Bench) -> list[str]:
    return [node for unit in one.partition.units for node in unit.nodes]


def verified(one: Bench, plan: Plan, text: str) -> Verification:
    topology, placement = one.lowerer.placement(plan)
    written = quantized_macs(topology, one.partition, placement)
    found = ran_as(parse_layers(text), nodes_of(one))
    return verify(one.partition, plan, found, written=written, skipped=placement.skipped)


def statuses(result: Verification) -> Mapping[str, str]:
    return {found.unit: found.status for found in result.units}


@pytest.mark.parametrize("precision", list(Precision))
def test_honoured(precision: Precision) -> None:
    result = verify(partition(unit("conv")), {"conv": precision}, {"conv": ran(precision)})

    assert result.units == (
        UnitRan(
            unit="conv",
            requested=precision,
            written=precision,
            ran=precision,
            status=UnitStatus.HONOURED,
            heavy=True,
            macs=100,
            layer="layer",
            operator="CaskConvolution",
            tactic="kernel",
        ),
    )
    assert result.mac_share == {str(precision): 1.0}
    assert (result.refused, result.unproven, result.complaint()) == ((), (), None)


@pytest.mark.parametrize(("asked", "got"), [(INT8, FP16), (FP32, FP16), (FP16, FP32), (FP8, INT8), (FP16, BF16)])
def test_another_precision_is_not_honoured_in_either_direction(asked: Precision, got: Precision) -> None:
    result = verify(partition(unit("conv")), {"conv": asked}, {"conv": ran(got, "conv + relu")})

    assert statuses(result) == {"conv": "not honoured"}
    assert [found.unit for found in result.refused] == ["conv"]
    assert result.mac_share == {str(got): 1.0}
    assert result.complaint() == (
        "the engine must run each convolution and matrix product in the precision of the plan, but 1 of 1 units with "
        "such work run in another; give them the precision that they ran in, or pin them to fp32 or fp16:\n"
        f"  conv was asked for in {asked} but runs in {got}: layer 'conv + relu', tactic kernel"
    )


@pytest.mark.parametrize(
    ("asked", "kernel", "fits"),
    [
        (INT8, RanAs("QLinearMatMul", quantized=True), True),
        (INT8, RanAs("DynamicQuantizeMatMul", quantized=True, precision=DYNAMIC), False),
        (DYNAMIC, RanAs("DynamicQuantizeMatMul", quantized=True, precision=DYNAMIC), True),
        (DYNAMIC, RanAs("QLinearMatMul", quantized=True), False),
        (DYNAMIC, RanAs("MatMul", quantized=False), False),
        (FP32, RanAs("MatMul", quantized=False), True),
    ],
)
def test_codes_by_calibrated_ranges_are_no_codes_by_ranges_of_the_run(
    asked: Precision, kernel: RanAs, fits: bool
) -> None:
    result = verify(partition(unit("product", "matmul")), {"product": asked}, {"product": kernel})

    assert (result.complaint() is None) is fits
    assert [found.unit for found in result.refused] == ([] if fits else ["product"])


def test_a_unit_that_the_plan_does_not_name_is_fp32() -> None:
    result = verify(partition(unit("a"), unit("b")), {}, {"a": ran(FP32), "b": ran(FP16)})

    assert statuses(result) == {"a": "honoured", "b": "not honoured"}
    assert result.mac_share == {"fp16": 0.5, "fp32": 0.5}


def test_light_units_are_reported_but_no_reason_to_fail() -> None:
    result = verify(partition(unit("pool", "pool", 0)), {"pool": INT8}, {"pool": ran(FP16)})

    assert statuses(result) == {"pool": "not honoured"}
    assert (result.refused, result.complaint()) == ((), None)


def test_a_light_unit_inside_a_product_of_another_is_fused() -> None:
    units = partition(unit("conv"), unit("add", "add", 0))
    result = verify(units, {"conv": INT8, "add": FP16}, {"conv": ran(INT8, "c", "add"), "add": ran(INT8, "c", "conv")})

    (_, add) = result.units
    assert (add.status, add.into, add.layer) == ("fused", "conv", "c")
    assert add.describe() == "add was asked for in fp16 and is fused into layer 'c', tactic kernel of conv"
    assert result.unproven == ()


def test_a_kernel_of_several_types_is_fused_and_names_the_heaviest_partner() -> None:
    units = partition(unit("small", macs=1), unit("big", macs=9), unit("gap", "pool", 0))
    found = {"small": ran(FP16, "s"), "big": ran(FP16, "b"), "gap": ran(None, "k", "small", "big")}
    result = verify(units, dict.fromkeys(("small", "big", "gap"), FP16), found)

    assert (result.units[2].status, result.units[2].into) == ("fused", "big")


def test_a_product_in_an_opaque_block_is_unproven() -> None:
    """Neither honoured nor refused: its share is unknown."""
    units = partition(unit("q", "matmul"), unit("k", "matmul", 300))
    result = verify(units, {"q": FP16, "k": FP32}, {"q": ran(None, "{ForeignNode[q...k]}", "k"), "k": ran(FP32, "k")})

    assert statuses(result) == {"q": "fused", "k": "honoured"}
    assert [found.unit for found in result.unproven] == ["q"]
    assert result.mac_share == {"fp32": 0.75, "unknown": 0.25}
    assert result.complaint() is None


def test_two_products_in_one_kernel_keep_their_precision() -> None:
    """Merged side by side, the tensors tell of both; each can be refused."""
    units = partition(unit("q", "matmul"), unit("k", "matmul"))
    result = verify(units, {"q": INT8, "k": FP16}, {"q": ran(INT8, "q+k", "k"), "k": ran(INT8, "q+k", "q")})

    assert statuses(result) == {"q": "honoured", "k": "not honoured"}


def test_gone() -> None:
    """Without its convolution a unit is gone, even if the activation is left; a light one goes by any node."""
    conv, gelu = unit("conv", nodes="conv relu"), unit("gelu", "pointwise", 0, nodes="erf gelu")
    result = verify(partition(conv, gelu), {"conv": INT8, "gelu": FP16}, {"relu": ran(FP16), "erf": ran(FP16)})

    assert statuses(result) == {"conv": "gone", "gelu": "honoured"}
    assert [found.unit for found in result.unproven] == ["conv"]
    assert result.units[0].describe() == "conv was asked for in int8, but the engine names none of its nodes"
    assert statuses(verify(partition(gelu), {}, {})) == {"gelu": "gone"}


@pytest.mark.parametrize(
    ("first", "second", "status", "precision"),
    [
        (INT8, FP16, "not honoured", FP16),
        (INT8, None, "fused", None),
        (None, FP16, "not honoured", FP16),
        (FP16, FP32, "not honoured", FP32),
        (INT8, INT8, "honoured", INT8),
    ],
)
def test_the_worst_anchor_speaks_for_the_unit(
    first: Precision | None, second: Precision | None, status: str, precision: Precision | None
) -> None:
    qkv = unit("v", "matmul", nodes="q v", anchors="q v")
    for found in ({"q": ran(first), "v": ran(second)}, {"q": ran(second), "v": ran(first)}):
        (only,) = verify(partition(qkv), {"v": INT8}, found).units
        assert (only.status, only.ran) == (status, precision)


def test_what_was_never_written_is_not_the_runtimes_fault() -> None:
    units = partition(unit("up"), unit("b"))
    result = verify(
        units,
        {"up": INT8, "b": INT8},
        {"up": ran(FP32), "b": ran(FP16)},
        written={"up": FP32, "b": INT8},
        skipped={"up": "there is no such kernel"},
    )

    assert statuses(result) == {"up": "not honoured", "b": "not honoured"}
    assert [found.unit for found in result.refused] == ["b"]
    assert result.units[0].describe() == (
        "up was asked for in int8 but runs in fp32 (there is no such kernel): layer 'layer', tactic kernel"
    )


def test_what_was_never_written_can_be_refused_all_the_same() -> None:
    result = verify(partition(unit("up")), {"up": INT8}, {"up": ran(FP16)}, written={"up": FP32})

    assert [found.unit for found in result.refused] == ["up"]
    assert result.units[0].why == "the model asks for fp32"


def test_the_record_is_json_and_counts() -> None:
    units = partition(unit("a"), unit("b"), unit("p", "pool", 0))
    record = verify(units, {"a": INT8}, {"a": ran(INT8), "b": ran(FP16)}).to_record()

    assert json.loads(json.dumps(record)) == record
    assert record["counts"] == {"honoured": 1, "fused": 0, "not honoured": 1, "gone": 1}
    assert (record["refused"], record["unproven"]) == (["b"], [])
    assert record["units"]["b"] == {
        "requested": "fp32",
        "written": "fp32",
        "ran": "fp16",
        "status": "not honoured",
        "macs": 100,
        "layer": "layer",
        "operator": "CaskConvolution",
        "tactic": "kernel",
    }
    assert record["units"]["p"]["ran"] is None


def test_onnx_runtime_only_tells_whether_codes_are_computed_on() -> None:
    one = bench("resnet_block", ORT_CPU, FP32)
    plan = one.uniform(INT8)
    found = OrtBackend(1).inspect(to_bytes(one.lower(plan).ir), nodes_of(one))
    result = verify(one.partition, plan, found)
    wrong = verify(one.partition, dict.fromkeys(plan, FP32), found)

    assert set(statuses(result).values()) == {"honoured"}
    assert result.mac_share == {"unknown": 1.0}
    assert [unit.unit for unit in wrong.refused] == ["stem", "conv1", "conv2"]
    assert "stem was asked for in fp32 but runs in 8 bits" in str(wrong.complaint())


# --- TensorRT -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["documented-8.6", "documented-10.x", "documented-11.x", "rtx-1.7.1"])
def test_recordings_of_every_form_prove_the_int8_plan(form: str) -> None:
    one = bench("resnet_block")
    name = f"{form}-resnet_block-int8.{'txt' if form.startswith('rtx') else 'json'}"
    text = (RECORDED / name).read_text(encoding="utf-8")
    result = verified(one, one.uniform(INT8), text)

    assert set(statuses(result).values()) == {"honoured"}
    assert result.mac_share == {"int8": 1.0}
    assert {found.unit for found in verified(one, one.uniform(FP16), text).refused} == {"stem", "conv1", "conv2"}


def test_a_convolution_of_8_6_that_fell_back_is_refused_by_layer_and_tactic() -> None:
    """The first line of defence: int8 was asked for, the builder chose a half kernel."""
    one = bench("resnet_block")
    engine = json.loads((RECORDED / "documented-8.6-resnet_block-int8.json").read_text(encoding="utf-8"), strict=False)
    fallen = engine["Layers"][2]
    fallen["Inputs"][0]["Format/Datatype"] = "Channel major FP16 format where channel % 8 == 0"
    fallen["Weights"]["Type"] = "Half"
    fallen["TacticName"] = "sm80_xmma_fprop_f16f16"
    result = verified(one, one.uniform(INT8), json.dumps(engine))

    assert statuses(result) == {"stem": "honoured", "conv1": "not honoured", "conv2": "honoured"}
    (refused,) = result.refused
    assert refused.describe() == (
        "conv1 was asked for in int8 but runs in fp16: layer 'conv1/folded.weight/int8/dequantize + conv1 + relu1', "
        "tactic sm80_xmma_fprop_f16f16"
    )


def test_rtx_has_no_int8_transposed_convolution() -> None:
    one = bench("conv_transpose_block")
    text = (RECORDED / "rtx-1.7.1-conv_transpose_block-int8.txt").read_text(encoding="utf-8")
    result = verified(one, one.uniform(INT8), text)

    assert [(found.unit, found.ran, found.operator) for found in result.refused] == [("up", FP16, "deconv")]


def test_the_recorded_attention_is_proved() -> None:
    one = bench("mha_block")
    text = (RECORDED / "rtx-1.7.1-mha_block-fp8.txt").read_text(encoding="utf-8")
    result = verified(one, one.uniform(FP8), text)

    assert result.mac_share == {"fp8": 1.0}
    assert [found.unit for found in result.units if found.status == "fused"] == ["norm"]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("name", sorted(set(BUILDERS) - {"conv_transpose_block"}))
def test_the_real_builder_honours_random_plans(name: str, seed: int) -> None:
    """TensorRT-RTX is strongly typed, so all products run as asked, and verification must see that.

    Weights of 4 bits are left out: in networks so small, the builder often makes floats of them beforehand.
    """
    one = bench(name)
    plan = {unit: FP16 if precision.block else precision for unit, precision in one.random_plan(seed).items()}
    result = verified(one, plan, layers_text(to_bytes(one.lower(plan).ir)))

    assert (result.complaint(), result.unproven) == (None, ())
    assert sum(result.mac_share.values()) == pytest.approx(1.0)
    assert "unknown" not in result.mac_share
