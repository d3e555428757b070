"""A streaming histogram of the values of a tensor: one pass, bounded memory, and any order of updates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from autoprec.errors import DataError, UsageError
from autoprec.precision import Array
from autoprec.ranges.bins import Bins
from autoprec.ranges.packing import packed_counts, unpacked_counts

DEFAULT_BINS = 8192
"""The number of bins of a histogram, which use 64 KiB."""
_CHUNK = 1 << 16  # elements that are counted at a time, so that the buffers stay in the second-level cache
_FINEST_EXPONENT = -126  # the smallest exponent of a normal float32 number
_MANTISSA_BITS = 24  # the bits of a float32 number; bins that are finer than float32 itself would tell nothing


class Histogram:
    """The counts of a tensor's values in bins of equal width, with exact extremes and sums.

    Bins are intervals `[i * width, (i + 1) * width)` whose width is a power of two. When the values no longer fit into
    the fixed number of bins, neighbouring bins are merged in pairs. Both edges of a merged bin were edges before, so
    the counts are the same as if the final width had been used from the start, whatever the order of the values.
    Zeros are counted apart: ReLU produces many of them, and they are exact under any scale that represents zero.
    Values are taken as float32.

    Args:
        bins: the largest number of bins. A bin uses 8 bytes, whatever the number of values.

    Attributes:
        bins_limit: the largest number of bins.
        count: the number of all values.
        zeros: the number of values that are exactly 0.
        low: the smallest value; infinity if there is none.
        high: the largest value; minus infinity if there is none.
        total: the sum of the values in float64.
        squares: the sum of their squares in float64.

    Raises:
        UsageError: there are fewer than 16 bins.
    """

    def __init__(self, bins: int = DEFAULT_BINS) -> None:
        if bins < 16:
            raise UsageError(f"a histogram must have at least 16 bins, got {bins}")
        self.bins_limit = bins
        self.count = 0
        self.zeros = 0
        self.low = math.inf
        self.high = -math.inf
        self.total = 0.0
        self.squares = 0.0
        self._exponent = _FINEST_EXPONENT
        self._first = 0  # the grid index of the bin that holds `low`
        self._counts: Array = np.zeros(bins, np.int64)

    @property
    def bin_width(self) -> float:
        """The width of a bin in the unit of the tensor."""
        return math.ldexp(1.0, self._exponent)

    @property
    def nbytes(self) -> int:
        """The number of bytes of the bins, which does not grow with the number of values."""
        return int(self._counts.nbytes)

    @property
    def magnitude(self) -> float:
        """The largest absolute value, or 0 if there is no value."""
        return max(-self.low, self.high) if self.count else 0.0

    @property
    def mean(self) -> float:
        """The mean of all values.

        Raises:
            DataError: no value was seen.
        """
        self.require_values()
        return self.total / self.count

    @property
    def variance(self) -> float:
        """The mean squared difference from the mean.

        Raises:
            DataError: no value was seen.
        """
        self.require_values()
        return max(self.squares / self.count - self.mean**2, 0.0)

    def require_values(self) -> None:
        """Check that at least one value was counted.

        Raises:
            DataError: no value was seen.
        """
        if not self.count:
            raise DataError("calibration must see at least one value, got none; give at least one sample")

    def update(self, values: Array) -> None:
        """Count `values`, an array of any shape and any real type. An error leaves the histogram unchanged.

        Raises:
            DataError: the array is not numeric, or it holds NaN, infinity or a number that is too large for float32.
        """
        values = np.asarray(values)
        if not np.can_cast(values.dtype, np.float32, "same_kind"):
            raise DataError(f"values must be real numbers, got {values.dtype}; convert them to float32")
        flat = values.ravel(order="K")  # in memory order, a transposed array need not be copied
        if not flat.size:
            return
        low, high = _extremes(flat)
        self._cover(low, high)
        self.count += flat.size
        size = min(_CHUNK, flat.size)
        scratch = np.empty(size, np.float32), np.empty(size, np.intp), np.empty(size)
        for start in range(0, flat.size, size):
            chunk = flat[start : start + size].astype(np.float32, copy=False)
            scaled, indices, doubles = (buffer[: chunk.size] for buffer in scratch)
            self._count_chunk(chunk, scaled, indices)
            doubles[:] = chunk
            self.total += float(doubles.sum())
            self.squares += float(np.square(doubles, out=doubles).sum())

    def merge(self, other: Histogram) -> None:
        """Add what `other` has counted, as if this histogram had seen its values too.

        Raises:
            UsageError: the two have different numbers of bins.
        """
        if other.bins_limit != self.bins_limit:
            raise UsageError(
                f"histograms to merge must have the same number of bins, got {self.bins_limit} and {other.bins_limit}"
            )
        if not other.count:
            return
        counts = other._counts.copy()  # `other` may be this very histogram, whose bins move in the next lines
        first, exponent = other._first, other._exponent
        self._cover(other.low, other.high)
        self._counts += self._placed(counts, first, self._exponent - exponent, self._first)
        self.count += other.count
        self.zeros += other.zeros
        self.total += other.total
        self.squares += other.squares

    def bins(self) -> Bins:
        """Return the bins from the smallest value to the largest, with the empty ones between them.

        Raises:
            DataError: no value was seen.
        """
        self.require_values()
        used = _grid_index(self.high, self._exponent) - self._first + 1
        edges = np.ldexp(np.arange(self._first, self._first + used + 1, dtype=np.float64), self._exponent)
        edges[0], edges[-1] = self.low, self.high
        return Bins(
            first=self._first, width=self.bin_width, edges=edges, counts=self._counts[:used].copy(), zeros=self.zeros
        )

    def folded(self) -> Bins:
        """Return the bins of the absolute values, from the smallest that the extremes allow to the largest.

        Raises:
            DataError: no value was seen.
        """
        signed = self.bins()
        index = signed.first + np.arange(len(signed.counts))
        index = np.where(index < 0, -1 - index, index)  # the mirror image of bin [i, i + 1) is bin [-i - 1, -i)
        first, last = int(index.min()), int(index.max())
        counts = np.zeros(last - first + 1, np.int64)
        np.add.at(counts, index - first, signed.counts)
        edges = np.ldexp(np.arange(first, last + 2, dtype=np.float64), self._exponent)
        edges[0], edges[-1] = max(self.low, -self.high, 0.0), self.magnitude
        return Bins(first=first, width=self.bin_width, edges=edges, counts=counts, zeros=self.zeros)

    def to_record(self) -> dict[str, Any]:
        """Return the histogram as plain JSON values; the bins are compressed."""
        return {
            "bins": self.bins_limit,
            "count": self.count,
            "zeros": self.zeros,
            "low": self.low if self.count else 0.0,
            "high": self.high if self.count else 0.0,
            "sum": self.total,
            "squares": self.squares,
            "exponent": self._exponent,
            "first": self._first,
            "counts": packed_counts(self._counts),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Histogram:
        """Return the histogram that `to_record` described.

        Raises:
            DataError: the record is incomplete, or its parts contradict each other.
        """
        try:
            histogram = cls(int(record["bins"]))
            histogram._counts = unpacked_counts(str(record["counts"]), histogram.bins_limit)
            histogram.count, histogram.zeros = int(record["count"]), int(record["zeros"])
            histogram.total, histogram.squares = float(record["sum"]), float(record["squares"])
            if histogram.count:
                histogram.low, histogram.high = float(record["low"]), float(record["high"])
                histogram._first, histogram._exponent = histogram._window(histogram.low, histogram.high)
            whole = int(histogram._counts.sum()) + histogram.zeros == histogram.count
            placed = (histogram._exponent, histogram._first) == (record["exponent"], record["first"])
        except (KeyError, TypeError, ValueError, OverflowError, UsageError) as error:
            raise DataError(
                f"a histogram's record must be complete, got a broken one ({error!r}); calibrate again"
            ) from error
        if not (whole and placed):
            raise DataError("a histogram's record must agree with itself, got a damaged one; calibrate again")
        return histogram

    def _window(self, low: float, high: float) -> tuple[int, int]:
        """Return the index of the first bin and the exponent of the width that hold the values from `low` to `high`.

        The exponent is the smallest that fits. It depends on the extremes alone and never shrinks when they widen, so
        the state of the histogram does not depend on the order of updates.
        """
        magnitude = max(-low, high)
        exponent = math.frexp(magnitude)[1] - _MANTISSA_BITS if magnitude else _FINEST_EXPONENT
        exponent = max(exponent, _FINEST_EXPONENT)
        while _grid_index(high, exponent) - _grid_index(low, exponent) >= self.bins_limit:
            exponent += 1
        return _grid_index(low, exponent), exponent

    def _cover(self, low: float, high: float) -> None:
        """Widen the extremes to hold `low` and `high`, and move the counts to the bins that follow from them."""
        low, high = min(low, self.low), max(high, self.high)
        first, exponent = self._window(low, high)
        if self.count and (first, exponent) != (self._first, self._exponent):
            self._counts = self._placed(self._counts, self._first, exponent - self._exponent, first)
        self._first, self._exponent, self.low, self.high = first, exponent, low, high

    def _count_chunk(self, chunk: Array, scaled: Array, indices: Array) -> None:
        last = self.bins_limit - 1
        np.multiply(chunk, np.float32(math.ldexp(1.0, -self._exponent)), out=scaled)  # exact: a power of two
        np.floor(scaled, out=scaled)
        if self._exponent > 0:  # a tiny negative value may have become 0 in the product, but belongs to bin -1
            scaled[(scaled == 0) & (chunk < 0)] = -1.0
        indices[:] = scaled
        np.subtract(indices, self._first, out=indices)
        np.clip(indices, 0, last, out=indices)  # some processors flush subnormal numbers to 0, which moves their bin
        self._counts += np.bincount(indices, minlength=self.bins_limit)
        zeros = chunk.size - int(np.count_nonzero(chunk))
        if zeros:
            self._counts[min(max(-self._first, 0), last)] -= zeros
            self.zeros += zeros

    def _placed(self, counts: Array, first: int, merges: int, new_first: int) -> Array:
        """Return `counts`, which began at bin `first`, after `merges` merges of pairs, beginning at `new_first`."""
        filled = np.flatnonzero(counts)
        result = np.zeros(self.bins_limit, np.int64)
        # An arithmetic shift rounds down, like the rule that puts a value into its bin.
        np.add.at(result, ((filled + first) >> min(merges, 62)) - new_first, counts[filled])
        return result


def _grid_index(value: float, exponent: int) -> int:
    return math.floor(math.ldexp(value, -exponent))


def _extremes(flat: Array) -> tuple[float, float]:
    """Return the smallest and the largest value; raise a DataError if some value is not a finite float32 number."""
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = np.float32(flat.min()), np.float32(flat.max())  # both are NaN if any value is
    if np.isfinite(low) and np.isfinite(high):
        return float(low), float(high)
    with np.errstate(over="ignore", invalid="ignore"):
        bad = int(flat.size - np.isfinite(flat.astype(np.float32)).sum())
    kind = "NaN" if np.isnan(low) else "infinity"
    raise DataError(
        f"values must be finite float32 numbers, got {kind} among {bad} of {flat.size} that are not; "
        "check the data and the model's own outputs"
    )
