"""Batches of named arrays, read one at a time from a source of any size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np

from autoprec.errors import DataError
from autoprec.files.json import array_fingerprint, fingerprint
from autoprec.graph.interface import Batch
from autoprec.precision import Array

__all__ = ["Batch", "Dataset", "Source"]

_DIGEST_BATCH = 16


class Source(Protocol):
    """Where samples come from: anything that can hand out the samples at given positions."""

    @property
    def count(self) -> int:
        """Samples in the source."""

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the arrays of a batch, labels apart."""

    @property
    def has_labels(self) -> bool:
        """Whether batches carry labels."""

    @property
    def origin(self) -> str:
        """What to call the source in messages, such as a file's name."""

    def read(self, indices: Sequence[int]) -> Batch:
        """The samples at `indices`, in that order; all other samples may stay on disk."""


class Dataset:
    """An immutable view over a source: all its samples, or some of them in a given order.

    A data set is itself a `Source`. It keeps positions and digests in memory, never samples: how much of the
    data is in memory at a time is up to the source.
    """

    def __init__(self, source: Source, indices: Sequence[int] | None = None) -> None:
        """View `source`, or only its samples at `indices`.

        Raises:
            DataError: there is no sample, or an index lies outside the source.
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
        self._content: tuple[tuple[str, str], ...] | None = None

    @classmethod
    def from_arrays(cls, inputs: Mapping[str, Array], labels: Array | None = None, origin: str = "arrays") -> Dataset:
        """A data set over arrays in memory, which must not be changed afterwards.

        Args:
            inputs: arrays by input name; the first axis of each is samples.
            labels: labels, first axis samples.
            origin: what to call the data in messages.

        Raises:
            DataError: no arrays, no samples, or arrays of different lengths.
        """
        return cls(_Arrays(inputs, labels, origin))

    def merged(self, other: Dataset) -> Dataset:
        """The samples of this view and then those of another view of the same source.

        Raises:
            ValueError: the other one views another source.
        """
        if other._source is not self._source:
            raise ValueError(f"{other.origin} is not a view of the same source as {self.origin}")
        return Dataset(self._source, np.concatenate([self._positions, other._positions]).tolist())

    @property
    def count(self) -> int:
        """Samples in the data set."""
        return len(self._positions)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the arrays of a batch, labels apart."""
        return self._source.input_names

    @property
    def has_labels(self) -> bool:
        """Whether batches carry labels."""
        return self._source.has_labels

    @property
    def origin(self) -> str:
        """What to call the data in messages, such as a file's name."""
        return self._source.origin

    def read(self, indices: Sequence[int]) -> Batch:
        """The samples at `indices` of this view, in that order."""
        return self._source.read(self._positions[np.asarray(indices, dtype=np.int64)].tolist())

    def batches(self, size: int) -> Iterator[Batch]:
        """All samples in order, `size` at a time; the last batch may be shorter.

        Raises:
            DataError: the source turns out to be broken at some sample.
            ValueError: `size` is less than 1.
        """
        if size < 1:
            raise ValueError(f"a batch must have at least 1 sample, got size {size}")
        starts = range(0, self.count, size)
        return (self.read(range(start, min(start + size, self.count))) for start in starts)

    def subset(self, indices: Sequence[int]) -> Dataset:
        """The samples at `indices` of this view, in that order, as a data set of their own.

        Raises:
            DataError: `indices` is empty or an index lies outside this view.
        """
        view = Dataset(self, indices)  # checks the indices against this view
        chosen = Dataset(self._source, self._positions[view._positions].tolist())
        if self._content is not None:
            chosen._content = tuple(self._content[position] for position in view._positions)
        return chosen

    def digests(self) -> tuple[str, ...]:
        """One digest per sample over its inputs (names, types, shapes, bytes); labels do not count.

        Equal samples have equal digests in every data set of the same model. Reads everything once, then
        remembers.
        """
        return tuple(digest for digest, _ in self._digested())

    def identities(self) -> tuple[str, ...]:
        """One digest per sample over its inputs and its label: equal where a metric must score equal outputs alike."""
        return tuple(fingerprint(pair) for pair in self._digested())

    def fingerprint(self) -> str:
        """A fingerprint of the content: every sample and label, in order; reads as `digests` does."""
        return fingerprint([part for pair in self._digested() for part in pair])

    def _digested(self) -> tuple[tuple[str, str], ...]:
        """Per sample, the digest of its inputs and that of its label."""
        if self._content is None:
            self._content = tuple(
                _digest_sample(batch, row) for batch in self.batches(_DIGEST_BATCH) for row in range(batch.count)
            )
        return self._content


def _digest_sample(batch: Batch, row: int) -> tuple[str, str]:
    inputs = array_fingerprint({name: array[row] for name, array in batch.inputs.items()})
    return inputs, "" if batch.labels is None else array_fingerprint({"": batch.labels[row]})


class _Arrays:
    """A source over arrays in memory."""

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
    if array.ndim == 0:
        raise DataError(f"{name!r} of {origin} is a single number; the first axis of every array must be samples")
    return len(array)
