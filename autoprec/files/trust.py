"""What is done of that which a file from others names: a function, a path or the address of a database.

A baseline, a plan or a run directory may come from a pull request. It names what the one who made it ran and read. By
itself it runs no code, reaches no host, and is followed only to files near what the user named; whatever else it names
needs the user's word for this file.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from autoprec.errors import AutoprecError
from autoprec.files.functions import is_function_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """Something that a file names.

    Attributes:
        what: what it is, such as "evaluation data".
        text: the path, the name or the function.
        option: the option by which the user may give it instead, "" where there is none.
    """

    what: str
    text: str
    option: str = ""

    @property
    def instead(self) -> str:
        """What the user may do instead of trusting the file."""
        return f"give {self.option}, or " if self.option else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamingFile:
    """A file that names functions and paths.

    Attributes:
        path: the file.
        near: the folders and files that the user named besides it.
        trusted: the files that the user trusts, and folders that stand for all of their files.
    """

    path: Path
    near: tuple[Path, ...] = ()
    trusted: tuple[str | Path, ...] = field(default=())

    @property
    def is_trusted(self) -> bool:
        """Whether the user trusts it."""
        for given in self.trusted:
            for mine in (self.path, self.path.parent if os.path.isdir(given) else self.path):
                with contextlib.suppress(OSError, ValueError):
                    if os.path.samefile(mine, given):
                        return True
        return False

    def source(self, named: Named, raising: type[AutoprecError]) -> str:
        """What the user may be thought to want: an absolute path, or a function's name where the file is trusted.

        Raises:
            raising: it is a function or a far path and the file is not trusted, or there is nothing.
        """
        found = self.find(named.text)
        if found is not None:
            if self.is_trusted or self._is_near(found):
                return str(found)
            raise raising(
                f"{self.path} names {found} as its {named.what}, which lies outside of the folders that this command "
                f"is about; a file that may come from others is not followed there: {named.instead}trust it by "
                f"--trust {self.path}"
            )
        if is_function_name(named.text):
            self.refuse_function(named, raising)
            return named.text
        raise raising(
            f"no such file or folder: {named.text!r}, which {self.path} names as the {named.what} of the one who made "
            f"it, seen from {os.path.abspath(self.path.parent)}; say where it is here by {named.option or 'its name'}"
        )

    def refuse_function(self, named: Named, raising: type[AutoprecError]) -> None:
        """Refuse to import what the file names, unless it is trusted.

        Raises:
            raising: it is not trusted.
        """
        if not self.is_trusted:
            raise raising(
                f"{self.path} names the Python function {named.text} as its {named.what}; a file that may come from "
                f"others runs no code: if you know the function, {named.instead}trust the file by --trust {self.path}"
            )

    def find(self, text: str) -> Path | None:
        """The file or folder that a path means, seen from this file or, as older ones were, from the current folder."""
        if not text or text[:2] in ("//", "\\\\"):  # a share in the network, which would be sent the user's name
            return None
        for start in (self.path.parent, Path()):
            path = Path(os.path.normpath(os.path.join(os.path.abspath(start), text)))
            with contextlib.suppress(OSError, ValueError):
                if path.is_file() or path.is_dir():
                    return path
        return None

    def _is_near(self, path: Path) -> bool:
        """Whether it lies in a folder that the user named or is in, or in the one that holds all that was named."""
        real = Path(os.path.realpath(path))
        named = [p if p.is_dir() else p.parent for p in (self.path.parent, *self.near)]
        folders = [Path(os.path.realpath(folder)) for folder in named]
        with contextlib.suppress(ValueError):  # on different drives
            whole = Path(os.path.commonpath(folders))
            if real.is_relative_to(whole) and not _holds_everything(whole):
                return True
        folders.append(Path(os.path.realpath(Path())))
        return any(real.parent == f or (real.is_relative_to(f) and not _holds_everything(f)) for f in folders)


def _holds_everything(folder: Path) -> bool:
    """Whether a folder is one that all kinds of files lie below."""
    high = [Path(os.path.realpath(place)) for place in (os.path.expanduser("~"), tempfile.gettempdir())]
    return any(place.is_relative_to(folder) for place in high) or folder == Path(folder.anchor)


def relative_text(path: str | Path, folder: Path) -> str:
    """A path as a file in `folder` names it, so that both can be moved together."""
    absolute = os.path.abspath(path)
    try:
        return Path(os.path.relpath(absolute, os.path.abspath(folder))).as_posix()
    except ValueError:  # on another drive
        return Path(absolute).as_posix()


def trusted_files(trust: str | Path | Iterable[str | Path]) -> tuple[str | Path, ...]:
    """One file or several, as a tuple."""
    return (trust,) if isinstance(trust, (str, Path)) else tuple(trust)
