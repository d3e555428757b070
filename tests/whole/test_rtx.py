"""What NVIDIA's own builder says: TensorRT-RTX parses and builds every lowered model, no GPU needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest

from autoprec.backends.scheme import TENSORRT
from autoprec.graph.model import check_model, load_model, to_bytes
from autoprec.graph.topology import Topology
from autoprec.lowering.lowerer import Lowerer
from autoprec.lowering.placement import calibration_tensors
from autoprec.lowering.possible import uniform, why_not
from autoprec.precision import Precision
from autoprec.ranges.bins import Range
from autoprec.ranges.table import RangeTable
from autoprec.units.find import find_units

from ..helpers.lowering_bench import bench, ops
from ..helpers.networks import BUILDERS

trt: Any = pytest.importorskip("tensorrt_rtx", reason="the builder tests need tensorrt-rtx: pip install tensorrt-rtx")

FP32, FP16, BF16, FP8, INT8 = (Precision(p) for p in ("fp32", "fp16", "bf16", "fp8", "int8"))
LOWERED = (FP16, BF16, INT8, FP8)
RANDOM_PLANS = 5
ZOO_PLANS = 20

Build = Callable[..., list[str]]

REFUSED: dict[tuple[str, str], str] = {}
"""(model, plan) -> part of TensorRT-RTX's message, for what it refuses and `why_not` cannot foresee."""


class _Log(trt.ILogger):  # type: ignore[misc]
    """Keeps the messages, which TensorRT would print."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.errors: list[str] = []

    def log(self, severity: Any, message: str) -> None:
        if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
            self.errors.append(message)


@pytest.fixture(scope="session")
def build() -> Build:
    """Parse and build a strongly typed network; returns the errors, none where there is an engine."""
    log = _Log()
    builder = trt.Builder(log)

    def run(model: ir.Model, capability: str = "SM89") -> list[str]:
        log.errors.clear()
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, log)
        if not parser.parse(to_bytes(model)):
            return [parser.get_error(number).desc() for number in range(parser.num_errors)]
        config = builder.create_builder_config()
        profile = builder.create_optimization_profile()
        for number in range(network.num_inputs):
            tensor = network.get_input(number)
            shape = list(tensor.shape)
            if -1 in shape:
                profile.set_shape(tensor.name, *[[n if d < 0 else d for d in shape] for n in (1, 4, 16)])
        config.add_optimization_profile(profile)
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
        engine = builder.build_serialized_network(network, config)
        return [] if engine is not None and engine.nbytes else log.errors or ["no engine and no message"]

    return run


@pytest.mark.parametrize("precision", LOWERED)
@pytest.mark.parametrize("name", BUILDERS)
def test_every_block_builds_under_a_uniform_plan(build: Build, name: str, precision: Precision) -> None:
    one = bench(name)

    assert build(one.lower(one.uniform(precision)).ir) == []


@pytest.mark.parametrize("seed", range(RANDOM_PLANS))
@pytest.mark.parametrize("name", BUILDERS)
def test_every_block_builds_under_random_plans(build: Build, name: str, seed: int) -> None:
    one = bench(name)
    plan = one.random_plan(seed)

    assert build(one.lower(plan).ir) == [], plan


@pytest.mark.parametrize("carrier", [FP32, BF16])
@pytest.mark.parametrize("name", BUILDERS)
def test_every_block_builds_in_int8_around_other_carriers(build: Build, name: str, carrier: Precision) -> None:
    one = bench(name, TENSORRT, carrier)

    assert build(one.lower(one.uniform(INT8)).ir) == []


def test_a_transposed_convolution_stays_float_around_a_bf16_carrier(build: Build) -> None:
    """RTX has no BF16 ConvTranspose; the words of its refusal are the evidence."""
    one = bench("conv_transpose_block", TENSORRT, BF16)
    plan = one.uniform(INT8)

    assert one.place(plan).skipped == {"up": "TensorRT has no BF16 ConvTranspose to carry 8 bits"}
    assert one.place(plan).node_types["up"] is FP32
    forced = one.lower({**dict.fromkeys(plan, FP32), "up": BF16}).ir
    assert "Could not infer output types for operation" in build(forced)[0]


@pytest.mark.parametrize("precision", [FP16, INT8])
@pytest.mark.parametrize("name", ["resnet_block", "mha_block", "mlp"])
def test_ampere_takes_fp16_and_int8(build: Build, name: str, precision: Precision) -> None:
    one = bench(name)

    assert build(one.lower(one.uniform(precision)).ir, "SM80") == []


def test_ampere_refuses_fp8(build: Build) -> None:
    one = bench("mlp")
    (words, *_) = build(one.lower(one.uniform(FP8)).ir, "SM80")

    assert "Cannot compile for target(s) sm80" in words
    assert "the model contains HW-specific datatypes: fp8_e4m3" in words


# --- the model zoo ---------------------------------------------------------------------------------------

ZOO = Path(os.environ.get("AUTOPREC_ZOO", ""))
NAMES = ("etinynet", "kwt1", "mobilenet_v1_075", "ncf_ml1m", "resnet20_cifar10", "stories260k")


@pytest.mark.zoo
@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("AUTOPREC_ZOO"), reason="AUTOPREC_ZOO names no folder")
@pytest.mark.parametrize("name", NAMES)
def test_every_zoo_model_builds(build: Build, name: str) -> None:
    """Ranges do not matter to the builder, so all are one."""
    import random

    model = load_model(ZOO / name / "model.onnx")
    partition, topology = find_units(model.graph), Topology(model.graph)
    possible = {u.name: {p: why_not(topology, u, p, TENSORRT) for p in Precision} for u in partition.units}
    lowerer = Lowerer(model, partition, TENSORRT, FP16)
    plans = {str(p): uniform(partition, p, possible, FP16) for p in LOWERED}
    for seed in range(ZOO_PLANS):
        draw = random.Random(seed)
        plans[f"random {seed}"] = {
            unit: draw.choice([p for p in Precision if found[p] is None]) for unit, found in possible.items()
        }
    failures = {}
    for label, plan in plans.items():
        names = calibration_tensors(*(lambda found: (found[0], [found[1]]))(lowerer.placement(plan)))
        spans = dict.fromkeys(names, Range(-4.0, 4.0))
        lowered = lowerer.lower(
            plan,
            RangeTable(method="minmax", clipped=spans, extent=spans, means={}, samples=1, fingerprint="", evidence={}),
        ).ir
        check_model(lowered)
        errors = build(lowered)
        expected = REFUSED.get((name, label.split()[0]))
        if errors and not (expected and expected in errors[0]):
            failures[label] = errors[0][:400]
    sys.stderr.write(f"{name}: {len(plans) - len(failures)} of {len(plans)} plans build\n")

    assert failures == {}
    assert ops(model.ir, "QuantizeLinear") == []
