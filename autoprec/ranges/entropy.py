"""The range that loses the least information: the entropy calibrator.

The method is that of S. Migacz, "8-bit Inference with TensorRT", GTC 2017: clip so that the Kullback-Leibler divergence
between the histograms before and after quantisation is smallest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoprec.precision import Array
from autoprec.ranges.bins import Bins, Range
from autoprec.ranges.histogram import Histogram
from autoprec.ranges.range_search import factors_around_one, search_range

_BINS_PER_LEVEL = 32  # 128 levels then have 2049 to 4096 bins, at least as many as the 2048 of TensorRT's calibrator
_MOST_CANDIDATES = 1024  # the most thresholds that the first grid tries, which bounds the time
_HALF_A_VALUE = 0.5  # the count of an empty outer level in Q, see `Divergence`


def least_divergence_range(histogram: Histogram, symmetric: bool, bits: int, widest: Range) -> Range:
    """Return the range with the least divergence between the non-zero values and their quantised distribution.

    The zeros are left out of both distributions. Zero is exact under every candidate, so counting it would only hide
    the differences. A candidate holds at least one bin for each level, as in TensorRT's calibrator, so the smallest
    threshold is between 1/32 and 1/16 of the largest magnitude.
    """
    levels = 1 << (bits - 1 if symmetric else bits)
    bins = histogram.folded() if symmetric else histogram.bins()
    first, width, counts = _coarse(bins, levels * _BINS_PER_LEVEL)
    grid = Range(first * width, (first + len(counts)) * width)
    divergence = Divergence.of(counts, levels)

    def snapped(ends: Array) -> Array:
        result: Array = np.rint(ends / width).astype(np.intp)
        return result

    def loss(lows: Array, highs: Array) -> Array:
        return divergence(snapped(lows) - first, snapped(highs) - first)

    size = len(counts)
    shares = np.arange(size, 0, -max(1, size // _MOST_CANDIDATES)) / size
    # The first grid searches a single end completely. Two ends depend on each other, so they are searched once more
    # around the best range that the first grid found.
    best = search_range(loss, grid, symmetric, [shares] if first == 0 else [shares, factors_around_one(1.0, 128)])
    low, high = (float(end * width) for end in snapped(np.array([best.low, best.high])))
    if symmetric:
        reach = min(high, widest.high)
        return Range(-reach, reach)
    return Range(max(low, widest.low), min(high, widest.high))


def _coarse(bins: Bins, limit: int) -> tuple[int, float, Array]:
    """Return the first grid index, the width and the counts of at most `limit` bins, which include those at 0."""
    index, width = bins.first + np.arange(len(bins.counts)), bins.width
    while max(int(index[-1]) + 1, 0) - min(int(index[0]), 0) > limit:
        index, width = index >> 1, width * 2.0
    first = min(int(index[0]), 0)
    counts = np.zeros(max(int(index[-1]) + 1, 0) - first)
    np.add.at(counts, index - first, bins.counts)
    return first, width, counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The divergence KL(P || Q) of many ranges of bins at once, computed from prefix sums.

    P is the histogram inside the range, with the counts outside added to the outer bins. Q is the inside alone: the
    sum of each level is spread evenly over those bins of the level that P fills. If only the outside fills an outer
    level, Q would be 0 where P is not, and a single far outlier would forbid every range that ends in a gap. Such a
    level counts as half a value in Q. With prefix sums the cost depends on the number of levels, not of bins.

    Attributes:
        counts: the number of values in each bin, float64[n].
        below: the sum of the counts before each bin, float64[n + 1].
        filled: the number of non-empty bins before each bin, float64[n + 1].
        self_terms: the sum of c * log(c) of the counts c before each bin, float64[n + 1].
        levels: the number of codes that a range is divided into.
    """

    counts: Array
    below: Array
    filled: Array
    self_terms: Array
    levels: int

    @classmethod
    def of(cls, counts: Array, levels: int) -> Divergence:
        """Return the divergence for ranges of the bins with these counts, float64[n]."""

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
        """Return the divergence in nats of each range of bins; it is infinite where it is undefined."""
        result = np.full(len(starts), np.inf)
        sound = (stops - starts >= self.levels) & (self.below[stops] > self.below[starts])
        if sound.any():
            result[sound] = self._of_sound(starts[sound], stops[sound])
        return result

    def _of_sound(self, starts: Array, stops: Array) -> Array:
        total, last = self.below[-1], stops - 1
        steps = (stops - starts)[:, None] * np.arange(self.levels + 1)
        edges = starts[:, None] + (steps + self.levels // 2) // self.levels  # the edges of the levels, rounded to bins
        sums, filled = np.diff(self.below[edges], axis=1), np.diff(self.filled[edges], axis=1)
        left, right = self.below[starts], total - self.below[stops]
        wanted = sums.copy()  # P, summed over the bins of each level
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
        result: Array = np.round(np.maximum(nats, 0.0), 9)  # rounding errors must not decide between equal ranges
        return result


def _x_log_x(values: Array) -> Array:
    """Return x * log(x), which is 0 for x = 0."""
    result: Array = values * np.log(np.where(values > 0, values, 1.0))
    return result
