"""Clipping ranges from histograms: min-max, percentile, entropy and mean squared error.

What every method promises: the same histogram gives the same range; ranges are never wider than the values
seen, except that an asymmetric range always contains 0 and a symmetric one is `[-t, t]`; the width is
positive. A tensor of nothing but zeros, exact under any scale, gets `[-1, 1]` or `[0, 1]`, so that a value
seen later still has a useful scale. A constant tensor gets the range from 0 (or its negative) to itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from autoprec.errors import UsageError
from autoprec.precision import Array
from autoprec.ranges.affine import QuantParams, asymmetric_params, symmetric_params
from autoprec.ranges.histogram import Bins, Histogram, Range

METHODS = ("minmax", "percentile", "entropy", "mse")

_BINS_PER_LEVEL = 32  # with 128 levels 2049 to 4096 bins, no fewer than the 2048 of TensorRT's calibrator
_MOST_CANDIDATES = 1024
_HALF_A_VALUE = 0.5
_ATOM = 1e-8  # a bin narrower than this share of the largest magnitude is a point

_Loss = Callable[[Array, Array], Array]


def calibrate(histogram: Histogram, method: str, *, symmetric: bool, bits: int = 8, percentile: float = 99.99) -> Range:
    """The range to quantise a tensor with, its values having been counted in `histogram`.

    Args:
        histogram: the tensor's values.
        method: one of `METHODS`. "minmax" keeps everything. "percentile" keeps the central share of the
            values (of the absolute values if symmetric). "entropy" minimises the Kullback-Leibler divergence
            between the distributions before and after (S. Migacz, "8-bit Inference with TensorRT", GTC 2017).
            "mse" minimises the expected squared error of rounding and clipping together.
        symmetric: zero point 0, signed codes; otherwise unsigned codes with a zero point.
        bits: bits of a code, 2 to 16.
        percentile: percent of the values that "percentile" keeps, above 50 and up to 100.

    Raises:
        DataError: the histogram is empty.
        UsageError: an unknown method, or a number out of its bounds.
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
        return _entropy(histogram, symmetric, bits, widest)
    return _mse(histogram, symmetric, bits, widest)


def calibrate_fp8(histogram: Histogram) -> Range:
    """The symmetric range of E4M3FN: the largest magnitude, unclipped.

    A float format's relative error does not depend on the scale, so clipping has nothing to win.

    Raises:
        DataError: the histogram is empty.
    """
    return _minmax(histogram, symmetric=True)


def quantization_error(histogram: Histogram, span: Range, symmetric: bool, *, bits: int = 8) -> float:
    """The expected squared error, in squared units of the tensor, of quantising with `span`.

    Rounding and clipping are integrated exactly over each bin, values being spread evenly inside one, with
    the float32 scale and the zero point that `span` leads to.

    Raises:
        DataError: the histogram is empty.
    """
    return _Density.of(histogram.bins()).squared_error(_params(span, symmetric, bits))


def _minmax(histogram: Histogram, symmetric: bool) -> Range:
    histogram.require_values()
    reach = histogram.magnitude or 1.0
    if symmetric:
        return Range(-reach, reach)
    if not histogram.magnitude:
        return Range(0.0, reach)
    return Range(min(histogram.low, 0.0), max(histogram.high, 0.0))


def _percentile(histogram: Histogram, symmetric: bool, kept: float, widest: Range) -> Range:
    if symmetric:
        reach = histogram.folded().quantile(kept)
        return Range(-reach, reach) if reach > 0 else widest
    bins, tail = histogram.bins(), (1.0 - kept) / 2.0
    low, high = min(bins.quantile(tail), 0.0), max(bins.quantile(1.0 - tail), 0.0)
    return Range(low, high) if low < high else widest  # nearly all zeros: the rest is what matters


def _params(span: Range, symmetric: bool, bits: int) -> QuantParams:
    return symmetric_params(span, bits=bits) if symmetric else asymmetric_params(span, bits=bits)


# --- search ---------------------------------------------------------------------------------------------


