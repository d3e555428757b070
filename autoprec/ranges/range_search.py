"""The search for the range with the least loss, which the entropy and the squared-error calibrators share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from autoprec.precision import Array
from autoprec.ranges.bins import Range

Loss = Callable[[Array, Array], Array]
"""(lows, highs) -> losses, float64[n] each: the loss of each candidate range."""


def search_range(loss: Loss, widest: Range, symmetric: bool, grids: Sequence[Array]) -> Range:
    """Search for the range of the least loss by scaling both ends together and then each end alone, grid by grid.

    Args:
        loss: the loss of each of several ranges.
        widest: the range to start from, which the result never exceeds.
        symmetric: whether both ends must keep the same distance from 0.
        grids: the factors to scale an end with. Each grid begins with 1, so that no step makes the loss worse and
            equal losses keep the range there is. Later grids are finer.
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


def factors_around_one(octaves: float, count: int) -> Array:
    """Return the factor 1, and then `count` factors from `-octaves` to `octaves` powers of two."""
    return np.concatenate([[1.0], np.exp2(np.linspace(-octaves, octaves, count))])
