"""Scales that are the same number in every float type that stores them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from autoprec.precision import Array, Precision, float_dtype


def coarsest(types: Iterable[Precision]) -> Precision:
    """The float type with the fewest mantissa bits among `types`: what it represents near 1, the others do too."""
    found = set(types)
    return next((t for t in (Precision.BF16, Precision.FP16) if t in found), Precision.FP32)


def round_scale(scales: Array, scale_type: Precision) -> Array:
    """FP32 scales rounded to `scale_type`, upwards so that no value falls out of range; never 0.

    FP16's smallest normal number 2**-14 is the floor there: subnormal scales lose their digits.
    """
    values = np.asarray(scales, np.float32)
    if scale_type is Precision.FP32:
        return values
    floor = np.float32(2.0**-14)  # FP16 values may meet this scale even where the carrier is BF16
    values = np.clip(values, floor, np.float32(65504.0))
    dtype = float_dtype(scale_type)
    rounded = values.astype(dtype)
    low = rounded.astype(np.float32) < values
    up = np.nextafter(rounded, np.array(np.inf, dtype=dtype))
    return np.where(low, up, rounded).astype(np.float32)
