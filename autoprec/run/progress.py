"""Who is told how far a run is."""

from __future__ import annotations

from typing import Protocol

from autoprec.study.trial import Trial


class Progress(Protocol):
    """Who is told how far a run is."""

    def stage(self, name: str, detail: str) -> None:
        """A stage begins, or is taken over from an earlier run."""

    def advance(self, share: float) -> None:
        """The share of the stage that is done, 0 to 1."""

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
