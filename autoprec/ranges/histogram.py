"""A histogram of a tensor's values that streams: one pass, bounded memory, any order of updates."""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoprec.errors import DataError, UsageError
from autoprec.precision import Array

DEFAULT_BINS = 8192
_CHUNK = 1 << 16  # elements; the scratch of one chunk stays in the second-level cache
_FINEST_EXPONENT = -126  # 2**126 is the largest power whose inverse is a normal float32
_MANTISSA_BITS = 24  # bins finer than float32 itself would tell nothing


@dataclass(frozen=True, slots=True)
class Range:
    """The real numbers from `low` to `high`; zero may lie outside.

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
    """Adjacent bins, ascending, with the exact zeros as an atom apart.

    Bin `i` holds `counts[i]` non-zero values from `edges[i]` to `edges[i + 1]`. Before the outer edges were
    drawn in to the extreme values it was bin `first + i` of the grid of multiples of `width`; an outer bin
    may therefore have no width at all, which makes it an atom.
    """

    first: int
    width: float
    edges: Array  # float64[n + 1]
    counts: Array  # int64[n]
    zeros: int

    def quantile(self, fraction: float) -> float:
        """The value with `fraction` of all values at or below it, right to within a bin's width.

        The inverse of the empirical distribution function (no interpolation between distant values), spread
        evenly inside a bin; 0 and 1 give the outer edges of the outer bins.
        """
        spot = int(np.searchsorted(self.edges[:-1], 0.0))  # bins before it are negative throughout
        counts = np.insert(self.counts, spot, self.zeros)
        lows = np.insert(self.edges[:-1], spot, 0.0)
        highs = np.insert(self.edges[1:], spot, 0.0)
        cumulated = np.cumsum(counts)
        total = int(cumulated[-1])
        rank = min(max(math.ceil(fraction * total), 1), total)
        found = int(np.searchsorted(cumulated, rank))
        if fraction <= 0 or fraction >= 1:
            return float(lows[found] if fraction <= 0 else highs[found])
        inside = (rank - int(cumulated[found] - counts[found]) - 0.5) / int(counts[found])
        return float(lows[found] + inside * (highs[found] - lows[found]))


class Histogram:
    """Counts of a tensor's values in bins of equal width, with exact extremes, zeros, sum and squares.

    Bins are intervals `[i * width, (i + 1) * width)` whose width is a power of two. When values no longer fit
    the fixed number of bins, neighbours are merged in pairs: both edges of a merged bin were edges before, so
    the counts are those that the final width would have given from the start, in whatever order the values
    came. Zero is counted apart: the spike that ReLU leaves is exact under any scale that represents zero.
    Values are taken as float32.

    Public and exact: `count` of all values, `zeros` among them, the extremes `low` and `high`; in float64 the
    sum `total` and the sum of `squares`.

    Args:
        bins: how many bins there may be; memory is 8 bytes each, whatever the number of values.

    Raises:
        UsageError: fewer than 16 bins.
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
        self._first = 0  # grid index of the bin that holds `low`
        self._counts: Array = np.zeros(bins, np.int64)

    @property
    def bin_width(self) -> float:
        """The width of a bin, in the tensor's own unit."""
        return math.ldexp(1.0, self._exponent)

    @property
    def nbytes(self) -> int:
        """Bytes of the bins, which are all that could grow."""
        return int(self._counts.nbytes)

    @property
    def magnitude(self) -> float:
        """The largest absolute value seen, 0 when nothing was."""
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
        """The mean squared distance from the mean.

        Raises:
            DataError: no value was seen.
        """
        self.require_values()
        return max(self.squares / self.count - self.mean**2, 0.0)

    def require_values(self) -> None:
        """Check that there is something to calibrate on.

        Raises:
            DataError: no value was seen.
        """
        if not self.count:
            raise DataError("calibration must see at least one value, got none; give at least one sample")

    def update(self, values: Array) -> None:
        """Count `values`, an array of any shape and any real type; unchanged when an error is raised.

        Raises:
            DataError: the array is not numeric, or holds NaN, infinity or more than float32 can hold.
        """
        values = np.asarray(values)
        if not np.can_cast(values.dtype, np.float32, "same_kind"):
            raise DataError(f"values must be real numbers, got {values.dtype}; convert them to float32")
        flat = values.ravel(order="K")  # memory order: no copy for any transposed contiguous array
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
        """Add what `other` has counted, as if its values had come here.

        Raises:
            UsageError: the numbers of bins differ.
        """
        if other.bins_limit != self.bins_limit:
            raise UsageError(
                f"histograms to merge must have the same number of bins, got {self.bins_limit} and {other.bins_limit}"
            )
        if not other.count:
            return
        counts = other._counts.copy()  # before the window moves: `other` may be this very histogram
        first, exponent = other._first, other._exponent
        self._cover(other.low, other.high)
        self._counts += self._placed(counts, first, self._exponent - exponent, self._first)
        self.count += other.count
        self.zeros += other.zeros
        self.total += other.total
        self.squares += other.squares

    def bins(self) -> Bins:
        """The bins from the smallest value to the largest, empty ones between included.

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
        """The bins of the absolute values, from the smallest that the extremes allow to the largest.

        Raises:
            DataError: no value was seen.
        """
        signed = self.bins()
        index = signed.first + np.arange(len(signed.counts))
        index = np.where(index < 0, -1 - index, index)
        first, last = int(index.min()), int(index.max())
        counts = np.zeros(last - first + 1, np.int64)
        np.add.at(counts, index - first, signed.counts)
        edges = np.ldexp(np.arange(first, last + 2, dtype=np.float64), self._exponent)
        edges[0], edges[-1] = max(self.low, -self.high, 0.0), self.magnitude
        return Bins(first=first, width=self.bin_width, edges=edges, counts=counts, zeros=self.zeros)

    def to_record(self) -> dict[str, Any]:
        """Everything counted, as plain JSON values; the bins are packed."""
        packed = zlib.compress(self._counts.astype("<i8").tobytes(), 6)
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
            "counts": base64.b64encode(packed).decode("ascii"),
        }

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Histogram:
        """The histogram that `to_record` described.

        Raises:
            DataError: the record is incomplete or contradicts itself.
        """
        try:
            histogram = cls(int(record["bins"]))
            histogram._counts = _unpacked(str(record["counts"]), histogram.bins_limit)
            histogram.count, histogram.zeros = int(record["count"]), int(record["zeros"])
            histogram.total, histogram.squares = float(record["sum"]), float(record["squares"])
            if histogram.count:
                histogram.low, histogram.high = float(record["low"]), float(record["high"])
                histogram._first, histogram._exponent = histogram._window(histogram.low, histogram.high)
            whole = int(histogram._counts.sum()) + histogram.zeros == histogram.count
            placed = (histogram._exponent, histogram._first) == (record["exponent"], record["first"])
        except (KeyError, TypeError, ValueError, OverflowError, zlib.error, UsageError) as error:
            raise DataError(
                f"a histogram's record must be complete, got a broken one ({error!r}); calibrate again"
            ) from error
        if not (whole and placed):
            raise DataError("a histogram's record must agree with itself, got a damaged one; calibrate again")
        return histogram

    def _window(self, low: float, high: float) -> tuple[int, int]:
        # The smallest exponent whose bins hold the span: a function of the extremes alone, and wider spans
        # never give a smaller one, so the state does not depend on the order of updates.
        magnitude = max(-low, high)
        exponent = math.frexp(magnitude)[1] - _MANTISSA_BITS if magnitude else _FINEST_EXPONENT
        exponent = max(exponent, _FINEST_EXPONENT)
        while _grid_index(high, exponent) - _grid_index(low, exponent) >= self.bins_limit:
            exponent += 1
        return _grid_index(low, exponent), exponent

    def _cover(self, low: float, high: float) -> None:
        low, high = min(low, self.low), max(high, self.high)
        first, exponent = self._window(low, high)
        if self.count and (first, exponent) != (self._first, self._exponent):
            self._counts = self._placed(self._counts, self._first, exponent - self._exponent, first)
        self._first, self._exponent, self.low, self.high = first, exponent, low, high

    def _count_chunk(self, chunk: Array, scaled: Array, indices: Array) -> None:
        last = self.bins_limit - 1
        np.multiply(chunk, np.float32(math.ldexp(1.0, -self._exponent)), out=scaled)  # exact: a power of two
        np.floor(scaled, out=scaled)
        if self._exponent > 0:  # a tiny negative value may have underflowed to 0: its bin is -1
            scaled[(scaled == 0) & (chunk < 0)] = -1.0
        indices[:] = scaled
        np.subtract(indices, self._first, out=indices)
        np.clip(indices, 0, last, out=indices)  # for processors that flush subnormal numbers to 0
        self._counts += np.bincount(indices, minlength=self.bins_limit)
        zeros = chunk.size - int(np.count_nonzero(chunk))
        if zeros:
            self._counts[min(max(-self._first, 0), last)] -= zeros
            self.zeros += zeros

    def _placed(self, counts: Array, first: int, merges: int, new_first: int) -> Array:
        filled = np.flatnonzero(counts)
        result = np.zeros(self.bins_limit, np.int64)
        # An arithmetic shift is the floor of halving, the rule that puts a value in its bin.
        np.add.at(result, ((filled + first) >> min(merges, 62)) - new_first, counts[filled])
        return result


def _grid_index(value: float, exponent: int) -> int:
    return math.floor(math.ldexp(value, -exponent))


def _extremes(flat: Array) -> tuple[float, float]:
    with np.errstate(over="ignore", invalid="ignore"):
        low, high = np.float32(flat.min()), np.float32(flat.max())  # NaN wins in both
    if np.isfinite(low) and np.isfinite(high):
        return float(low), float(high)
    with np.errstate(over="ignore", invalid="ignore"):
        bad = int(flat.size - np.isfinite(flat.astype(np.float32)).sum())
    kind = "NaN" if np.isnan(low) else "infinity"
    raise DataError(
        f"values must be finite float32 numbers, got {kind} among {bad} of {flat.size} that are not; "
        "check the data and the model's own outputs"
    )


def _unpacked(text: str, bins: int) -> Array:
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(base64.b64decode(text, validate=True), bins * 8 + 1)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
    if len(data) != bins * 8:
        raise ValueError(f"there must be {bins} counts")
    counts: Array = np.frombuffer(data, "<i8").astype(np.int64)
    if counts.min() < 0:
        raise ValueError("counts must be 0 or more")
    return counts