def _search(loss: _Loss, widest: Range, symmetric: bool, grids: Sequence[Array]) -> Range:
    """The range of the least loss found by scaling both ends together, then each in turn, grid by grid.

    Every grid of factors begins with 1, so no step makes the loss worse and ties keep what there is.
    """
    low, high = widest.low, widest.high
    one_sided = symmetric or not low < 0 < high
    moves = [(True, True)] if one_sided else [(True, True), (False, True), (True, False)]
    for grid in grids:
        for scale_low, scale_high in moves:
            lows = np.maximum(low * (grid if scale_low else np.ones_like(grid)), widest.low)
            highs = np.minimum(high * (grid if scale_high else np.ones_like(grid)), widest.high)
            best = int(np.argmin(loss(lows, highs)))
            low, high = float(lows[best]), float(highs[best])
    return Range(low, high)


def _around(octaves: float, count: int) -> Array:
    return np.concatenate([[1.0], np.exp2(np.linspace(-octaves, octaves, count))])


# --- mean squared error ---------------------------------------------------------------------------------

# Down to a thousandth of the extremes in sixths of an octave; below that bins are wider than steps anyway.
_MSE_GRIDS = (np.exp2(-np.arange(61) / 6.0), _around(1 / 6, 16), _around(1 / 48, 8))


