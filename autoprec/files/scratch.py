"""Temporary folders that do not outlive their process for long, however it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
import weakref
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import IO

_PREFIX = "autoprec-scratch-"
_LOCK = ".lock"
_ABANDONED_S = 3600
"""A folder that has been without a lock for so long is not about to get one."""


class ScratchFolder:
    """A temporary folder that goes when it is closed or no longer used, or with the process.

    A killed process cannot remove its folders. So each folder holds a file that its process has locked, and whoever
    makes its first folder removes those of the same user whose lock is free.

    Attributes:
        path: the folder.

    Raises:
        OSError: no folder can be made.
    """

    def __init__(self) -> None:
        _sweep_once(Path(tempfile.gettempdir()))
        lock = None
        while lock is None:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX))
            lock = _locked(self.path / _LOCK, "x")
        self._close = weakref.finalize(self, _remove, self.path, lock)

    def __enter__(self) -> Path:
        """Return the folder."""
        return self.path

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the folder with all that is in it."""
        self.close()

    def close(self) -> None:
        """Remove the folder with all that is in it."""
        self._close()


def _remove(folder: Path, lock: IO[str]) -> None:
    # The lock goes last: without it, what a killed process did not get to would stay.
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != _LOCK:
                path.unlink()
    shutil.rmtree(folder, ignore_errors=True)
    lock.close()


@cache
def _sweep_once(parent: Path) -> None:
    """Remove the folders that killed processes left."""
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            found = folder.lstat()
            if folder.is_symlink() or (hasattr(os, "getuid") and found.st_uid != os.getuid()):
                continue
            lock = _locked(folder / _LOCK, "r+")
        except OSError:  # it went, or it has no lock yet, or no more
            with contextlib.suppress(OSError):
                if time.time() - folder.lstat().st_mtime > _ABANDONED_S:
                    folder.rmdir()  # an empty one alone
            continue
        if lock is not None:
            _remove(folder, lock)


def _locked(path: Path, mode: str) -> IO[str] | None:
    """Open and lock a file; None if another process has the lock, or if this system has no such locks.

    Raises:
        OSError: the file cannot be opened.
    """
    handle = path.open(mode, encoding="utf-8")
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # such a system removes nothing that another process made
        if mode == "x":
            return handle
        handle.close()
        return None
    except BlockingIOError:
        handle.close()
        return None
    except OSError:  # a file system without locks
        if mode == "x":
            return handle
        handle.close()
        return None
    return handle
