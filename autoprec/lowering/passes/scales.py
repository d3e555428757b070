"""The scales of pairs, and scales that are the same number in every float type that stores them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from autoprec.backends.scheme import Scheme
from autoprec.lowering.placement import ActivationPoint
from autoprec.precision import Array, Precision, float_dtype
from autoprec.ranges.affine import QuantParams, asymmetric_params, fp8_scale, symmetric_params
from autoprec.ranges.bins import Range


def pair_params(point: ActivationPoint, spans: Sequence[Range], scheme: Scheme) -> QuantParams:
    """Return the affine map of a pair on a value, given the ranges of all values that share it."""
    span = Range(min(s.low for s in spans), max(s.high for s in spans))
    if point.precision is Precision.FP8:
        scale = point.fixed_scale if point.fixed_scale is not None else fp8_scale(span)
        return QuantParams(scale, 0, signed=True)
    return symmetric_params(span) if scheme.symmetric else asymmetric_params(span)


def coarsest(types: Iterable[Precision]) -> Precision:
    """Return the float type with the fewest mantissa bits; the others represent what it represents near 1, too."""
    found = set(types)
    return next((t for t in (Precision.BF16, Precision.FP16) if t in found), Precision.FP32)


SMALLEST_NORMAL = 2.0**-14
"""FP16's smallest normal number; its inverse, which a QuantizeLinear may multiply by, is finite in FP16."""


def round_scale(scales: Array, scale_type: Precision, smallest: float = SMALLEST_NORMAL) -> Array:
    """Return FP32 scales rounded to `scale_type`, upwards so that no value falls out of range; they are never 0.

    Args:
        scales: any shape.
        scale_type: FP32 scales are kept as they are.
        smallest: the floor for half types. Scales that are never divided by at run time, as those of
            weights, may be subnormal: codes are computed with the rounded scale, so digits it lacks cost little.
    """
    values = np.asarray(scales, np.float32)
    if scale_type is Precision.FP32:
        return values
    # FP16 values may meet this scale even where the carrier is BF16, so the limits are those of FP16.
    values = np.clip(values, np.float32(smallest), np.float32(65504.0))
    dtype = float_dtype(scale_type)
    rounded = values.astype(dtype)
    low = rounded.astype(np.float32) < values
    up = np.nextafter(rounded, np.array(np.inf, dtype=dtype))
    return np.where(low, up, rounded).astype(np.float32)
