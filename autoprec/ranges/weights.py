"""Symmetric scales of weights, one for each channel, and the INT8 or FP8 codes that are stored."""

from __future__ import annotations

import numpy as np

from autoprec.errors import ModelError, UsageError
from autoprec.precision import Array, Precision, cast_clamped
from autoprec.ranges.affine import LARGEST_HALF_SCALE, LARGEST_SCALE, SMALLEST_HALF_SCALE, SMALLEST_SCALE

# The shares of the largest magnitude at which "mse" tries to clip, in steps of 0.01. 1 comes first, so that nothing is
# clipped where that gains nothing.
_CLIPPING = np.linspace(1.0, 0.4, 61)


def weight_scales(
    weight: Array, axis: int | None, precision: Precision, *, method: str = "max", for_half: bool = False
) -> Array:
    """Return the scale of each channel of `weight`, float32[channels], or float32[] for the whole tensor.

    A channel of zeros, which is exact under any scale, gets 2**-20. That is positive in float16 too, and large enough
    that an INT32 bias in units of (input scale x weight scale) does not overflow.

    Args:
        weight: the float weights, of any shape.
        axis: the axis of the channels, where a negative one counts from the end; None for a single scale.
        precision: INT8 (the scale is the largest magnitude / 127) or FP8 (the largest magnitude / 448).
        method: "max" clips nothing. "mse" chooses for each channel the share of the largest magnitude, from 1.00 down
            to 0.40, that gives the least squared error of the weights.
        for_half: whether the scales will be stored in float16; then they are float16 values of at least 2**-20.

    Raises:
        UsageError: the precision has no scales, the method is unknown, or there is no such axis.
        ModelError: the weights hold NaN or infinity.
    """
    _check(weight, axis, precision)
    if method not in ("max", "mse"):
        raise UsageError(f"the method of weight scales must be max or mse, got {method!r}")
    axes = tuple(i for i in range(weight.ndim) if axis is None or i != axis % weight.ndim)
    largest = np.abs(weight.astype(np.float32, copy=False)).max(axis=axes, initial=0.0)
    if not np.isfinite(largest).all():
        raise ModelError("weights must be finite, got NaN or infinity; repair the model before quantising it")
    scales = _storable(largest, precision, for_half)
    if method == "max":
        return scales
    least = _squared_errors(weight, scales, axis, axes, precision)
    for share in _CLIPPING[1:]:
        clipped = _storable(largest * share, precision, for_half)
        errors = _squared_errors(weight, clipped, axis, axes, precision)
        scales = np.where(errors < least, clipped, scales)
        least = np.minimum(errors, least)
    return scales


def quantize_weight(weight: Array, scales: Array, axis: int | None, precision: Precision) -> Array:
    """Return the codes of `weight` under `scales` along `axis`: int8 from -127 to 127, or float8_e4m3fn.

    The arithmetic is that of the ONNX operator QuantizeLinear: divide in float32, round half to even, saturate. The
    code -128 is not used, so that weights stay symmetric.

    Raises:
        UsageError: the precision has no scales, there is no such axis, or there is not one scale for each channel.
    """
    _check(weight, axis, precision)
    divisor = _aligned(weight, scales, axis)
    with np.errstate(over="ignore"):
        steps = weight.astype(np.float32, copy=False) / divisor
    limit = precision.largest
    if precision is not Precision.FP8:
        codes: Array = np.clip(np.rint(steps), -limit, limit).astype(np.int8)
        return codes
    return cast_clamped(np.clip(steps, -limit, limit), Precision.FP8)


def dequantize_weight(codes: Array, scales: Array, axis: int | None) -> Array:
    """Return the float32 weights that `codes` stand for.

    Raises:
        UsageError: there is not one scale for each channel.
    """
    result: Array = codes.astype(np.float32) * _aligned(codes, scales, axis)
    return result


def _check(weight: Array, axis: int | None, precision: Precision) -> None:
    if not precision.is_quantized:
        raise UsageError(f"weights have scales in int8 and fp8 only, got {precision}; cast them instead")
    if axis is not None and not -weight.ndim <= axis < weight.ndim:
        raise UsageError(f"the channel axis must lie within the weight's {weight.ndim} axes, got {axis}")


def _aligned(weight: Array, scales: Array, axis: int | None) -> Array:
    """Return the scales in a shape that broadcasts against `weight`."""
    scales = np.asarray(scales, np.float32)
    expected = () if axis is None else (weight.shape[axis],)
    if scales.shape != expected:
        raise UsageError(f"weight scales must have shape {expected}, got {scales.shape}; take them from weight_scales")
    if axis is None:
        return scales
    shape = [1] * weight.ndim
    shape[axis] = -1  # works for a negative axis too
    return scales.reshape(shape)


def _storable(largest: Array, precision: Precision, for_half: bool) -> Array:
    low, high = (SMALLEST_HALF_SCALE, LARGEST_HALF_SCALE) if for_half else (SMALLEST_SCALE, LARGEST_SCALE)
    scales = np.clip(np.asarray(largest, np.float64) / precision.largest, low, high)
    scales = np.where(largest > 0, scales, SMALLEST_HALF_SCALE)
    stored: Array = np.asarray(scales.astype(np.float16) if for_half else scales).astype(np.float32)
    return stored


def _squared_errors(
    weight: Array, scales: Array, axis: int | None, axes: tuple[int, ...], precision: Precision
) -> Array:
    restored = dequantize_weight(quantize_weight(weight, scales, axis, precision), scales, axis)
    difference = restored - weight
    result: Array = np.square(difference, out=difference).sum(axis=axes, dtype=np.float64)
    return result
