"""Samples that come one after the other, such as those of a DataLoader: kept in files, so that memory holds a few.

A run reads its samples many times and in any order, and a loader gives them once and in its own. So they are written to
a temporary folder as they come, and read from there.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from autoprec.data.buckets import BucketedArrays, needs_runs_apart
from autoprec.data.dataset import Batch, Dataset
from autoprec.data.items import LABELS, named_arrays, samples_first
from autoprec.errors import AutoprecError, DataError
from autoprec.graph.interface import Interface, check_names, check_samples
from autoprec.precision import Array

Key = tuple[tuple[str, tuple[int, ...], str], ...]


@runtime_checkable
class Loader(Protocol):
    """What torch's DataLoader has; so it is known without an import of torch."""

    @property
    def dataset(self) -> Any:
        """Where the samples come from."""

    @property
    def sampler(self) -> Any:
        """The order of the samples, which may be another each time."""

    def __iter__(self) -> Iterator[Any]:
        """The batches."""


@runtime_checkable
class Indexed(Protocol):
    """What torch's data sets with a length have."""

    def __len__(self) -> int:
        """The number of samples."""

    def __getitem__(self, index: int) -> Any:
        """One sample, without an axis for samples."""


def from_stream(source: Iterable[Any], interface: Interface, origin: str) -> Dataset:
    """Return the data set of items that come one after the other, see `autoprec.data.items.named_arrays`.

    The samples of a loader are put into an order of their own, so that one that shuffles gives the same data each time.

    Raises:
        DataError: there are no samples, an item does not fit the model, or the source raised an error.
    """
    store = _Store(interface, origin)
    try:
        for number, item in enumerate(source):
            store.add(item, number)
    except (AutoprecError, KeyboardInterrupt):
        raise
    except BaseException as error:  # the user's code; sys.exit would end the run as if all were well
        raise DataError(
            f"{origin} raised {type(error).__name__}: {error}, after {store.count} samples; it must give batches of "
            f"arrays"
        ) from error
    return store.dataset(ordered=isinstance(source, Loader))


def items_of(source: Indexed) -> Iterator[Any]:
    """Yield the samples of a data set with a length."""
    return (source[index] for index in range(len(source)))


class _Store:
    """Files that grow: one for each array and each shape of samples."""

    def __init__(self, interface: Interface, origin: str) -> None:
        self._interface, self._origin = interface, origin
        self._folder = Path(tempfile.mkdtemp(prefix="autoprec-data-"))
        weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._groups: dict[Key, _Group] = {}
        self._names: set[str] | None = None
        self._apart = False
        self.count = 0

    def add(self, item: Any, number: int) -> None:
        """Write the samples of an item to the files."""
        origin = f"batch {number} of {self._origin}"
        arrays = samples_first(named_arrays(item, self._interface, origin), self._interface, origin)
        if self._names is not None and set(arrays) != self._names:
            raise DataError(
                f"all batches of {self._origin} must hold the same arrays, but batch {number} holds "
                f"{sorted(arrays)} and batch 0 holds {sorted(self._names)}"
            )
        self._names = set(arrays)
        labels = None if any(spec.name == LABELS for spec in self._interface.inputs) else arrays.pop(LABELS, None)
        check_names(arrays, self._interface, self._origin)
        found = next(iter(arrays.values())).shape[:1]
        samples = range(self.count, self.count + (found[0] if found else 0))
        batch = check_samples(Batch(arrays, labels), self._interface, self._origin, samples)
        self._apart = self._apart or needs_runs_apart(batch, self._interface)
        written = batch.inputs | ({} if labels is None else {LABELS: labels})
        key = tuple((name, array.shape[1:], array.dtype.str) for name, array in written.items())
        if key not in self._groups:
            self._groups[key] = _Group(self._folder, len(self._groups))
        try:
            self._groups[key].append(written, batch.count)
        except OSError as error:
            raise DataError(
                f"{self._origin} cannot be kept in {self._folder} after {self.count} samples: "
                f"{error.strerror or error}; free space, set TMPDIR, or give fewer samples"
            ) from error
        self.count += batch.count

    def dataset(self, *, ordered: bool) -> Dataset:
        """Return what was written."""
        if not self.count:
            raise DataError(f"{self._origin} has no samples; give at least one")
        labels = LABELS not in {spec.name for spec in self._interface.inputs}
        groups = [group.batch(labels=labels) for group in self._groups.values()]
        source = _Stored(groups, self._origin, apart=self._apart)
        source.store = self
        if not ordered:
            return Dataset(source)
        starts = np.cumsum([0, *(group.count for group in groups)])
        digests = [group.digests for group in self._groups.values()]
        places = [start + index for start, each in zip(starts, digests, strict=False) for index in np.argsort(each)]
        return Dataset(source, [int(place) for place in places])


class _Stored(BucketedArrays):
    """Samples in files that are there for as long as the source is."""

    store: _Store


class _Group:
    """The samples of one shape."""

    def __init__(self, folder: Path, number: int) -> None:
        self._folder, self._number = folder, number
        self._forms: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        self._count = 0
        self.digests: list[bytes] = []

    def _path(self, name: str) -> Path:
        return self._folder / f"{self._number}-{list(self._forms).index(name)}.bin"

    def append(self, arrays: dict[str, Array], count: int) -> None:
        hashes = [hashlib.blake2b(digest_size=16) for _ in range(count)]
        for name, array in arrays.items():
            self._forms.setdefault(name, (array.shape[1:], array.dtype))
            rows = np.ascontiguousarray(array)
            with self._path(name).open("ab") as file:
                file.write(rows.tobytes())
            for index, digest in enumerate(hashes):
                digest.update(rows[index : index + 1].tobytes())
        self.digests += [digest.digest() for digest in hashes]
        self._count += count

    def batch(self, *, labels: bool) -> Batch:
        arrays = {name: self._opened(name) for name in self._forms}
        found = arrays.pop(LABELS, None) if labels else None
        return Batch(arrays, found)

    def _opened(self, name: str) -> Array:
        shape, dtype = self._forms[name]
        whole = (self._count, *shape)
        if not self._path(name).stat().st_size:  # nothing to map
            return np.zeros(whole, dtype)
        return np.memmap(self._path(name), dtype, "r", shape=whole)
