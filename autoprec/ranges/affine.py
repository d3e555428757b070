"""Scales and zero points from ranges, and the exact arithmetic of QuantizeLinear and DequantizeLinear.

A code `q` stands for `(q - zero_point) * scale`. The arithmetic is that of the ONNX operators QuantizeLinear and
DequantizeLinear: divide in float32, round half to even, saturate. The FP8 format is E4M3FN of Micikevicius et al.,
"FP8 Formats for Deep Learning", 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from autoprec.precision import Array, Precision, cast_clamped
from autoprec.ranges.bins import Range

SMALLEST_SCALE = 2.0**-64
"""The smallest scale: far below any useful value, while its inverse and its square are still normal float32 numbers."""
SMALLEST_HALF_SCALE = 2.0**-20
"""The smallest scale that is stored in float16: sixteen times the smallest subnormal number of float16."""
LARGEST_SCALE = 2.0**119
"""The largest scale: 256 steps of this size still lie within float32."""
LARGEST_HALF_SCALE = 65504.0
"""The largest scale that is stored in float16: the largest finite float16 number."""


@dataclass(frozen=True, slots=True)
class QuantParams:
    """How integer codes stand for real numbers.

    Attributes:
        scale: the distance between the numbers of two adjacent codes, a positive number that float32 can hold.
        zero_point: the code that stands for 0.
        signed: whether the codes are signed integers.
        bits: the number of bits of a code.
    """

    scale: float
    zero_point: int
    signed: bool
    bits: int = 8

    @property
    def lowest(self) -> int:
        """The smallest code."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def highest(self) -> int:
        """The largest code."""
        return self.lowest + (1 << self.bits) - 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy type that stores a code."""
        kind = "i" if self.signed else "u"
        return np.dtype(f"{kind}{1 if self.bits <= 8 else 2 if self.bits <= 16 else 4}")

    @property
    def covered(self) -> Range:
        """The range from the number of the smallest code to that of the largest."""
        below, above = self.lowest - self.zero_point, self.highest - self.zero_point
        return Range(below * self.scale, above * self.scale)


def usable_scale(scale: float, *, for_half: bool = False) -> float:
    """Return `scale` clamped to a positive, normal and finite float32 number.

    Args:
        scale: the scale that is wanted.
        for_half: whether the scale will be stored in float16; then it is clamped and rounded to float16.
    """
    if for_half:
        return float(np.float16(min(max(scale, SMALLEST_HALF_SCALE), LARGEST_HALF_SCALE)))
    return float(np.float32(min(max(scale, SMALLEST_SCALE), LARGEST_SCALE)))


def symmetric_params(span: Range, *, bits: int = 8, for_half: bool = False) -> QuantParams:
    """Return signed codes with zero point 0 and, for 8 bits, `scale = max(|low|, |high|) / 127`.

    TensorRT requires this form: its documentation on explicit quantisation allows no zero point other than 0. The code
    -128 is left out of the scale, so that the codes are symmetric.
    """
    scale = usable_scale(span.magnitude / ((1 << (bits - 1)) - 1), for_half=for_half)
    return QuantParams(scale, 0, signed=True, bits=bits)


def asymmetric_params(span: Range, *, bits: int = 8, for_half: bool = False) -> QuantParams:
    """Return unsigned codes for the range, which is widened to contain 0 and shifted so that one code is exactly 0.

    The shift moves both ends by at most half a step. Zero must be exact, since padding and ReLU produce many zeros.
    """
    low, high = min(span.low, 0.0), max(span.high, 0.0)
    highest = (1 << bits) - 1
    scale = usable_scale((high - low) / highest, for_half=for_half)
    return QuantParams(scale, int(np.clip(np.rint(-low / scale), 0, highest)), signed=False, bits=bits)


def params_for(span: Range, symmetric: bool, bits: int) -> QuantParams:
    """Return the codes for a range: signed with zero point 0 if `symmetric`, otherwise unsigned with a zero point."""
    return symmetric_params(span, bits=bits) if symmetric else asymmetric_params(span, bits=bits)


def fp8_scale(span: Range, *, for_half: bool = False) -> float:
    """Return the scale that maps the largest magnitude of the range to 448, the largest value of E4M3FN."""
    return usable_scale(span.magnitude / Precision.FP8.largest, for_half=for_half)


def quantize(values: Array, params: QuantParams) -> Array:
    """Return the codes of `values` as QuantizeLinear computes them; infinities saturate, NaN is not allowed."""
    with np.errstate(over="ignore"):
        steps = np.rint(np.asarray(values, np.float32) / np.float32(params.scale))
    codes: Array = np.clip(steps + np.float32(params.zero_point), params.lowest, params.highest)
    result: Array = codes.astype(params.dtype)
    return result


def dequantize(codes: Array, params: QuantParams) -> Array:
    """Return the numbers that `codes` stand for, in float32, as DequantizeLinear computes them."""
    steps = codes.astype(np.int32) - np.int32(params.zero_point)
    result: Array = steps.astype(np.float32) * np.float32(params.scale)
    return result


def fake_quantize(values: Array, params: QuantParams) -> Array:
    """Return `values` after quantising and dequantising, in float32."""
    return dequantize(quantize(values, params), params)


def quantize_fp8(values: Array, scale: float) -> Array:
    """Return the E4M3FN codes of `values / scale`; what exceeds 448 saturates there."""
    with np.errstate(over="ignore"):
        scaled = np.asarray(values, np.float32) / np.float32(scale)
    limit = Precision.FP8.largest
    return cast_clamped(np.clip(scaled, -limit, limit), Precision.FP8)


def dequantize_fp8(codes: Array, scale: float) -> Array:
    """Return the numbers that E4M3FN `codes` stand for, in float32."""
    result: Array = codes.astype(np.float32) * np.float32(scale)
    return result


def fake_quantize_fp8(values: Array, scale: float) -> Array:
    """Return `values` after rounding to E4M3FN codes and back, in float32."""
    return dequantize_fp8(quantize_fp8(values, scale), scale)
