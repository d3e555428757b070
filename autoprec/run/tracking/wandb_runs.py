"""Weights & Biases: one run of the project "autoprec" for each tune."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoprec.errors import UsageError
from autoprec.run.tracking.tracker import Tracked, figures_of
from autoprec.study.trial import Trial

MODES = ("offline", "online")


class WandbTracker:
    """Writes to the folder wandb/ of the current folder, or where WANDB_DIR says, and from there to the service.

    Args:
        mode: "offline", so that `wandb sync` can send the run later, or "online".
    """

    def __init__(self, mode: str) -> None:
        self._mode = mode
        self._run: Any = None

    def begin(self, tracked: Tracked) -> None:
        """Begin a run with the settings as its configuration.

        Raises:
            UsageError: the library cannot begin one, such as without a login.
        """
        import wandb

        options: dict[str, Any] = {"name": tracked.name, "config": dict(tracked.settings), "mode": self._mode}
        try:
            self._run = wandb.init(project="autoprec", **options)
        except Exception as error:  # its own errors have no common class
            raise UsageError(f"Weights & Biases cannot begin a run: {error}; `wandb:offline` needs no login") from error

    def trial(self, trial: Trial) -> None:
        """Log the figures of a plan at its number."""
        self._run.log({"trial": trial.number, **figures_of(trial)})

    def end(self, answer: Mapping[str, float | str]) -> None:
        """Keep the answer in the summary, and end the run."""
        self._run.summary.update({f"answer_{name}": value for name, value in answer.items()})
        self._run.finish(exit_code=0 if answer else 1)
