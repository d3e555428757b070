"""Clipping ranges from histograms: min-max, percentile, entropy and mean squared error.

Every method keeps these promises. The same histogram gives the same range. A range is never wider than the values
seen, except that an asymmetric range always contains 0 and a symmetric one is `[-t, t]`. The width is positive: a
tensor of nothing but zeros, which is exact under any scale, gets `[-1, 1]` or `[0, 1]`, so that other values that come
later still have a useful scale. A constant tensor gets the range from 0, or from its negative, to its value.
"""

from __future__ import annotations

from autoprec.errors import UsageError
from autoprec.ranges.affine import params_for
from autoprec.ranges.bins import Range
from autoprec.ranges.entropy import least_divergence_range
from autoprec.ranges.histogram import Histogram
from autoprec.ranges.squared_error import Density, least_error_range

METHODS = ("minmax", "percentile", "entropy", "mse")
"""The names of the calibration methods."""


def calibrate(histogram: Histogram, method: str, *, symmetric: bool, bits: int = 8, percentile: float = 99.99) -> Range:
    """Return the range with which to quantise the tensor whose values `histogram` counted.

    Args:
        histogram: the values of the tensor.
        method: one of `METHODS`. "minmax" keeps all values. "percentile" keeps the central share of the values, or of
            the absolute values if symmetric. "entropy" minimises the Kullback-Leibler divergence between the
            distributions before and after (`autoprec.ranges.entropy`). "mse" minimises the expected squared error of
            rounding and clipping together (`autoprec.ranges.squared_error`).
        symmetric: True for signed codes with zero point 0; False for unsigned codes with a zero point.
        bits: the number of bits of a code, from 2 to 16.
        percentile: the percentage of the values that "percentile" keeps, above 50 and up to 100.

    Raises:
        DataError: the histogram is empty.
        UsageError: the method is unknown, or a number is out of its bounds.
    """
    if method not in METHODS:
        raise UsageError(f"a calibration method must be one of {', '.join(METHODS)}, got {method!r}")
    if not 2 <= bits <= 16:
        raise UsageError(f"codes must have 2 to 16 bits, got {bits}")
    if not 50 < percentile <= 100:
        raise UsageError(f"the percentile must be above 50 and at most 100, got {percentile}")
    widest = _minmax(histogram, symmetric)
    if not histogram.magnitude or method == "minmax":
        return widest
    if method == "percentile":
        return _percentile(histogram, symmetric, percentile / 100.0, widest)
    if method == "entropy":
        return least_divergence_range(histogram, symmetric, bits, widest)
    return least_error_range(histogram, symmetric, bits, widest)


def calibrate_fp8(histogram: Histogram) -> Range:
    """Return the symmetric range for FP8 (E4M3FN), which reaches to the largest magnitude and clips nothing.

    The relative error of a float format does not depend on the scale, so clipping has nothing to gain.

    Raises:
        DataError: the histogram is empty.
    """
    return _minmax(histogram, symmetric=True)


def quantization_error(histogram: Histogram, span: Range, symmetric: bool, *, bits: int = 8) -> float:
    """Return the expected squared error of quantising with `span`, in squared units of the tensor.

    Values are taken as evenly spread inside a bin, and rounding and clipping are integrated exactly over each bin with
    the float32 scale and the zero point that `span` leads to.

    Raises:
        DataError: the histogram is empty.
    """
    return Density.of(histogram.bins()).squared_error(params_for(span, symmetric, bits))


def _minmax(histogram: Histogram, symmetric: bool) -> Range:
    histogram.require_values()
    reach = histogram.magnitude or 1.0
    if symmetric:
        return Range(-reach, reach)
    if not histogram.magnitude:
        return Range(0.0, reach)
    return Range(min(histogram.low, 0.0), max(histogram.high, 0.0))


def _percentile(histogram: Histogram, symmetric: bool, kept: float, widest: Range) -> Range:
    # If nearly all values are 0, the quantile is 0 too. The few other values are then what matters: nothing is clipped.
    if symmetric:
        reach = histogram.folded().quantile(kept)
        return Range(-reach, reach) if reach > 0 else widest
    bins, tail = histogram.bins(), (1.0 - kept) / 2.0
    low, high = min(bins.quantile(tail), 0.0), max(bins.quantile(1.0 - tail), 0.0)
    return Range(low, high) if low < high else widest
