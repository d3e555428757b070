"""The interface of what shows the user how far a run is."""

from __future__ import annotations

from typing import Protocol

from autoprec.study.trial import Trial


class StageProgress(Protocol):
    """Shows how far something is that has stages, such as a gate."""

    def stage(self, name: str, detail: str) -> None:
        """Show that a stage begins, or is taken over from an earlier run; an empty name ends the last stage."""

    def advance(self, share: float) -> None:
        """Show the share of the stage that is done, from 0 to 1."""


class Progress(StageProgress, Protocol):
    """Shows how far a run is."""

    def trial(self, trial: Trial) -> None:
        """Show that a plan was measured."""


class Silent:
    """Shows nothing."""

    def stage(self, name: str, detail: str) -> None:
        """Do nothing."""

    def advance(self, share: float) -> None:
        """Do nothing."""

    def trial(self, trial: Trial) -> None:
        """Do nothing."""
