"""Waiting for the search that a worker is to join; a light module, so that a wrong folder is refused at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from autoprec.errors import RunDirectoryError, SearchOverError
from autoprec.run.directory import RunDirectory
from autoprec.run.search_description import SearchDescription, read_search_description
from autoprec.run.study_description import StudyDescription, read_study_description

WAIT_S = 600.0
"""How long a worker waits for ranges and sensitivities, which come before the search."""
_POLL_S = 0.5


def await_search(
    directory: RunDirectory, wait_s: float | None, say: Callable[[str], None]
) -> tuple[StudyDescription, SearchDescription]:
    """What the search of a run is about, as soon as it has begun.

    Args:
        directory: the run directory.
        wait_s: the most seconds to wait, for the folder too; None is `WAIT_S` for a run that is there, and 0 for a
            folder that is not, which is more likely a typing error than a run that starts at the same time.
        say: called once with a text, if it has to wait.

    Raises:
        RunDirectoryError: there is no run, or its search does not begin in time.
        SearchOverError: the search has ended.
    """
    root, begun, said = directory.root, time.monotonic(), False
    if wait_s is None:
        wait_s = WAIT_S if root.is_dir() else 0.0
    while not directory.search.is_file():
        nothing = root.is_dir() and not directory.looks_like_a_run()
        if nothing or root.is_file() or time.monotonic() - begun >= wait_s:
            raise RunDirectoryError(_absent(directory, time.monotonic() - begun if said else 0.0))
        if not said:
            long = f" up to {wait_s:g} s" if math.isfinite(wait_s) else ""
            say(f"waiting{long} for the search in {root} to begin: ranges and sensitivities come first")
            said = True
        time.sleep(_POLL_S)
    shared = read_search_description(directory.search)
    if shared.ended is not None:
        raise SearchOverError(
            f"the search in {root} has ended ({shared.ended}), so there is nothing to measure; `autoprec tune` with "
            f"--out {root} and more --trials or another bound goes on from it, and a worker can join that"
        )
    return read_study_description(directory.studied), shared


def _absent(directory: RunDirectory, waited_s: float) -> str:
    root = directory.root
    after = f" after {waited_s:.0f} s" if waited_s else ""
    if not root.is_dir():
        return (
            f"a worker must be given the folder of a run, but {root} is {'a file' if root.exists() else 'not there'}"
            f"{after}; start `autoprec tune ... --out {root}`, on a disk that both can reach, or wait for it by --wait"
        )
    return (
        f"a worker must be given a run whose search has begun, but {root} has no {directory.search.name}{after}; start "
        f"`autoprec tune ... --out {root}`, or wait longer by --wait"
    )
