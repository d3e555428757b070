"""The list of what autoprec wrote into a folder: autoprec-files.json, by which it knows what it may replace there.

A file is replaced only where its content is still the one that the list names. So a file that the user put there,
edited, or copied from another run is never lost. A name is listed before its file is written: whatever a killed
process left under it is autoprec's own.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autoprec.errors import RunDirectoryError
from autoprec.files.json import read_json, write_json
from autoprec.files.links import refuse_inputs, refuse_links

LIST = "autoprec-files.json"
KIND = "autoprec files"
SCHEMA = 1
_UNFINISHED = "being written"
_CHUNK = 1 << 20


def _nothing(name: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Inventory:
    """What autoprec wrote into one folder.

    Attributes:
        folder: the folder, which need not exist yet.
        recognised: name -> whether a file that is not listed is autoprec's own nevertheless, such as one of a version
            that kept no list.
    """

    folder: Path
    recognised: Callable[[str], bool] = _nothing

    @property
    def path(self) -> Path:
        """The file of the list."""
        return self.folder / LIST

    def read(self) -> dict[str, Any]:
        """The list as JSON, empty where there is none.

        Raises:
            RunDirectoryError: the file is a link, is damaged, or is not autoprec's.
        """
        refuse_links(self.path)
        if not self.path.is_file():
            return {}
        record = read_json(self.path, "list of written files", RunDirectoryError, SCHEMA)
        if record.get("kind") != KIND or not isinstance(record.get("files", {}), dict):
            raise RunDirectoryError(
                f"{self.path} is not the list that autoprec keeps of the files that it wrote; move it away, or choose "
                f"another folder by --out"
            )
        return record

    def note(self, **facts: Any) -> None:
        """Add facts to the list, such as to whom the folder belongs."""
        record = {"schema": SCHEMA, "kind": KIND, "files": {}, **self.read()}
        if any(record.get(name) != fact for name, fact in facts.items()):
            write_json(self.path, {**record, **facts})

    def refuse_foreign(self, names: Iterable[str], inputs: Iterable[str | Path] = ()) -> None:
        """Refuse to replace what autoprec did not write, before anything is written.

        Args:
            names: the names of the files that will be written.
            inputs: what the user gave to read.

        Raises:
            RunDirectoryError: a file is a link, or not as autoprec wrote it.
            UsageError: a file is one of the inputs.
        """
        # A folder such as new/.. that is not there yet will be another one as soon as it is made.
        folder = self.folder if self.folder.exists() else Path(os.path.realpath(self.folder))
        listed, given = replace(self, folder=folder).read().get("files", {}), list(inputs)
        for name in names:
            path = folder / name
            refuse_inputs(path, given)
            refuse_links(path)
            if path.is_file() and path.stat().st_size and not self._own(path, listed):
                raise RunDirectoryError(
                    f"{path} would be written, but autoprec did not write the file that is there, or it was changed "
                    f"since; move it away, or choose another place by --out"
                )

    def _own(self, path: Path, listed: Mapping[str, Any]) -> bool:
        if path.name not in listed:
            return self.recognised(path.name)
        return bool(listed[path.name] in (_UNFINISHED, digest_of(path)))

    def take(self, name: str) -> None:
        """List a file that will be written and grow, whatever it holds.

        Raises:
            RunDirectoryError: there is a file that autoprec did not write.
        """
        self.refuse_foreign([name])
        self.note(files={**self.read().get("files", {}), name: _UNFINISHED})

    @contextlib.contextmanager
    def replacing(self, *names: str, inputs: Iterable[str | Path] = ()) -> Iterator[None]:
        """Let the block write these files, and list what it wrote.

        Raises:
            RunDirectoryError: see `refuse_foreign`; or the list cannot be written.
            UsageError: a file is one of the inputs.
        """
        self.refuse_foreign(names, inputs)
        self.note(files={**self.read().get("files", {}), **dict.fromkeys(names, _UNFINISHED)})
        try:
            yield
        except BaseException:
            with contextlib.suppress(RunDirectoryError):  # what ended the block says more
                self._list(names)
            raise
        self._list(names)

    def _list(self, names: Iterable[str]) -> None:
        found = {name: digest_of(self.folder / name) for name in names}
        others = {name: text for name, text in self.read().get("files", {}).items() if name not in found}
        self.note(files=others | {name: text for name, text in found.items() if text is not None})


def digest_of(path: Path) -> str | None:
    """The SHA-256 digest of a file in hexadecimal digits, None where there is no file."""
    if not path.is_file():
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            digest.update(block)
    return digest.hexdigest()
