"""Which files may be replaced or written to at all: not links, and nothing that the user gave to read."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path

from autoprec.errors import RunDirectoryError, UsageError


def refuse_links(path: Path) -> None:
    """Refuse to write to what is not a file of its own, since something else would be written to.

    Raises:
        RunDirectoryError: at `path` there is a link, a hard link, a folder or a device.
    """
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise RunDirectoryError(f"cannot look at {path}: {error.strerror or error}; choose another by --out") from error
    if stat.S_ISLNK(found.st_mode):
        raise RunDirectoryError(
            f"{path} must be a file of its own to be written, but it is a link to {os.readlink(path)}; remove the "
            f"link, or choose another by --out"
        )
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "no regular file"
        raise RunDirectoryError(f"{path} must be a file to be written, but it is {what}; choose another by --out")
    if found.st_nlink > 1:
        raise RunDirectoryError(
            f"{path} must be a file of its own to be written, but it is a hard link, so that the same file has another "
            f"name too; put a copy in its place, or choose another by --out"
        )


def refuse_inputs(path: Path, inputs: Iterable[str | Path]) -> None:
    """Refuse to write over a file that is read.

    Args:
        path: what will be written.
        inputs: what the user gave to read; names that are no files are passed over.

    Raises:
        UsageError: it is one of them, by whatever path.
    """
    for given in inputs:
        with contextlib.suppress(OSError, ValueError):
            if os.path.samefile(path, given):
                raise UsageError(
                    f"{path} would be written, but it is {given}, which you gave as input; choose another by --out"
                )
