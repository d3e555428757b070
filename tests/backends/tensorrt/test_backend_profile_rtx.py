"""Profiles by unit of engines that NVIDIA's real builder made for a GPU that is not here; their times are modelled."""

from __future__ import annotations

import pytest

from autoprec.backends.protocol import TimeProfile
from autoprec.backends.tensorrt.backend import TensorRtBackend
from autoprec.backends.tensorrt.records import BuildOptions
from autoprec.graph.model import to_bytes
from autoprec.precision import Precision
from autoprec.proof.inspect import time_profile_of

from ...helpers.lowering_bench import Plan, bench

pytest.importorskip("tensorrt_rtx", reason="the real builder needs tensorrt-rtx: pip install tensorrt-rtx")

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8
CNNS = ("resnet_downsample", "depthwise_block", "concat_block", "pool_block", "silu_block", "conv_transpose_block")


@pytest.fixture(name="backend", scope="module")
def _backend(tmp_path_factory: pytest.TempPathFactory) -> TensorRtBackend:
    return TensorRtBackend(
        "tensorrt-rtx", BuildOptions(targets=("sm89",)), 1, tmp_path_factory.mktemp("engines"), batch=4
    )


def profiled(backend: TensorRtBackend, name: str, plan: Plan) -> TimeProfile:
    one = bench(name)
    return time_profile_of(one.partition, backend, to_bytes(one.lower(plan).ir), {})


def between_units(found: TimeProfile) -> dict[tuple[str, str], float]:
    return {pair: ms for pair, ms in found.boundary_ms.items() if all(pair)}


def mixed(name: str) -> Plan:
    """INT8, with every other convolution in FP16."""
    one = bench(name)
    heavy = [unit.name for unit in one.partition.units if unit.macs]
    return one.uniform(INT8, **dict.fromkeys(heavy[1::2], FP16))


@pytest.mark.parametrize("plan", ["fp16", "int8", "mixed"])
@pytest.mark.parametrize("name", CNNS)
def test_at_least_95_percent_of_a_cnn_is_attributed(backend: TensorRtBackend, name: str, plan: str) -> None:
    one = bench(name)
    found = profiled(backend, name, mixed(name) if plan == "mixed" else one.uniform(Precision(plan)))

    assert found.share >= 0.95, found.rest
    assert min(found.unit_ms[unit.name] for unit in one.partition.units if unit.macs) > 0


@pytest.mark.parametrize("name", ["resnet_block", "pool_block", "depthwise_block"])
@pytest.mark.parametrize("precision", [FP32, FP16])
def test_a_uniform_float_plan_costs_nothing_between_units(
    backend: TensorRtBackend, name: str, precision: Precision
) -> None:
    """At the ends of the network its type or layout may change."""
    plan = dict.fromkeys(bench(name).uniform(FP16), precision)

    assert between_units(profiled(backend, name, plan)) == {}


def test_a_mixed_plan_costs_time_where_its_precision_changes(backend: TensorRtBackend) -> None:
    found = between_units(profiled(backend, "resnet_block", bench("resnet_block").uniform(INT8, conv1=FP16)))

    assert set(found) == {("conv1", "conv2")}  # the other way the conversion is fused into the stem
    assert found["conv1", "conv2"] > 0


def test_a_kernel_of_several_units_is_shared_by_their_work(backend: TensorRtBackend) -> None:
    """In FP16 conv1 and its Relu are one kernel; were the Relu a unit, it would have no work of its own."""
    one = bench("resnet_block")
    model = to_bytes(one.lower(one.uniform(FP16)).ir)
    home = {node: unit.name for unit in one.partition.units for node in unit.nodes} | {"relu1": "alone"}
    macs = {unit.name: unit.macs for unit in one.partition.units}
    by_work, equally = (backend.profile(model, {}, home, weights) for weights in (macs, {}))

    assert equally.unit_ms["alone"] == pytest.approx(equally.unit_ms["conv1"])
    assert by_work.unit_ms["conv1"] == pytest.approx(2 * equally.unit_ms["conv1"])
    assert "alone" not in by_work.unit_ms
