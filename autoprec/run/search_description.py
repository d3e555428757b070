"""What workers need to know of a search beside the study: search.json, which the run that leads the search writes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from autoprec.errors import DataError, MetricError, RunDirectoryError, UsageError
from autoprec.files.json import infinite_if_none, read_json, write_json
from autoprec.run.settings import Settings

SCHEMA = 1
_FILES = ("model", "calib", "evaluate", "labels", "space", "recipe")
UNSHARED = "given in Python"
_TUPLES = ("pins", "situations")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchDescription:
    """What a worker needs to know besides what the study is about.

    Attributes:
        storage: where the study is kept, without a password; None for the journal in the run directory.
        settings: the run's settings, with absolute paths.
        threads: the number of CPU threads of one engine.
        targets: the machines that engines are built for ahead of time.
        halves: how the evaluation samples were dealt, see `autoprec.data.splits.halves`.
        profile: the fingerprint of the sensitivities.
        ended: why the search is over, None while it goes on.
    """

    storage: str | None
    settings: Mapping[str, Any]
    threads: int
    targets: tuple[str, ...]
    halves: str
    profile: str
    ended: str | None = None

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically.

        Raises:
            RunDirectoryError: the folder cannot be written.
        """
        rows = {f.name: getattr(self, f.name) for f in fields(self)}
        write_json(path, {"schema": SCHEMA, "kind": "autoprec search", **rows})

    def over(self, why: str) -> SearchDescription:
        """The same description when the search is over."""
        return replace(self, ended=why)

    def settings_with(self, **others: Any) -> Settings:
        """The run's settings, with some of them replaced.

        Raises:
            DataError: another process cannot read the run's data, and no other data is given.
            MetricError: another process cannot import the run's metric.
            UsageError: another version of autoprec wrote them.
        """
        values = {**self.settings, **{name: value for name, value in others.items() if value is not None}}
        for name, option in (("calib", "--calib"), ("evaluate", "--eval")):
            if values.get(name) == UNSHARED:
                raise DataError(
                    f"a worker must be able to read the run's data, but its {option} was {UNSHARED} and not by a "
                    f"path; tune with a file, or give the worker the same samples by {option}"
                )
        if values.get("metric") == UNSHARED:
            raise MetricError(
                f"a worker must be able to import the run's metric, but it was {UNSHARED}; tune with "
                f"--metric module:function"
            )
        values |= {name: tuple(values.get(name) or ()) for name in _TUPLES}
        values["max_drop"] = infinite_if_none(values.get("max_drop"))
        try:
            return Settings(**values)
        except TypeError as error:
            raise UsageError(
                f"the run was begun by another version of autoprec ({error}); use the same one for all workers"
            ) from error


def settings_record(settings: Settings) -> dict[str, Any]:
    """The settings as JSON, with absolute paths, for a process that may have another current folder."""
    rows: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        if field.name in _FILES and isinstance(value, (str, Path)):
            value = os.path.abspath(value) if os.path.exists(value) else str(value)
        elif isinstance(value, tuple):
            value = list(value)
        elif value is not None and not isinstance(value, (str, int, float, bool)):
            value = UNSHARED
        rows[field.name] = value
    return rows


def read_search_description(path: Path) -> SearchDescription:
    """What `SearchDescription.save` wrote.

    Raises:
        RunDirectoryError: it is missing, damaged, or of a newer schema.
    """
    record = read_json(path, "search's description", RunDirectoryError, SCHEMA)
    try:
        storage, ended = (None if record[key] is None else str(record[key]) for key in ("storage", "ended"))
        return SearchDescription(
            storage=storage,
            settings=dict(record["settings"]),
            threads=int(record["threads"]),
            targets=tuple(map(str, record["targets"])),
            halves=str(record["halves"]),
            profile=str(record["profile"]),
            ended=ended,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunDirectoryError(
            f"the search's description {path} is damaged ({error!r}); run `autoprec tune` with the same options and "
            f"--out {path.parent}, which makes it again"
        ) from error
