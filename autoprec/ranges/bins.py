"""Ranges of real numbers, and the bins in which a histogram counts values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from autoprec.errors import DataError
from autoprec.precision import Array


@dataclass(frozen=True, slots=True)
class Range:
    """The real numbers from `low` to `high`, both included. Zero may lie outside.

    Raises:
        DataError: an end is not finite, or the ends are swapped.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise DataError(
                f"a range must have finite ends with low <= high, got [{self.low}, {self.high}]; "
                "calibrate again on finite data"
            )

    @property
    def magnitude(self) -> float:
        """The largest absolute value in the range."""
        return max(abs(self.low), abs(self.high))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bins:
    """Adjacent bins in ascending order; the values that are exactly 0 are counted apart.

    Bin `i` holds `counts[i]` non-zero values from `edges[i]` to `edges[i + 1]`. The inner edges are multiples of
    `width`. The outer edges are the extreme values, so an outer bin may have no width at all.

    Attributes:
        first: the index of the first bin on the grid: bin `i` lies between `first + i` and `first + i + 1` widths.
        width: the distance of the inner edges in the unit of the tensor.
        edges: the edges of the bins, float64[n + 1].
        counts: the number of non-zero values in each bin, int64[n].
        zeros: the number of values that are exactly 0.
    """

    first: int
    width: float
    edges: Array
    counts: Array
    zeros: int

    def quantile(self, fraction: float) -> float:
        """Return the value with `fraction` of all values at or below it, correct to within the width of a bin.

        This is the inverse of the empirical distribution function, with values spread evenly inside a bin and no
        interpolation between distant bins. The fractions 0 and 1 give the outer edges of the outer bins.
        """
        # The zeros become a bin without width at its place in the order.
        spot = int(np.searchsorted(self.edges[:-1], 0.0))  # all bins before it are negative
        counts = np.insert(self.counts, spot, self.zeros)
        lows = np.insert(self.edges[:-1], spot, 0.0)
        highs = np.insert(self.edges[1:], spot, 0.0)
        cumulated = np.cumsum(counts)
        total = int(cumulated[-1])
        rank = min(max(math.ceil(fraction * total), 1), total)
        index = int(np.searchsorted(cumulated, rank))
        if fraction <= 0 or fraction >= 1:
            return float(lows[index] if fraction <= 0 else highs[index])
        inside = (rank - int(cumulated[index] - counts[index]) - 0.5) / int(counts[index])
        return float(lows[index] + inside * (highs[index] - lows[index]))
