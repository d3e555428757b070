"""TensorBoard: one event file for each run, a curve for each figure over the trials."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoprec.run.tracking.tracker import Tracked, figures_of
from autoprec.study.trial import Trial


class TensorBoardTracker:
    """Writes event files below a folder, in which each model has a folder of its own.

    Args:
        folder: what `tensorboard --logdir` gets.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._writer: Any = None

    def begin(self, tracked: Tracked) -> None:
        """Open a new event file."""
        from tensorboard.summary import Writer

        self._writer = Writer(str(self._folder / tracked.name))

    def trial(self, trial: Trial) -> None:
        """Write the figures of a plan at its number."""
        for name, value in figures_of(trial).items():
            self._writer.add_scalar(f"trials/{name}", value, trial.number)
        self._writer.flush()

    def end(self, answer: Mapping[str, float | str]) -> None:
        """Write the figures of the answer, and close the file."""
        for name, value in answer.items():
            if not isinstance(value, str):
                self._writer.add_scalar(f"answer/{name}", value, 0)
        self._writer.close()
