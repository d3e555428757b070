"""JSON records with a schema version that are written atomically, and fingerprints of contents."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from autoprec.errors import AutoprecError, RunDirectoryError
from autoprec.files.links import refuse_links
from autoprec.files.parse import parse_json, read_text

PART = ".part-"
"""Stands in the names of files that are being written, between the name of the file and a random part."""


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a reader sees either the old file or the whole new one.

    Missing folders are made.

    Raises:
        RunDirectoryError: the folder cannot be written to, the disk is full, or there is a link in the file's place.
    """
    refuse_links(path)
    temporary: str | None = None
    try:
        # The temporary file lies in the same folder, since a rename is atomic within one file system only.
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}{PART}")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # otherwise a power cut after the rename could leave an empty file
        os.chmod(temporary, 0o644)  # mkstemp lets only its owner read the file, but results are for the whole team
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise RunDirectoryError(
            f"cannot write {path}: {error.strerror or error}; choose a writable folder with free space by --out"
        ) from error


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON record atomically; numbers that are not finite become null.

    Raises:
        RunDirectoryError: the folder cannot be written to, or the disk is full.
    """
    write_bytes(path, (as_json(record, indent=1) + "\n").encode())


def as_json(record: Mapping[str, Any], indent: int | None = None) -> str:
    """Return a record as strict JSON: numbers that are not finite become null, and paths become strings."""
    return json.dumps(_finite(record), indent=indent, allow_nan=False, default=str)


def read_json(path: Path, what: str, raising: type[AutoprecError], schema: int) -> dict[str, Any]:
    """Read a record and check its schema version.

    Args:
        path: the file to read.
        what: the name of the kind of file in messages, such as "plan".
        raising: the class of the error that is raised.
        schema: the newest version that the caller can read.

    Raises:
        raising: the file is missing, is not a JSON object, or has a newer schema.
    """
    # What lies in the run directory can be computed again; other files are the user's, who must replace them.
    again = "delete it, it is made again" if raising is RunDirectoryError else "make it again"
    try:
        record = parse_json(read_text(path))
    except OSError as error:
        raise raising(f"cannot read the {what} {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise raising(f"the {what} {path} is not JSON ({error}); {again}") from error
    if not isinstance(record, dict) or type(record.get("schema")) is not int:
        raise raising(f"the {what} {path} must be a JSON object with an integer 'schema'; {again}")
    if record["schema"] > schema:
        raise raising(
            f"the {what} {path} has schema {record['schema']}, this autoprec reads up to {schema}; upgrade autoprec"
        )
    return record


def finite_or_none(value: Any) -> Any:
    """The value as JSON can hold it: None for a number that is infinite or not a number."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def infinite_if_none(value: float | None) -> float:
    """The number that a record means: its null stands for infinity, which JSON does not have."""
    return math.inf if value is None else float(value)


def fingerprint(parts: Iterable[bytes | memoryview | str]) -> str:
    """Return a fingerprint of `parts`: the first 16 hexadecimal digits of a SHA-256 digest.

    Each part is preceded by its length, so that ["ab", "c"] and ["a", "bc"] have different fingerprints.
    """
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()[:16]


def array_fingerprint(arrays: Mapping[str, Any]) -> str:
    """Return a fingerprint of named arrays, which covers their names, types, shapes and every byte."""
    parts: list[bytes | str] = []
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        parts += [name, str(array.dtype), str(array.shape), array.tobytes()]
    return fingerprint(parts)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, np.generic):
        return _finite(value.item())
    return value
