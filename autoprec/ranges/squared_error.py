"""The expected squared error of quantising a tensor, and the range that minimises it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoprec.precision import Array
from autoprec.ranges.affine import QuantParams, params_for
from autoprec.ranges.bins import Bins, Range
from autoprec.ranges.histogram import Histogram
from autoprec.ranges.range_search import factors_around_one, search_range

# A bin that is narrower than this share of the largest magnitude is treated as a point: the integrals at its two edges
# would agree in most of their digits, so their difference would be rounding noise.
_POINT = 1e-8

# First down to a thousandth of the extremes in sixths of an octave: below that the bins are wider than the steps of
# the codes, so the histogram tells nothing more. Then twice more finely around the best.
_GRIDS = (np.exp2(-np.arange(61) / 6.0), factors_around_one(1 / 6, 16), factors_around_one(1 / 48, 8))


def least_error_range(histogram: Histogram, symmetric: bool, bits: int, widest: Range) -> Range:
    """Return the range within `widest` that minimises the expected squared error of rounding and clipping."""
    density = Density.of(histogram.bins())

    def loss(lows: Array, highs: Array) -> Array:
        spans = (Range(float(low), float(high)) for low, high in zip(lows, highs, strict=True))
        return np.array([density.squared_error(params_for(span, symmetric, bits)) for span in spans])

    return search_range(loss, widest, symmetric, _GRIDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Density:
    """A histogram as a density that is constant within each bin, and some points.

    Attributes:
        edges: the edges of the bins, float64[n + 1].
        heights: the number of values per unit of the tensor in each bin, float64[n]; 0 for a bin that is a point.
        points: the places of the bins that are points.
        weights: the number of values at each point.
        total: the number of all values, zeros included. Zeros have no error, so they count here only.
    """

    edges: Array
    heights: Array
    points: Array
    weights: Array
    total: float

    @classmethod
    def of(cls, bins: Bins) -> Density:
        """Return the density of the values that `bins` counted."""
        widths = np.diff(bins.edges)
        narrow = widths <= _POINT * float(np.abs(bins.edges[[0, -1]]).max())
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
        """Return the mean squared difference between a value and what its code stands for.

        The difference is integrated exactly over each bin, so the result does not depend on where the edges of the
        bins lie relative to the steps of the codes.
        """
        lowest, highest = params.lowest - params.zero_point, params.highest - params.zero_point
        steps = self.edges / params.scale
        nearest = np.clip(np.rint(steps), lowest, highest)
        rest = steps - nearest
        # The integral of (u - nearest(u))**2 from 0 to u: each whole step contributes 1/12, and the rest its cube
        # over 3. Beyond the last code `nearest` stays, and the same formula integrates the clipping error.
        integral = nearest / 12.0 + rest * rest * rest / 3.0
        spread = float(np.dot(self.heights, np.diff(integral))) * params.scale**3
        steps = self.points / params.scale
        rest = steps - np.clip(np.rint(steps), lowest, highest)
        at_points = float(np.dot(self.weights, rest * rest)) * params.scale**2
        return max(spread + at_points, 0.0) / self.total  # rounding can make the sum slightly negative
