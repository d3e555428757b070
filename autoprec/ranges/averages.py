"""Ranges that are means: of the extremes of batches, which follow the newest ones, and of several calibrators."""

from __future__ import annotations

from collections.abc import Mapping

from autoprec.errors import DataError
from autoprec.precision import Array
from autoprec.ranges.bins import Range


class MovingRange:
    """The exponential moving average of the smallest and the largest value of each batch.

    One outlier in one batch moves it little, where min-max would keep it. The average begins with the first batch, as
    in Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference".

    Args:
        smoothing: the share of the newest batch, above 0 and up to 1; 1 keeps the last batch alone.
    """

    def __init__(self, smoothing: float) -> None:
        self._smoothing = smoothing
        self._extremes: tuple[float, float] | None = None

    def update(self, values: Array) -> None:
        """Take in the values of one batch; no value changes nothing."""
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if self._extremes is None:
            self._extremes = low, high
            return
        before, share = self._extremes, self._smoothing
        self._extremes = before[0] + share * (low - before[0]), before[1] + share * (high - before[1])

    def span(self, *, symmetric: bool) -> Range:
        """Return the range, which contains 0, or is symmetric around it.

        Raises:
            DataError: no value was seen.
        """
        if self._extremes is None:
            raise DataError("calibration must see at least one value, got none; give at least one sample")
        low, high = self._extremes
        if symmetric:
            reach = max(-low, high, 0.0) or 1.0
            return Range(-reach, reach)
        low, high = min(low, 0.0), max(high, 0.0)
        return Range(low, high) if low < high else Range(0.0, 1.0)


def blended_range(spans: Mapping[str, Range], weights: Mapping[str, float]) -> Range:
    """Return the weighted mean of the bounds of several calibrators.

    Args:
        spans: calibrator -> its range.
        weights: calibrator -> its weight; their sum is positive.
    """
    total = sum(weights.values())
    low = sum(weights[name] * spans[name].low for name in weights) / total
    high = sum(weights[name] * spans[name].high for name in weights) / total
    return Range(low, high)
