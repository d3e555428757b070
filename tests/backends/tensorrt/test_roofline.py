"""The model's prices: each claim is an order or a limit that real GPUs show."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprec.backends.tensorrt.gpus import all_gpus, gpu_named
from autoprec.backends.tensorrt.inspector import parse_layers
from autoprec.backends.tensorrt.records import EngineLayer, LayerTensor
from autoprec.backends.tensorrt.roofline import (
    COMPUTE_EFFICIENCY,
    DRAM_EFFICIENCY,
    LAUNCH_US,
    SM_GB_S,
    TILE,
    engine_ms,
    layer_ms,
)
from autoprec.backends.tensorrt.workload import role_of
from autoprec.errors import BackendError

LAUNCH_MS = LAUNCH_US / 1e3
L4, A100, H200, T4 = (gpu_named(name) for name in ("l4", "a100", "h200", "t4"))
KEYS = [gpu.key for gpu in all_gpus()]


def conv(
    batch: int = 64, channels: int = 256, side: int = 28, *, dtype: str = "fp16", groups: int = 1, taps: int = 3
) -> EngineLayer:
    image = (batch, channels, side, side)
    weight = LayerTensor("w", (channels, channels // groups, taps, taps), dtype)
    return EngineLayer(
        name="conv",
        kind="correlation",
        nodes=("conv",),
        inputs=(LayerTensor("x", image, dtype),),
        outputs=(LayerTensor("y", image, dtype),),
        constants=(weight,),
    )


def cast(before: str, after: str, batch: int = 64, channels: int = 256, side: int = 28) -> EngineLayer:
    image = (batch, channels, side, side)
    tensors = LayerTensor("x", image, before), LayerTensor("y", image, after)
    return EngineLayer(name="cast", kind="Reformat", nodes=(), inputs=tensors[:1], outputs=tensors[1:])


def gemm(rows: int, columns: int, depth: int) -> EngineLayer:
    return EngineLayer(
        name="fc",
        kind="gemm",
        nodes=(),
        inputs=(LayerTensor("x", (rows, depth), "fp16"),),
        outputs=(LayerTensor("y", (rows, columns), "fp16"),),
        constants=(LayerTensor("w", (depth, columns), "fp16"),),
    )


@pytest.mark.parametrize("key", KEYS)
def test_a_big_convolution_gains_by_each_halving_of_its_type(key: str) -> None:
    gpu = gpu_named(key)
    fp32, fp16, int8 = (layer_ms(conv(dtype=dtype), gpu) for dtype in ("fp32", "fp16", "int8"))

    assert 0.45 < int8 / fp16 < 0.6 or "GeForce" in gpu.name
    assert int8 < fp16 < 0.65 * fp32


def test_a_large_product_runs_at_the_attainable_peak() -> None:
    one = gemm(8192, 8192, 8192)
    ideal_ms = 2 * 8192**3 / (COMPUTE_EFFICIENCY * 312e12) * 1e3

    assert layer_ms(one, A100) == pytest.approx(ideal_ms, rel=0.01)


def test_a_large_copy_runs_at_the_attainable_bandwidth() -> None:
    one = cast("fp32", "fp32", batch=512)
    moved = 2 * 4 * 512 * 256 * 28 * 28

    assert layer_ms(one, A100) == pytest.approx(moved / (DRAM_EFFICIENCY * 2039e9) * 1e3, rel=0.02)


def test_kernels_cannot_use_all_of_the_fastest_memory() -> None:
    one = cast("fp32", "fp32", batch=512)
    moved = 2 * 4 * 512 * 256 * 28 * 28

    assert layer_ms(one, H200) == pytest.approx(moved / (SM_GB_S * 132e9) * 1e3, rel=0.02)


def test_what_the_cache_holds_is_read_faster_than_memory() -> None:
    """The L4's memory is slow and its cache large."""
    small, large = cast("fp16", "fp16", batch=8), cast("fp16", "fp16", batch=512)

    assert (layer_ms(large, L4) - LAUNCH_MS) / (layer_ms(small, L4) - LAUNCH_MS) > 3 * 512 / 8


@pytest.mark.parametrize("key", KEYS)
def test_a_tiny_layer_costs_its_launch(key: str) -> None:
    assert LAUNCH_MS < layer_ms(conv(batch=1, channels=32, side=8), gpu_named(key)) < 1.5 * LAUNCH_MS


@pytest.mark.parametrize("kind", ["signal", "wait", "shape_call", "NoOp", "Constant"])
def test_what_launches_no_kernel_costs_nothing(kind: str) -> None:
    assert layer_ms(replace(cast("fp16", "fp16"), kind=kind), L4) == 0.0


