"""Samples of different shapes: those of one shape lie together, and no batch mixes two of them.

Nothing is padded, because a pad that the model was not trained with changes its outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from autoprec.data.dataset import Source
from autoprec.graph.interface import Batch, Interface
from autoprec.precision import Array


class BucketedArrays:
    """A source over arrays in memory, of which each bucket holds the samples of one shape."""

    def __init__(self, groups: Sequence[Batch], origin: str, *, apart: bool = False) -> None:
        """Take the buckets.

        Args:
            groups: the samples of each bucket.
            origin: the name of the data in messages.
            apart: whether each sample must have a batch of its own, as a model without an axis for samples needs.
        """
        self._groups = list(groups)
        counts = [group.count for group in self._groups]
        self._starts = np.cumsum([0, *counts])
        self.count = sum(counts)
        numbers = np.repeat(np.arange(len(counts)), counts)
        self.buckets: Array = np.arange(self.count) if apart else numbers
        self.input_names = tuple(self._groups[0].inputs)
        self.has_labels = self._groups[0].labels is not None
        self.origin = origin

    def read(self, indices: Sequence[int]) -> Batch:
        """Return the samples at `indices`, which must have one shape."""
        rows = np.asarray(indices, dtype=np.int64)
        number = int(np.searchsorted(self._starts, rows[0], side="right")) - 1
        group, local = self._groups[number], rows - self._starts[number]
        labels = None if group.labels is None else group.labels[local]
        return Batch({name: array[local] for name, array in group.inputs.items()}, labels)


class ApartSource:
    """A source whose samples each need a batch of their own, since the model has no axis for samples."""

    def __init__(self, source: Source) -> None:
        self.count, self.input_names, self.has_labels = source.count, source.input_names, source.has_labels
        self.origin, self.read = source.origin, source.read
        self.buckets: Array = np.arange(source.count)


def needs_runs_apart(batch: Batch, interface: Interface) -> bool:
    """Return whether each sample of the batch needs a run of its own."""
    return any(spec.takes_whole(batch.inputs[spec.name]) for spec in interface.inputs)


def by_shape(arrays: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
    """Return batches of named arrays, joined where all samples have one shape, in the order of the first of each shape.

    Args:
        arrays: batches with the same names; the first axis of each array is the samples.
    """
    found: dict[tuple[object, ...], list[Mapping[str, Array]]] = {}
    for batch in arrays:
        key = tuple((name, array.shape[1:], array.dtype) for name, array in sorted(batch.items()))
        found.setdefault(key, []).append(batch)
    return [{name: np.concatenate([b[name] for b in batches]) for name in batches[0]} for batches in found.values()]
