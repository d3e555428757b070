"""Scales and zero points from ranges, and the exact arithmetic of QuantizeLinear and DequantizeLinear.

A code `q` stands for `(q - zero_point) * scale`. Definition and rounding: ONNX operators QuantizeLinear and
DequantizeLinear (float32 division, round half to even, saturate); E4M3FN: Micikevicius et al., "FP8 Formats
for Deep Learning", 2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from autoprec.precision import Array, Precision, cast_clamped
from autoprec.ranges.histogram import Range

SMALLEST_SCALE = 2.0**-64
"""Far below any useful value, yet its inverse and its square are ordinary float32 numbers."""
SMALLEST_HALF_SCALE = 2.0**-20
"""Sixteen times float16's smallest subnormal."""
LARGEST_SCALE = 2.0**119
"""256 codes of this size still end within float32."""
LARGEST_HALF_SCALE = 65504.0


@dataclass(frozen=True, slots=True)
class QuantParams:
    """How integer codes stand for real numbers; `scale` is a float32 value and positive."""

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
        """From what the smallest code stands for to what the largest does."""
        below, above = self.lowest - self.zero_point, self.highest - self.zero_point
        return Range(below * self.scale, above * self.scale)


def usable_scale(scale: float, *, for_half: bool = False) -> float:
    """`scale` as float32, positive, normal and finite; with `for_half` a float16 value from 2**-20."""
    if for_half:
        return float(np.float16(min(max(scale, SMALLEST_HALF_SCALE), LARGEST_HALF_SCALE)))
    return float(np.float32(min(max(scale, SMALLEST_SCALE), LARGEST_SCALE)))


def symmetric_params(span: Range, *, bits: int = 8, for_half: bool = False) -> QuantParams:
    """Signed codes with zero point 0 and `scale = max(|low|, |high|) / 127`, as TensorRT wants them."""
    scale = usable_scale(span.magnitude / ((1 << (bits - 1)) - 1), for_half=for_half)
    return QuantParams(scale, 0, signed=True, bits=bits)


def asymmetric_params(span: Range, *, bits: int = 8, for_half: bool = False) -> QuantParams:
    """Unsigned codes from `low` to `high`, widened to contain 0 and shifted so that a code is exactly 0.

    The shift moves both ends by at most half a step.
    """
    low, high = min(span.low, 0.0), max(span.high, 0.0)
    highest = (1 << bits) - 1
    scale = usable_scale((high - low) / highest, for_half=for_half)
    return QuantParams(scale, int(np.clip(np.rint(-low / scale), 0, highest)), signed=False, bits=bits)


def fp8_scale(span: Range, *, for_half: bool = False) -> float:
    """The scale that puts the range's largest magnitude on E4M3FN's largest value, 448."""
    return usable_scale(span.magnitude / Precision.FP8.largest, for_half=for_half)


def quantize(values: Array, params: QuantParams) -> Array:
    """The codes of `values`, as QuantizeLinear gives them; infinities saturate, NaN is not allowed."""
    with np.errstate(over="ignore"):
        steps = np.rint(np.asarray(values, np.float32) / np.float32(params.scale))
    codes: Array = np.clip(steps + np.float32(params.zero_point), params.lowest, params.highest)
    result: Array = codes.astype(params.dtype)
    return result


def dequantize(codes: Array, params: QuantParams) -> Array:
    """What `codes` stand for, float32, as DequantizeLinear gives it."""
    steps = codes.astype(np.int32) - np.int32(params.zero_point)
    result: Array = steps.astype(np.float32) * np.float32(params.scale)
    return result


def fake_quantize(values: Array, params: QuantParams) -> Array:
    """`values` after quantisation and back, float32."""
    return dequantize(quantize(values, params), params)


def quantize_fp8(values: Array, scale: float) -> Array:
    """The E4M3FN codes of `values / scale`, finite values saturating at 448."""
    with np.errstate(over="ignore"):
        scaled = np.asarray(values, np.float32) / np.float32(scale)
    limit = Precision.FP8.largest
    return cast_clamped(np.clip(scaled, -limit, limit), Precision.FP8)


def dequantize_fp8(codes: Array, scale: float) -> Array:
    """What E4M3FN `codes` stand for, float32."""
    result: Array = codes.astype(np.float32) * np.float32(scale)
    return result


def fake_quantize_fp8(values: Array, scale: float) -> Array:
    """`values` after E4M3FN and back, float32."""
    return dequantize_fp8(quantize_fp8(values, scale), scale)