def test_a_wave_that_is_not_full_costs_as_much_as_a_full_one() -> None:
    """108 blocks fill the A100; one row more doubles the time of the arithmetic."""
    tall, wide = TILE
    full, more = gemm(12 * tall, 9 * wide, 65536), gemm(12 * tall + 1, 9 * wide, 65536)

    ratio = (layer_ms(more, A100) - LAUNCH_MS) / (layer_ms(full, A100) - LAUNCH_MS)
    assert ratio == pytest.approx(2.0, rel=0.01)


def test_a_small_product_leaves_multiprocessors_idle() -> None:
    """A hundredth of the work takes much more than a hundredth of the time."""
    large, small = gemm(6400, 4096, 4096), gemm(64, 4096, 4096)

    assert layer_ms(small, H200) > 0.02 * layer_ms(large, H200)


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_depthwise_convolutions_are_bound_by_memory(dtype: str) -> None:
    one = conv(groups=256, dtype=dtype)
    traffic_only = replace(one, kind="Reformat", constants=())

    assert layer_ms(one, L4) == pytest.approx(layer_ms(traffic_only, L4), rel=0.01)


def test_fp32_runs_as_tf32_where_there_is_any() -> None:
    """T4: 8.1 TFLOP/s; A100: 156 as TF32 instead of 19.5."""
    one = gemm(8192, 8192, 8192)
    single = replace(
        one,
        inputs=(replace(one.inputs[0], dtype="fp32"),),
        constants=(replace(one.constants[0], dtype="fp32"),),
    )

    assert layer_ms(single, A100) == pytest.approx(2 * layer_ms(one, A100), rel=0.01)
    assert layer_ms(single, T4) == pytest.approx(65 / 8.1 * layer_ms(one, T4), rel=0.05)


@pytest.mark.parametrize("key", KEYS)
def test_boundaries_can_cost_more_than_lower_precision_gains(key: str) -> None:
    """Depthwise-separable layers: INT8 in every second one, with conversions around it, against all FP16."""
    gpu = gpu_named(key)
    uniform = [conv(taps=1, channels=96, side=56) for _ in range(8)]
    image = {"channels": 96, "side": 56}
    mixed = []
    for number, one in enumerate(uniform):
        if number % 2:
            mixed += [cast("fp16", "int8", **image), conv(taps=1, dtype="int8", **image), cast("int8", "fp16", **image)]
        else:
            mixed.append(one)
    lowered = [conv(taps=1, dtype="int8", **image) for _ in uniform]

    totals = [engine_ms(layers, gpu).total_ms for layers in (lowered, uniform, mixed)]
    assert totals == sorted(totals)
    assert totals[2] > 1.1 * totals[1]


@pytest.mark.parametrize("version", ["8.6", "10.x", "11.x"])
def test_engines_of_every_version_are_priced_alike(version: str) -> None:
    """The same three convolutions, as each version lists them."""
    recorded = Path(__file__).with_name("recorded") / f"documented-{version}-resnet_block-int8.json"
    layers = parse_layers(recorded.read_text(encoding="utf-8"))

    costs = [layer_ms(one, A100) for one in layers if role_of(one) == "convolution"]
    like = layer_ms(conv(batch=4, channels=32, side=8, dtype="int8"), A100)
    assert costs == pytest.approx([like] * 3, rel=0.01)


def test_the_total_is_the_sum_of_the_layers() -> None:
    layers = [conv(), cast("fp16", "int8"), conv(dtype="int8")]
    found = engine_ms(layers, L4)

    assert found.per_layer == tuple(layer_ms(one, L4) for one in layers)
    assert found.total_ms == pytest.approx(sum(found.per_layer))
    assert engine_ms([], L4).total_ms == 0.0


def test_arithmetic_that_the_gpu_lacks_is_refused() -> None:
    with pytest.raises(BackendError, match=r"computes in FP8, which the A100 \(SXM, 80 GB\) has no arithmetic for"):
        engine_ms([conv(dtype="fp8")], A100)


def test_a_free_dimension_is_refused() -> None:
    with pytest.raises(BackendError, match="build with one shape for each input"):
        engine_ms([conv(batch=-1)], L4)


SIZES = st.integers(1, 64)


@given(batch=SIZES, channels=SIZES, side=st.integers(1, 32), key=st.sampled_from(KEYS))
def test_more_work_is_never_faster(batch: int, channels: int, side: int, key: str) -> None:
    gpu = gpu_named(key)
    one = layer_ms(conv(batch, channels, side), gpu)

    assert layer_ms(conv(batch + 1, channels, side), gpu) >= one
    assert layer_ms(conv(batch, channels, side + 1), gpu) >= one
    assert layer_ms(conv(batch, channels, side, dtype="int8"), gpu) <= one * (1 + 1e-9)
