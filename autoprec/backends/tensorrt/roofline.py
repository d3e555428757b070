"""A model of an engine's latency: each layer takes as long as its arithmetic or its memory traffic, and a launch.

The layers are those of the engine that TensorRT built, so what is fused and where tensors are converted is the
builder's decision; here they are only priced. A layer takes

    max(operations / attainable peak, bytes / attainable bandwidth) + launch

(Williams, Waterman, Patterson: Roofline, CACM 52(4), 2009). The figures of a GPU are in gpus.toml; the constants
below are assumptions, the same for every GPU. Two of them, SM_GB_S and LAUNCH_US, were chosen so that the model fits
MobileNet v1 0.75 at batch 128 on an H200: it says 1.92, 1.07 and 0.65 ms in FP32, FP16 and fused INT8 where TensorRT
8.6 took 1.87, 1.10 and 0.65 ms. No other GPU was measured: modelled latencies rank plans, they promise no
milliseconds. Streams are not overlapped, and clocks that fall under load are not known to the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from autoprec.backends.tensorrt.gpus import Gpu
from autoprec.backends.tensorrt.records import EngineLayer
from autoprec.backends.tensorrt.workload import Product, bytes_of, products_of, role_of
from autoprec.errors import BackendError

COMPUTE_EFFICIENCY = 0.6
"""Share of the dense peak that a large product reaches: peaks are at boost clock, which heavy products do not hold."""

DRAM_EFFICIENCY = 0.8
"""Share of the memory bandwidth that a kernel which only streams reaches."""

SM_GB_S = 18.0
"""Most that one multiprocessor moves, in 10^9 bytes per second. Fitted to the H200, whose memory is faster than
kernels of this kind can use: its measured MobileNet moved half of what the memory could deliver."""

L2_SHARE = 0.5
"""Share of the L2 cache in which a layer finds what the layers before it wrote."""

LAUNCH_US = 5.0
"""Start, ramp-up and drain of a kernel in a CUDA graph: about 2 us between dependent kernels, the rest latency of
memory and the last wave. Measured engines of tiny layers take about this long for each."""

TILE = (64, 32)
"""Rows and columns of the output that one block computes: the smaller tiles, which TensorRT takes for small layers.
Blocks run in waves over the multiprocessors, and a wave that is not full costs as much as a full one."""

K_STEP_BYTES = 32
"""Depth of one tensor-core instruction: 8 elements of TF32, 16 of FP16 and BF16, 32 of FP8 and INT8."""

VECTOR_BELOW = 16
"""Products with fewer columns, as depthwise convolutions, may run on CUDA cores, at the peak of FP32."""


@dataclass(frozen=True, slots=True)
class Modelled:
    """The modelled latency of an engine.

    Attributes:
        total_ms: the milliseconds of one run.
        per_layer: milliseconds of each layer, in the order of the layers.
    """

    total_ms: float
    per_layer: tuple[float, ...]


def engine_ms(layers: Sequence[EngineLayer], gpu: Gpu) -> Modelled:
    """Model one run of an engine, its layers one after another.

    Raises:
        BackendError: a layer has no fixed shapes, or computes in a type that the GPU lacks.
    """
    times = tuple(layer_ms(layer, gpu) for layer in layers)
    return Modelled(sum(times), times)


def layer_ms(layer: EngineLayer, gpu: Gpu) -> float:
    """Model one layer.

    Raises:
        BackendError: it has no fixed shapes, or computes in a type that the GPU lacks.
    """
    if role_of(layer) == "none":
        return 0.0
    arithmetic_ms = sum(_product_ms(product, gpu) for product in products_of(layer))
    return max(arithmetic_ms, _traffic_ms(bytes_of(layer), gpu)) + LAUNCH_US / 1e3


def _product_ms(product: Product, gpu: Gpu) -> float:
    """On tensor cores in waves of tiles; narrow products on whichever cores are faster."""
    step = int(K_STEP_BYTES / {"fp16": 2, "bf16": 2, "fp8": 1, "int8": 1, "nvfp4": 0.5}.get(product.dtype, 4))
    depth = ceil(product.depth / step) * step
    tall, wide = TILE
    tiles = product.count * min(
        ceil(product.rows / tall) * ceil(product.columns / wide),
        ceil(product.rows / wide) * ceil(product.columns / tall),
    )
    waves = ceil(tiles / gpu.sm_count)
    operations = 2 * waves * gpu.sm_count * tall * wide * depth
    tensor_ms = operations / (COMPUTE_EFFICIENCY * _peak_tflops(product.dtype, gpu)) / 1e9
    if product.columns >= VECTOR_BELOW:
        return tensor_ms
    return min(tensor_ms, product.flops / (COMPUTE_EFFICIENCY * gpu.peak_tflops["fp32"]) / 1e9)


def _traffic_ms(moved: int, gpu: Gpu) -> float:
    """The first bytes come from the L2 cache, the others from memory; neither faster than kernels can ask."""
    kernels_gb_s = SM_GB_S * gpu.sm_count
    memory_gb_s = min(DRAM_EFFICIENCY * gpu.bandwidth_gb_s, kernels_gb_s)
    cached = min(moved, L2_SHARE * gpu.l2_bytes)
    return (cached / kernels_gb_s + (moved - cached) / memory_gb_s) / 1e6


def _peak_tflops(dtype: str, gpu: Gpu) -> float:
    """FP32 runs as TF32 where tensor cores have it: TensorRT's flag for that is set by default."""
    if dtype in ("fp16", "bf16", "fp8", "int8", "nvfp4"):
        if dtype not in gpu.peak_tflops:
            raise BackendError(
                f"the engine computes in {dtype.upper()}, which the {gpu.name} has no arithmetic for; "
                f"build for another GPU, or plan without {dtype}"
            )
        return gpu.peak_tflops[dtype]
    return gpu.peak_tflops.get("tf32", gpu.peak_tflops["fp32"])
