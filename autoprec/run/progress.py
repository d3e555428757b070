"""The interface of what shows the user how far a run is."""

from __future__ import annotations

import inspect
from typing import Protocol

from autoprec.study.trial import Trial


class StageProgress(Protocol):
    """Shows how far something is that has stages, such as a gate."""

    def stage(self, name: str, detail: str) -> None:
        """Show that a stage begins, or is taken over from an earlier run; an empty name ends the last stage."""

    def advance(self, share: float, what: str = "") -> None:
        """Show the share of the stage that is done, from 0 to 1; `what` names the pass where a stage has several."""


class Progress(StageProgress, Protocol):
    """Shows how far a run is."""

    def trial(self, trial: Trial) -> None:
        """Show that a plan was measured."""


class Silent:
    """Shows nothing."""

    def stage(self, name: str, detail: str) -> None:
        """Do nothing."""

    def advance(self, share: float, what: str = "") -> None:
        """Do nothing."""

    def trial(self, trial: Trial) -> None:
        """Do nothing."""


class _WithoutPasses:
    """Passes on what an object of an earlier version of the interface understands."""

    def __init__(self, inner: Progress) -> None:
        self._inner = inner

    def stage(self, name: str, detail: str) -> None:
        self._inner.stage(name, detail)

    def advance(self, share: float, what: str = "") -> None:
        self._inner.advance(share)

    def trial(self, trial: Trial) -> None:
        self._inner.trial(trial)


def with_passes(progress: Progress) -> Progress:
    """The same object, or one around it if its `advance` takes no name of a pass."""
    try:
        inspect.signature(progress.advance).bind(0.0, "")
    except TypeError:
        return _WithoutPasses(progress)
    return progress
