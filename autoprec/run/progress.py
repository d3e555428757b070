"""Who is told how far a run is."""

from __future__ import annotations

from typing import Protocol

from autoprec.study.trial import Trial


class StageProgress(Protocol):
    """Who is told how far something is that has stages, such as a gate."""

    def stage(self, name: str, detail: str) -> None:
        """A stage begins, or is taken over from an earlier run."""

    def advance(self, share: float) -> None:
        """The share of the stage that is done, 0 to 1."""


class Progress(StageProgress, Protocol):
    """Who is told how far a run is."""

    def trial(self, trial: Trial) -> None:
        """A plan was measured."""


class Silent:
    """Tells nobody."""

    def stage(self, name: str, detail: str) -> None:
        """Nothing."""

    def advance(self, share: float) -> None:
        """Nothing."""

    def trial(self, trial: Trial) -> None:
        """Nothing."""
