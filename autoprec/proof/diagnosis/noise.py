"""The power of differences between arrays, added up over batches."""

from __future__ import annotations

import math

import numpy as np

from autoprec.precision import Array

_BLOCK = 1 << 20
"""So many elements are compared at once, so that no array of doubles is as large as what is compared."""


class Power:
    """Sums over all elements that were compared.

    Attributes:
        error: the sum of the squared differences; infinite where one value is finite and the other is not.
        signal: the sum of the squares of what was expected.
        count: the number of elements.
    """

    def __init__(self) -> None:
        self.error = self.signal = 0.0
        self.count = 0

    def add(self, found: Array, expected: Array) -> None:
        """Compare more arrays; values that are equal, such as minus infinity in a mask, are no error."""
        if found.shape != expected.shape:
            self.error = math.inf
            return
        one, other = found.reshape(-1), expected.reshape(-1)
        self.count += one.size
        for begin in range(0, one.size, _BLOCK):
            self._add(one[begin : begin + _BLOCK], other[begin : begin + _BLOCK])

    def _add(self, found: Array, expected: Array) -> None:
        with np.errstate(all="ignore"):
            difference = found - expected
            error, signal = float(np.dot(difference, difference)), float(np.dot(expected, expected))
        if math.isfinite(error) and math.isfinite(signal):
            self.error += error
            self.signal += signal
        else:  # some are not finite, or so large that their squares are not
            self._add_carefully(found.astype(np.float64), expected.astype(np.float64))

    def _add_carefully(self, found: Array, expected: Array) -> None:
        finite = np.isfinite(found) & np.isfinite(expected)
        if not finite.all():
            same = (found == expected) | (np.isnan(found) & np.isnan(expected))
            if not (same | finite).all():
                self.error = math.inf
            found, expected = found[finite], expected[finite]
        difference = found - expected
        self.error += float(np.dot(difference, difference))
        self.signal += float(np.dot(expected, expected))

    @property
    def ratio(self) -> float | None:
        """The power of the error over that of the signal; None where nothing was compared."""
        if not self.count and not self.error:
            return None
        return self.error / self.signal if self.signal else math.inf if self.error else 0.0


def worst(ratios: list[float | None]) -> float | None:
    """Return the largest of the ratios that are known; None where none is."""
    return max((ratio for ratio in ratios if ratio is not None), default=None)
