"""Samples from `.npz` archives: a single archive in memory, or a folder of them that are read one at a time."""

from __future__ import annotations

import lzma
import math
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from autoprec.data.dataset import Batch
from autoprec.errors import DataError
from autoprec.precision import Array

# The errors that zipfile and NumPy raise for damaged or encrypted archives, and for methods of compression that they
# do not know.
_BROKEN = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    RuntimeError,  # RecursionError too, of brackets in brackets
    SyntaxError,
    tokenize.TokenError,  # NumPy reads headers as Python literals
    MemoryError,
    OverflowError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
_BOMB_BYTES = 1 << 30
_BOMB_RATIO = 300
"""An archive that becomes larger than a gigabyte may be at most this many times as large in memory as on disk."""
_REPAIR = "write it again with np.savez(file, name=array, ...)"

Header = tuple[tuple[int, ...], "np.dtype[Any]"]
"""The shape and the type of an array."""


def read_archive(path: Path) -> dict[str, Array]:
    """Return all arrays of a `.npz` file by name; nothing is unpickled, since that could run code of a stranger.

    Raises:
        DataError: the file is unreadable, is not a `.npz` archive, or holds Python objects.
    """
    headers = read_headers(path)
    _check_objects(headers, path)
    _check_memory(headers, path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except MemoryError as error:
        raise _too_large(path, sum(map(_bytes_of, headers.values()))) from error
    except _BROKEN as error:
        raise _broken(path, error) from error


def read_array(path: Path) -> Array:
    """Return the array of a `.npy` file; nothing is unpickled.

    Raises:
        DataError: the file is unreadable, is not a `.npy` file, or holds Python objects.
    """
    try:
        with path.open("rb") as file:
            headers = {path.stem: _header_of(file, path.stat().st_size, path.name)}
        _check_memory(headers, path)
        array: Array = np.load(path, allow_pickle=False)
    except _BROKEN as error:
        raise DataError(f"{path} must be a .npy file of numbers, but cannot be read ({error})") from error
    return array


def read_headers(path: Path) -> dict[str, Header]:
    """Return the shape and the type of every array of a `.npz` file, without reading the data.

    Raises:
        DataError: the file is unreadable or is not a `.npz` archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".npy")]
            headers = {name.removesuffix(".npy"): _read_header(archive, name) for name in members}
    except _BROKEN as error:
        raise _broken(path, error) from error
    if not headers:
        raise DataError(f"{path} holds no arrays; {_REPAIR}")
    return headers


def _read_header(archive: zipfile.ZipFile, member: str) -> Header:
    with archive.open(member) as file:
        return _header_of(file, archive.getinfo(member).file_size, member)


def _header_of(file: IO[bytes], size: int, name: str) -> Header:
    """Return the header of an array, which must fit the number of bytes that follow it."""
    form = np.lib.format
    version = form.read_magic(file)
    read = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
    shape, _, dtype = read(file)
    if not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError(f"the array {name!r} has the shape {shape}")
    needed, held = _bytes_of((shape, dtype)), size - file.tell()
    if not dtype.hasobject and needed != held:
        raise ValueError(f"the header of {name!r} promises {needed:,} bytes, but {held:,} follow")
    return shape, dtype


def _bytes_of(header: Header) -> int:
    shape, dtype = header
    return math.prod(shape) * dtype.itemsize


def _check_memory(headers: dict[str, Header], path: Path) -> None:
    """Refuse what does not fit into memory, and what a few bytes on disk pretend to be, before memory is taken."""
    needed, stored, free = sum(map(_bytes_of, headers.values())), path.stat().st_size, free_memory_bytes()
    if free is not None and needed > free:
        raise _too_large(path, needed)
    if needed > max(_BOMB_BYTES, _BOMB_RATIO * stored):
        raise DataError(
            f"{path} has {stored:,} bytes on disk and would fill {needed:,} in memory, far more than real data does; "
            f"write it again with np.savez if it is yours"
        )


def free_memory_bytes() -> int | None:
    """The bytes of memory that could be taken now, None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _too_large(path: Path, needed: int) -> DataError:
    return DataError(
        f"{path} must fit into memory, but its arrays need {needed:,} bytes; keep the samples in a folder of several "
        f".npz files, which are read one at a time"
    )


def _check_objects(headers: dict[str, Header], path: Path) -> None:
    for name, (_, dtype) in headers.items():
        if dtype.hasobject:
            raise DataError(
                f"{name!r} of {path} holds pickled Python objects, which are never loaded; store a plain array"
            )


def _broken(path: Path, error: BaseException) -> DataError:
    return DataError(f"{path} must be a .npz archive of arrays, but cannot be read ({error}); {_REPAIR}")


class ArchiveFolder:
    """A source over the `.npz` files of a folder; it keeps one file in memory at a time.

    The files are in order of name, but those whose samples have one shape follow each other.
    """

    def __init__(self, folder: Path, paths: Sequence[Path], labels: bool = True) -> None:
        """Read the headers of the files.

        Args:
            folder: the folder, which messages name.
            paths: the files in the order of their samples.
            labels: whether an array called "labels" holds labels; otherwise it is an input of the model.

        Raises:
            DataError: a file is broken, or it does not hold the same arrays as the first one.
        """
        self.origin = str(folder)
        found = {path: read_headers(path) for path in paths}
        first = found[paths[0]]
        shapes: dict[tuple[tuple[int, ...], ...], list[Path]] = {}
        for path, headers in found.items():
            _check_objects(headers, path)
            _count(headers, path)
            _check_alike(headers, path, first, paths[0])
            shapes.setdefault(tuple(headers[name][0][1:] for name in first), []).append(path)
        self._paths = [path for alike in shapes.values() for path in alike]
        counts = [_count(found[path], path) for path in self._paths]
        numbers = [number for number, alike in enumerate(shapes.values()) for _ in alike]
        self.buckets: Array = np.repeat(numbers, counts)
        self._names = tuple(first)
        self.has_labels = labels and "labels" in first
        self.input_names = tuple(name for name in first if not (self.has_labels and name == "labels"))
        self._ends = np.cumsum(counts)
        self.count = int(self._ends[-1])
        self._open: tuple[int, dict[str, Array]] | None = None

    def read(self, indices: Sequence[int]) -> Batch:
        """Return the samples at `indices`, which count the samples of all files in their order."""
        rows = np.asarray(indices, dtype=np.int64)
        files = np.searchsorted(self._ends, rows, side="right")
        # Each file is visited once, and then the samples are brought into the order asked for. If they were read in
        # that order, shuffled samples would load the same files again and again.
        order = np.argsort(files, kind="stable")
        parts: dict[str, list[Array]] = {name: [] for name in self._names}
        for number in np.unique(files).tolist():
            start = int(self._ends[number - 1]) if number else 0
            local = rows[order][files[order] == number] - start
            arrays = self._load(number)
            for name, part in parts.items():
                part.append(arrays[name][local])
        back = np.argsort(order)
        joined = {name: np.concatenate(part)[back] for name, part in parts.items()}
        labels = joined.pop("labels") if self.has_labels else None
        return Batch(joined, labels)

    def _load(self, number: int) -> dict[str, Array]:
        if self._open is None or self._open[0] != number:
            self._open = None  # frees the old file, so that two are never in memory
            self._open = (number, read_archive(self._paths[number]))
        return self._open[1]


def _count(headers: dict[str, Header], path: Path) -> int:
    """Return the number of samples of a file after checking that all of its arrays have it."""
    counts = {name: shape[0] if shape else -1 for name, (shape, _) in headers.items()}
    if len(set(counts.values())) > 1 or -1 in counts.values():
        found = ", ".join(f"{name!r} has {n if n >= 0 else 'no axis'}" for name, n in counts.items())
        raise DataError(f"all arrays of {path} must have the same number of samples on the first axis, but {found}")
    return next(iter(counts.values()))


def _check_alike(headers: dict[str, Header], path: Path, first: dict[str, Header], model: Path) -> None:
    if headers.keys() != first.keys():
        raise DataError(
            f"all archives of a folder must hold the same arrays, but {path.name} holds {sorted(headers)} "
            f"and {model.name} {sorted(first)}"
        )
    for name, (shape, dtype) in headers.items():
        shape_there, dtype_there = first[name]
        if len(shape) != len(shape_there) or dtype != dtype_there:
            raise DataError(
                f"{name!r} must have one type and number of axes in all archives of a folder, but {path.name} "
                f"has {dtype}{list(shape[1:])} and {model.name} has {dtype_there}{list(shape_there[1:])}; "
                f"convert the arrays"
            )
