"""Which autoprec computed what a file holds, and by which version of its algorithm.

Hours of work are not thrown away because of a release that changes a message. So each kind of figure has a version of
the algorithm that it is computed by, which is part of its fingerprint: figures of another one are measured anew. The
release is written beside the figures, and where figures of another release are used, that is said.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from autoprec.errors import RunDirectoryError
from autoprec.files.json import read_json

Figures = Literal["ranges", "sensitivities", "time profiles", "trials"]
ALGORITHMS: dict[Figures, int] = {"ranges": 1, "sensitivities": 1, "time profiles": 1, "trials": 1}
"""Kind of figures -> the version of the algorithm; to be raised with each change after which the same input gives other
figures than before by more than the noise of a measurement. Where only some figures of a table differ, the table has a
revision instead, and those alone are measured anew: see `autoprec.sensitivity.mended`."""
RELEASE = "autoprec"
"""The key of the release in a record."""


def release() -> str:
    """The release of autoprec that runs."""
    try:
        return version("autoprec")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "not installed"


def algorithm(figures: Figures) -> list[str]:
    """What the fingerprint of figures says of their algorithm: nothing for the first one, which had no number."""
    number = ALGORITHMS[figures]
    return [] if number == 1 else [f"algorithm {number} of {figures}"]


def stamped(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the release that computes it."""
    return {**record, RELEASE: release()}


def computed_by(path: Path, schema: int) -> str:
    """By which other release a file was computed, as the end of a sentence; empty where it was this one.

    Args:
        path: a JSON file of the run directory; one that is missing or damaged is of nobody.
        schema: the newest schema that is read.
    """
    other = other_release(path, schema)
    return "" if other is None else f", computed by {other}"


def other_release(path: Path, schema: int) -> str | None:
    """The other release that computed a file, in words; None where it was this one. The arguments are the same."""
    try:
        found = read_json(path, "record", RunDirectoryError, schema).get(RELEASE)
    except RunDirectoryError:
        return None
    if found == release():
        return None
    return f"autoprec {found}" if isinstance(found, str) else "an older autoprec"
