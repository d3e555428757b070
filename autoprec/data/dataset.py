"""Data sets: batches of named arrays that are read one at a time from a source of any size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from autoprec.errors import DataError
from autoprec.files.json import array_fingerprint, fingerprint
from autoprec.graph.interface import Batch
from autoprec.precision import Array

__all__ = ["Batch", "Dataset", "Source"]

_DIGEST_BATCH = 16  # how many samples are in memory while digests are computed


class Source(Protocol):
    """The seam between data sets and where samples come from: whatever returns the samples at given indices."""

    @property
    def count(self) -> int:
        """The number of samples in the source."""

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the arrays of a batch, without the labels."""

    @property
    def has_labels(self) -> bool:
        """Whether batches have labels."""

    @property
    def origin(self) -> str:
        """The name of the source in messages, such as a path."""

    def read(self, indices: Sequence[int]) -> Batch:
        """Return the samples at `indices`, in that order; all other samples may stay on disk."""


@runtime_checkable
class Bucketed(Protocol):
    """What a source also has whose samples cannot all be in one batch, such as texts of different lengths."""

    @property
    def buckets(self) -> Array:
        """The number of the bucket of each sample, int64[count]; a batch holds samples of one bucket."""


class Dataset:
    """An immutable view of a source: all of its samples, or some of them in a given order.

    A data set is itself a `Source`. It keeps indices and digests in memory, but no samples: the source decides how
    much of the data is in memory at a time.
    """

    def __init__(self, source: Source, indices: Sequence[int] | None = None) -> None:
        """View the samples of `source` at `indices`, or all of them.

        Raises:
            DataError: there are no samples, or an index lies outside the source.
        """
        chosen = range(source.count) if indices is None else indices
        positions = np.asarray(chosen, dtype=np.int64)
        if positions.size == 0:
            raise DataError(f"{source.origin} has no samples; give at least one")
        if positions.min() < 0 or positions.max() >= source.count:
            raise DataError(
                f"{source.origin} has {source.count} samples, so indices run from 0 to {source.count - 1}; "
                f"got {int(positions.min())} to {int(positions.max())}"
            )
        self._source = source
        self._positions = positions
        self._buckets = source.buckets[positions] if isinstance(source, Bucketed) else np.zeros_like(positions)
        self._content: tuple[tuple[str, str], ...] | None = None

    @classmethod
    def from_arrays(cls, inputs: Mapping[str, Array], labels: Array | None = None, origin: str = "arrays") -> Dataset:
        """Return a data set over arrays in memory, which must not be changed afterwards.

        Args:
            inputs: input name -> array, whose first axis is the samples.
            labels: the labels, whose first axis is the samples, or None.
            origin: the name of the data in messages.

        Raises:
            DataError: there are no arrays or no samples, or the arrays have different lengths.
        """
        return cls(_Arrays(inputs, labels, origin))

    def merged(self, other: Dataset) -> Dataset:
        """Return the samples of this view, followed by those of another view of the same source.

        Raises:
            ValueError: the other one is a view of another source.
        """
        if other._source is not self._source:
            raise ValueError(f"{other.origin} is not a view of the same source as {self.origin}")
        return Dataset(self._source, np.concatenate([self._positions, other._positions]).tolist())

    @property
    def count(self) -> int:
        """The number of samples in the data set."""
        return len(self._positions)

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the arrays of a batch, without the labels."""
        return self._source.input_names

    @property
    def has_labels(self) -> bool:
        """Whether batches have labels."""
        return self._source.has_labels

    @property
    def origin(self) -> str:
        """The name of the data in messages, such as a path."""
        return self._source.origin

    def read(self, indices: Sequence[int]) -> Batch:
        """Return the samples at `indices` of this view, in that order."""
        return self._source.read(self._positions[np.asarray(indices, dtype=np.int64)].tolist())

    @property
    def buckets(self) -> Array:
        """The number of the bucket of each sample, int64[count]; see `Bucketed`."""
        return self._buckets

    def batches(self, size: int) -> Iterator[Batch]:
        """Iterate over all samples in order, at most `size` at a time.

        A batch ends early where the samples end, or where the next one is of another bucket: nothing is padded.

        Raises:
            DataError: the source cannot read some sample.
            ValueError: `size` is less than 1.
        """
        if size < 1:
            raise ValueError(f"a batch must have at least 1 sample, got size {size}")
        ends = [*(np.flatnonzero(np.diff(self._buckets)) + 1).tolist(), self.count]
        bounds = [
            (low, min(low + size, end))
            for begin, end in zip([0, *ends], ends, strict=False)
            for low in range(begin, end, size)
        ]
        return (self.read(range(low, high)) for low, high in bounds)

    def largest_bucket(self) -> Dataset:
        """Return the samples of the bucket that holds most of them, the first of several such."""
        numbers, firsts, counts = np.unique(self._buckets, return_index=True, return_counts=True)
        best = min(zip(-counts, firsts, numbers, strict=True))[2]
        return self.subset(np.flatnonzero(self._buckets == best).tolist())

    def subset(self, indices: Sequence[int]) -> Dataset:
        """Return the samples at `indices` of this view, in that order, as a data set of their own.

        Raises:
            DataError: `indices` is empty, or an index lies outside this view.
        """
        view = Dataset(self, indices)  # this checks the indices against this view
        chosen = Dataset(self._source, self._positions[view._positions].tolist())
        if self._content is not None:
            chosen._content = tuple(self._content[position] for position in view._positions)
        return chosen

    def digests(self) -> tuple[str, ...]:
        """Return one digest of the inputs of each sample: their names, types, shapes and bytes, without the label.

        Equal samples have equal digests in every data set of the same model. The first call reads all samples, and
        the digests are kept.
        """
        return tuple(digest for digest, _ in self._digested())

    def identities(self) -> tuple[str, ...]:
        """Return one digest of each sample with its label. If two are equal, equal outputs must get equal scores."""
        return tuple(fingerprint(pair) for pair in self._digested())

    def fingerprint(self) -> str:
        """Return a fingerprint of all samples and labels in their order; the first call reads all samples."""
        return fingerprint([part for pair in self._digested() for part in pair])

    def _digested(self) -> tuple[tuple[str, str], ...]:
        """Return for each sample the digest of its inputs and that of its label."""
        if self._content is None:
            self._content = tuple(
                _digest_sample(batch, row) for batch in self.batches(_DIGEST_BATCH) for row in range(batch.count)
            )
        return self._content


def _digest_sample(batch: Batch, row: int) -> tuple[str, str]:
    inputs = array_fingerprint({name: array[row] for name, array in batch.inputs.items()})
    return inputs, "" if batch.labels is None else array_fingerprint({"": batch.labels[row]})


class _Arrays:
    """The source over arrays in memory."""

    def __init__(self, inputs: Mapping[str, Array], labels: Array | None, origin: str) -> None:
        if not inputs:
            raise DataError(f"{origin} has no arrays; give one array per model input")
        self._inputs = {name: np.asarray(array) for name, array in inputs.items()}
        self._labels = None if labels is None else np.asarray(labels)
        lengths = {f"{name!r}": _length(name, array, origin) for name, array in self._inputs.items()}
        if self._labels is not None:
            lengths["'labels'"] = _length("labels", self._labels, origin)
        if len(set(lengths.values())) > 1:
            found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise DataError(
                f"all arrays of {origin} must have the same number of samples on the first axis, but {found}"
            )
        self.count = next(iter(lengths.values()))
        self.input_names = tuple(self._inputs)
        self.has_labels = self._labels is not None
        self.origin = origin

    def read(self, indices: Sequence[int]) -> Batch:
        rows = np.asarray(indices, dtype=np.int64)
        labels = None if self._labels is None else self._labels[rows]
        return Batch({name: array[rows] for name, array in self._inputs.items()}, labels)


def _length(name: str, array: Array, origin: str) -> int:
    """Return the number of samples of an array after checking that it has an axis for them."""
    if array.ndim == 0:
        raise DataError(f"{name!r} of {origin} is a single number; the first axis of every array must be samples")
    return len(array)
