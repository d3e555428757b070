"""By what files are known as autoprec's own, where no list of written files names them."""

from __future__ import annotations

import contextlib
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

from autoprec.errors import RunDirectoryError
from autoprec.files.inventory import digest_of
from autoprec.files.json import fingerprint
from autoprec.files.links import refuse_links
from autoprec.files.parse import parse_json, read_text

_HEAD = rb'\s*\{\s*"schema":\s*\d+,\s*'
_STAGES = {
    "network.json": re.compile(_HEAD + rb'"kind":\s*"autoprec network"'),
    "causes.json": re.compile(_HEAD + rb'"kind":\s*"autoprec causes"'),
    "repairs.json": re.compile(_HEAD + rb'"kind":\s*"autoprec repairs"'),
    "ranges.json": re.compile(_HEAD + rb'"method":'),
    "profile.json": re.compile(_HEAD + rb'"direction":'),
    "latency.json": re.compile(_HEAD + rb'"fingerprint":'),
    "study.json": re.compile(_HEAD + rb'"kind":\s*"autoprec study"'),
    "search.json": re.compile(_HEAD + rb'"kind":\s*"autoprec search"'),
    "study.log": re.compile(rb'\{"op_code":'),
    "profile.partial.jsonl": re.compile(rb'\{"mark": "'),
}
"""The beginning of each file that a stage leaves, or that grows while a stage is at work."""
RUN_RECORDS = frozenset({*_STAGES, "plan.json", "result.json", "evidence.json"})
"""The names of the records of a run: they are autoprec's own, but nothing else may take their place."""
_JOURNAL = _STAGES["study.log"]
_LONGEST = 200
_WORKER_LOG = re.compile(r"worker-\d+\.log")


def refuse_foreign_stages(root: Path) -> None:
    """Refuse a folder in which a file has the name of a stage's file, but is a link or something else.

    Raises:
        RunDirectoryError: there is such a file.
    """
    for name in _STAGES:
        refuse_foreign_stage(root / name)


def refuse_foreign_stage(path: Path) -> None:
    """Refuse to write to a stage's file that is a link, or that autoprec did not write.

    Raises:
        RunDirectoryError: it is.
    """
    refuse_links(path)
    if not has_form(path):
        raise RunDirectoryError(
            f"{path} would be written, but it is damaged, or autoprec did not write it; delete it if it is damaged, as "
            f"it is made again; otherwise move it away, or choose another folder by --out"
        )


def refuse_foreign_journal(path: Path) -> None:
    """Refuse to add to a file that is a link or no journal of a study, or to break a lock that is no lock.

    Raises:
        RunDirectoryError: it is.
    """
    refuse_links(path)
    if not _begins(path, _JOURNAL):
        raise RunDirectoryError(
            f"the study {path} is damaged, or is not the journal of a study; delete it to search again, or choose "
            f"another file if it is not autoprec's"
        )
    lock = path.with_name(f"{path.name}.lock")
    if lock.exists() and not lock.is_symlink():
        raise RunDirectoryError(f"{lock} must be free for the lock of {path.name}, but there is a file; move it away")


def refuse_foreign_database(path: Path) -> None:
    """Refuse to add the tables of a study to an SQLite file of something else.

    Raises:
        RunDirectoryError: it is a link, no database, or has tables but none of a study.
    """
    refuse_links(path)
    if not path.is_file() or not path.stat().st_size:
        return
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            tables = {str(name) for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            own = {str(row[1]) for row in database.execute("PRAGMA table_info(version_info)")}
    except sqlite3.Error as error:
        raise RunDirectoryError(
            f"{path} is damaged, or not a SQLite database ({error}); choose another file"
        ) from error
    if tables and not ({"studies", "trials"} <= tables and "schema_version" in own):
        raise RunDirectoryError(
            f"a study would be added to {path}, but the database holds other tables ({', '.join(sorted(tables)[:3])}); "
            f"choose another file"
        )


def has_form(path: Path) -> bool:
    """Whether a stage's file is absent, empty, or begins as autoprec writes it."""
    return _begins(path, _STAGES[path.name])


def _begins(path: Path, form: re.Pattern[bytes]) -> bool:
    try:
        with path.open("rb") as file:
            begin = file.read(_LONGEST)
    except OSError:
        return not path.exists()
    return not begin or form.match(begin) is not None


def recognised(root: Path, name: str) -> bool:
    """Whether a file that no list names was written by a version of autoprec that kept none."""
    evidence = _record(root / "evidence.json")
    if evidence.get("kind") != "autoprec evidence":
        evidence = {}
    if name == "evidence.json":
        return bool(evidence)
    if name == "result.json":
        return {"schema", "feasible", "reason"} <= set(_record(root / name))
    if name == "plan.json":
        text = json.dumps(_record(root / name), sort_keys=True)
        return bool(evidence) and evidence.get("plan") == fingerprint([text])
    if name == "model.onnx":
        lowered = evidence.get("lowered")
        return isinstance(lowered, dict) and lowered.get("sha256") == digest_of(root / name)
    return _WORKER_LOG.fullmatch(name) is not None and has_form(root / "study.log") and (root / "study.log").is_file()


def refuse_other_kind(path: Path, kind: str) -> None:
    """Refuse to replace a file by a record of this kind, unless it is an older record of the kind.

    Args:
        path: the file.
        kind: what such records have under "kind", such as "autoprec plan".

    Raises:
        RunDirectoryError: it is something else.
    """
    refuse_links(path)
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            begin = file.read(_LONGEST)
        if re.match(_HEAD + b'"kind":\\s*"' + re.escape(kind).encode() + b'"', begin) is None:
            raise RunDirectoryError(
                f"{path} would be written, but the file that is there is not an {kind}; move it away, or choose "
                f"another file"
            )


def refuse_no_junit(path: Path) -> None:
    """Refuse to replace a file by a JUnit report of a gate, unless it is one.

    Raises:
        RunDirectoryError: it is something else.
    """
    refuse_links(path)
    begin = _begin(path, _LONGEST)
    if begin and b'<testsuite name="autoprec gate"' not in begin:
        raise RunDirectoryError(
            f"{path} would be written, but the file that is there is not a report of a gate; move it away, or choose "
            f"another file"
        )


def refuse_no_text(path: Path) -> None:
    """Refuse to add Markdown to a file that is no text, or that is a record.

    Raises:
        RunDirectoryError: it is.
    """
    refuse_links(path)
    begin = _begin(path, _LONGEST)
    if begin[:1] in (b"{", b"[") or b"\0" in begin or begin.decode("utf-8", "replace").count("\ufffd") > 1:
        raise RunDirectoryError(f"{path} would be added to, but it is not text in Markdown; choose another file")


def _begin(path: Path, length: int) -> bytes:
    if not path.is_file():
        return b""
    with path.open("rb") as file:
        return file.read(length)


def _record(path: Path) -> dict[str, Any]:
    try:
        record = parse_json(read_text(path))
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}
