"""The model on engines that NVIDIA's own builder made: TensorRT-RTX decides what is fused, the model prices it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from autoprec.backends.scheme import TENSORRT
from autoprec.backends.tensorrt.gpus import default_gpu
from autoprec.backends.tensorrt.inspector import parse_layers
from autoprec.backends.tensorrt.records import EngineLayer
from autoprec.backends.tensorrt.roofline import engine_ms
from autoprec.backends.tensorrt.workload import products_of, role_of
from autoprec.graph.model import to_bytes
from autoprec.precision import Precision

from ...helpers.lowering_bench import Bench, bench
from ...helpers.networks import BUILDERS
from ...helpers.onnx_builder import Builder

trt: Any = pytest.importorskip("tensorrt_rtx", reason="the builder tests need tensorrt-rtx: pip install tensorrt-rtx")

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8
BATCH = 16
Layers = tuple[EngineLayer, ...]
Build = Callable[..., Layers]


class _Log(trt.ILogger):  # type: ignore[misc]
    """Keeps the messages, among which the builder lists the engine's layers."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.lines: list[str] = []

    def log(self, _severity: Any, message: str) -> None:
        self.lines.append(message)


@pytest.fixture(name="build", scope="module")
def _build() -> Build:
    """Build a lowered plan for sm89 and one batch size; returns its layers."""
    log = _Log()
    builder = trt.Builder(log)

    def run(one: Bench, plan: Mapping[str, Precision], batch: int = BATCH) -> Layers:
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        assert trt.OnnxParser(network, log).parse(to_bytes(one.lower(plan).ir))
        config = builder.create_builder_config()
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        profile = builder.create_optimization_profile()
        for tensor in map(network.get_input, range(network.num_inputs)):
            shape = [batch if size < 0 else size for size in tensor.shape]
            profile.set_shape(tensor.name, shape, shape, shape)
        config.add_optimization_profile(profile)
        config.num_compute_capabilities = 1
        config.set_compute_capability(trt.ComputeCapability.SM89, 0)
        log.lines.clear()
        assert builder.build_serialized_network(network, config) is not None
        return parse_layers("\n".join(log.lines))

    return run


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("precision", [FP16, INT8])
def test_every_product_of_every_block_is_found(build: Build, name: str, precision: Precision) -> None:
    """A layer whose operands were overlooked would be priced as if it only copied."""
    one = bench(name)
    layers = build(one, one.uniform(precision))

    assert [layer for layer in layers if role_of(layer) not in ("other", "none") and not products_of(layer)] == []
    assert 0 < engine_ms(layers, default_gpu("sm89")).total_ms < 1.0


def _flops(layers: Layers) -> int:
    return sum(product.flops for layer in layers for product in products_of(layer))


@pytest.mark.parametrize(
    ("name", "per_sample"),
    [
        ("conv_relu", 64 * 48 * 32 * 9),
        ("depthwise_block", 64 * 32 * 9 + 64 * 64 * 32),
        ("mlp", 64 * 128 + 128 * 32),
        ("mha_block", 4 * 16 * 64 * 64 + 2 * 4 * 16 * 16 * 16),
    ],
)
def test_operations_are_those_of_the_network(build: Build, name: str, per_sample: int) -> None:
    """Counted by hand: products of weights and activations for one sample."""
    one = bench(name)

    assert _flops(build(one, one.uniform(FP16))) == 2 * BATCH * per_sample


@pytest.fixture(name="chain", scope="module")
def _chain() -> Bench:
    """Eight wide pointwise convolutions with ReLU, where a boundary is dear."""
    b = Builder()
    x = b.input("x", ["N", 64, 32, 32])
    for number in range(8):
        x = b.node("Relu", f"relu{number}", [b.conv(f"conv{number}", x, 64, 64, kernel=1)])
    b.output(x, ["N", 64, 32, 32])
    return Bench(b.model())


@pytest.mark.parametrize("batch", [16, 128])
def test_a_plan_of_many_boundaries_loses_to_a_uniform_one(build: Build, chain: Bench, batch: int) -> None:
    alternating = {unit: (FP16, INT8)[number % 2] for number, unit in enumerate(chain.uniform(FP16))}
    plans = (chain.uniform(FP16), alternating)
    mixed, uniform = (build(chain, plan, batch) for plan in plans[::-1])

    gpu = default_gpu("sm89")
    assert len(mixed) > len(uniform)
    assert engine_ms(mixed, gpu).total_ms > 1.2 * engine_ms(uniform, gpu).total_ms


def test_half_precision_beats_single(build: Build, chain: Bench) -> None:
    single = Bench(chain.proto, TENSORRT, FP32)
    gpu = default_gpu("sm89")

    fp16 = engine_ms(build(chain, chain.uniform(FP16), 128), gpu).total_ms
    assert fp16 < 0.7 * engine_ms(build(single, single.uniform(FP32), 128), gpu).total_ms


def test_linear_layers_gain_by_int8(build: Build) -> None:
    """TensorRT-RTX fuses their scales, unlike those of convolutions."""
    b = Builder()
    x = b.input("x", ["N", 256, 1024])
    for number in range(3):
        x = b.linear(f"fc{number}", x, 1024, 1024)
    b.output(x, ["N", 256, 1024])
    one = Bench(b.model())
    gpu = default_gpu("sm89")

    int8, fp16 = (engine_ms(build(one, one.uniform(p)), gpu).total_ms for p in (INT8, FP16))
    assert int8 < fp16


def test_a_larger_batch_costs_more_but_less_for_each_sample(build: Build, chain: Bench) -> None:
    gpu = default_gpu("sm89")
    small, large = (engine_ms(build(chain, chain.uniform(FP16), batch), gpu).total_ms for batch in (1, 16))

    assert small < large < 16 * small
