"""MXFP8 and NVFP4: small floats in blocks along the last axis, each with a scale that is a small float too.

MXFP8 has E4M3 codes and, for each 32 of them, a power of two, the least by which none exceeds the largest code (OCP
Microscaling Formats, 2023, with the rounding upwards of NVIDIA's libraries). NVFP4 has E2M1 codes, for each 16 of them
a scale in E4M3, and one FP32 scale for all, by which the largest block has the largest scale of E4M3.
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from autoprec.errors import ModelError
from autoprec.precision import Array, Precision
from autoprec.ranges.bins import Range

E2M1, E4M3 = np.dtype(ml_dtypes.float4_e2m1fn), np.dtype(ml_dtypes.float8_e4m3fn)
LARGEST_E2M1, LARGEST_E4M3 = 6.0, 448.0
BIAS, EXPONENTS = 127, (-126, 127)
"""What is added to an exponent that a byte stores, and the least and the largest one that blocks get."""


@dataclass(frozen=True, slots=True)
class ScaledBlocks:
    """An array in MXFP8 or NVFP4.

    Attributes:
        codes: E4M3[..., K] or E2M1[..., K].
        scales: the exponents of two plus `BIAS`, uint8[..., K / 32], or E4M3[..., K / 16].
        of_all: the FP32 scale of all blocks of NVFP4, None for MXFP8.
    """

    codes: Array
    scales: Array
    of_all: float | None

    def values(self) -> Array:
        """Return what the codes stand for, float32[..., K]."""
        if self.of_all is None:
            scales = np.ldexp(np.float32(1), self.scales.astype(np.int32) - BIAS)
        else:
            scales = self.scales.astype(np.float32) * np.float32(self.of_all)
        blocks = self.codes.astype(np.float32).reshape(*scales.shape, -1) * scales[..., None]
        result: Array = blocks.reshape(self.codes.shape)
        return result


def scaled_blocks(array: Array, precision: Precision, of_all: float | None = None) -> ScaledBlocks:
    """Return an array in blocks.

    Args:
        array: float[..., K]; K is a multiple of the block.
        precision: MXFP8 or NVFP4.
        of_all: the scale of all blocks of NVFP4, that of the array itself where none is given.

    Raises:
        ModelError: the array holds NaN or infinity.
    """
    blocks = array.astype(np.float32, copy=False).reshape(*array.shape[:-1], -1, precision.scaled_block)
    largest = np.abs(blocks).max(axis=-1, initial=0.0)
    if not np.isfinite(largest).all():
        raise ModelError("weights must be finite, got NaN or infinity; repair the model before quantising it")
    if precision is Precision.MXFP8:
        with np.errstate(divide="ignore"):
            exponents = np.clip(np.ceil(np.log2(largest / LARGEST_E4M3, dtype=np.float64)), *EXPONENTS).astype(int)
        codes = np.clip(np.ldexp(blocks, -exponents[..., None]), -LARGEST_E4M3, LARGEST_E4M3).astype(E4M3)
        return ScaledBlocks(codes.reshape(array.shape), (exponents + BIAS).astype(np.uint8), None)
    shared = np.float32(scale_of_all(Range(0.0, float(largest.max(initial=0.0)))) if of_all is None else of_all)
    scales = np.clip(largest / (np.float32(LARGEST_E2M1) * shared), 0, LARGEST_E4M3).astype(E4M3)
    steps = scales.astype(np.float32) * shared
    steps = np.where(steps > 0, steps, np.float32(1))
    codes = np.clip(blocks / steps[..., None], -LARGEST_E2M1, LARGEST_E2M1).astype(E2M1)
    return ScaledBlocks(codes.reshape(array.shape), scales, float(shared))


def scale_of_all(span: Range) -> float:
    """Return the FP32 scale of NVFP4 for values in a range; 1 where all are zero."""
    scale = float(np.float32(span.magnitude / (LARGEST_E2M1 * LARGEST_E4M3)))
    return scale if scale > 0 else 1.0