def _mse(histogram: Histogram, symmetric: bool, bits: int, widest: Range) -> Range:
    density = _Density.of(histogram.bins())

    def loss(lows: Array, highs: Array) -> Array:
        spans = (Range(float(low), float(high)) for low, high in zip(lows, highs, strict=True))
        return np.array([density.squared_error(_params(span, symmetric, bits)) for span in spans])

    return _search(loss, widest, symmetric, _MSE_GRIDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Density:
    """A histogram as a piecewise constant density and a few points; zeros, always exact, only count."""

    edges: Array
    heights: Array  # values per unit of the tensor
    points: Array
    weights: Array  # values at each point
    total: float

    @classmethod
    def of(cls, bins: Bins) -> _Density:
        widths = np.diff(bins.edges)
        narrow = widths <= _ATOM * float(np.abs(bins.edges[[0, -1]]).max())
        heights = np.where(narrow, 0.0, bins.counts / np.where(narrow, 1.0, widths))
        total = float(bins.counts.sum() + bins.zeros)
        return cls(
            edges=bins.edges,
            heights=heights,
            points=bins.edges[1:][narrow],
            weights=bins.counts[narrow].astype(np.float64),
            total=total,
        )

    def squared_error(self, params: QuantParams) -> float:
        lowest, highest = params.lowest - params.zero_point, params.highest - params.zero_point
        steps = self.edges / params.scale
        nearest = np.clip(np.rint(steps), lowest, highest)
        rest = steps - nearest
        # The integral of (u - nearest(u))**2 from 0 to u: a twelfth for every whole step, and the rest.
        # Beyond the last code `nearest` stays and the same formula integrates the clipping error.
        integral = nearest / 12.0 + rest * rest * rest / 3.0
        spread = float(np.dot(self.heights, np.diff(integral))) * params.scale**3
        steps = self.points / params.scale
        rest = steps - np.clip(np.rint(steps), lowest, highest)
        at_points = float(np.dot(self.weights, rest * rest)) * params.scale**2
        return max(spread + at_points, 0.0) / self.total


# --- entropy --------------------------------------------------------------------------------------------


def _entropy(histogram: Histogram, symmetric: bool, bits: int, widest: Range) -> Range:
    """The range of the least divergence between the non-zero values and their quantised distribution.

    The spike at 0 is left out of both distributions: zero is exact under every candidate, so counting it
    would only drown what is being compared. Candidates hold at least one bin a level, as in TensorRT's
    calibrator, so the least threshold is a thirty-second to a sixteenth of the largest magnitude.
    """
    levels = 1 << (bits - 1 if symmetric else bits)
    bins = histogram.folded() if symmetric else histogram.bins()
    first, width, counts = _coarse(bins, levels * _BINS_PER_LEVEL)
    grid = Range(first * width, (first + len(counts)) * width)
    divergence = _Divergence.of(counts, levels)

    def snapped(ends: Array) -> Array:
        result: Array = np.rint(ends / width).astype(np.intp)
        return result

    def loss(lows: Array, highs: Array) -> Array:
        return divergence(snapped(lows) - first, snapped(highs) - first)

    size = len(counts)
    shares = np.arange(size, 0, -max(1, size // _MOST_CANDIDATES)) / size
    found = _search(loss, grid, symmetric, [shares] if first == 0 else [shares, _around(1.0, 128)])
    low, high = (float(end * width) for end in snapped(np.array([found.low, found.high])))
    if symmetric:
        reach = min(high, widest.high)
        return Range(-reach, reach)
    return Range(max(low, widest.low), min(high, widest.high))


def _coarse(bins: Bins, limit: int) -> tuple[int, float, Array]:
    """First grid index, width and counts of at most `limit` bins that reach 0."""
    index, width = bins.first + np.arange(len(bins.counts)), bins.width
    while max(int(index[-1]) + 1, 0) - min(int(index[0]), 0) > limit:
        index, width = index >> 1, width * 2.0
    first = min(int(index[0]), 0)
    counts = np.zeros(max(int(index[-1]) + 1, 0) - first)
    np.add.at(counts, index - first, bins.counts)
    return first, width, counts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Divergence:
    """KL(P || Q) of ranges of bins, each from sums over prefixes: the cost depends on levels, not on bins.

    P is the histogram with what lies outside added to the outer bins; Q is the inside alone, its sum in each
    level spread evenly over those bins of the level that P fills. An outer level that only the outside fills
    counts as half a value in Q: otherwise one far outlier would forbid every range that ends in a gap.
    """

    counts: Array
    below: Array  # sum of the counts before a bin
    filled: Array  # number of non-empty bins before a bin
    self_terms: Array  # sum of c * log(c) before a bin
    levels: int

    @classmethod
    def of(cls, counts: Array, levels: int) -> _Divergence:
        def prefix(terms: Array) -> Array:
            return np.concatenate([[0.0], np.cumsum(terms)])

        return cls(
            counts=counts,
            below=prefix(counts),
            filled=prefix(counts > 0),
            self_terms=prefix(_x_log_x(counts)),
            levels=levels,
        )

    def __call__(self, starts: Array, stops: Array) -> Array:
        """The divergence in nats of each range of bins, infinite where it is undefined."""
        result = np.full(len(starts), np.inf)
        sound = (stops - starts >= self.levels) & (self.below[stops] > self.below[starts])
        if sound.any():
            result[sound] = self._of_sound(starts[sound], stops[sound])
        return result

    def _of_sound(self, starts: Array, stops: Array) -> Array:
        total, last = self.below[-1], stops - 1
        steps = (stops - starts)[:, None] * np.arange(self.levels + 1)
        edges = starts[:, None] + (steps + self.levels // 2) // self.levels
        sums, filled = np.diff(self.below[edges], axis=1), np.diff(self.filled[edges], axis=1)
        left, right = self.below[starts], total - self.below[stops]
        wanted = sums.copy()  # P by level
        self_terms = self.self_terms[stops] - self.self_terms[starts]
        for outside, level, edge in ((left, 0, starts), (right, -1, last)):
            wanted[:, level] += outside
            filled[:, level] += (outside > 0) & (self.counts[edge] == 0)
            self_terms += _x_log_x(self.counts[edge] + outside) - _x_log_x(self.counts[edge])
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.maximum(sums, _HALF_A_VALUE) / filled
            spread = np.where(wanted > 0, wanted * np.log(share), 0.0).sum(axis=1)
        kept = self.below[stops] - self.below[starts]
        nats = (self_terms - spread) / total + np.log(kept / total)
        result: Array = np.round(np.maximum(nats, 0.0), 9)  # so that rounding noise breaks no tie
        return result


def _x_log_x(values: Array) -> Array:
    result: Array = values * np.log(np.where(values > 0, values, 1.0))
    return result
