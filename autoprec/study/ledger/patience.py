"""Patience with a database that does not answer: it may be restarted while a search is under way."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from autoprec.errors import StorageError
from autoprec.study.ledger.storages import StudyLocation, lost

WAIT_S = 180.0
"""For so long a storage may be away before what it raised ends the run."""
_PAUSE_S = (0.2, 5.0)
"""The shortest and the longest pause between two tries."""

P = ParamSpec("P")
R = TypeVar("R")


class Located(Protocol):
    """What works on a study.

    Attributes:
        location: where the study is kept.
        patient: whether it waits for a storage that does not answer.
    """

    location: StudyLocation | None
    patient: bool


Owner = TypeVar("Owner", bound=Located)


def patiently(location: StudyLocation | None, call: Callable[[], R], wait_s: float | None = None) -> R:
    """What the call returns; where the storage cannot be reached, it is called again for some time.

    The call must be one that can be repeated. A file is not waited for: what it raises is there to stay.

    Raises:
        StorageError: the storage could not be reached for `wait_s` seconds, by default `WAIT_S`.
    """
    wait_s = WAIT_S if wait_s is None else wait_s
    begun, (pause_s, longest_s) = time.monotonic(), _PAUSE_S
    while True:
        try:
            with contextlib.nullcontext() if location is None else lost(location):
                return call()
        except StorageError:
            if location is None or location.kind == "journal" or time.monotonic() - begun + pause_s > wait_s:
                raise
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, longest_s)


def guarded(method: Callable[Concatenate[Owner, P], R]) -> Callable[Concatenate[Owner, P], R]:
    """Repeat a method while the storage cannot be reached, and turn what Optuna raises into errors that say what to do.

    Where that was waited for once without success, what follows, such as saying that the search is over, is tried once.
    """

    @functools.wraps(method)
    def repeated(self: Owner, /, *args: P.args, **options: P.kwargs) -> R:
        try:
            return patiently(self.location, lambda: method(self, *args, **options), None if self.patient else 0.0)
        except StorageError:
            self.patient = False
            raise

    return repeated
