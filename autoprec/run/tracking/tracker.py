"""The interface of what follows a run, and the object that informs several of them."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from autoprec.run.progress import Progress, Silent, with_passes
from autoprec.study.trial import Trial


@dataclass(frozen=True, slots=True)
class Tracked:
    """What a run is about.

    Attributes:
        name: the name of the model.
        settings: the settings of the run by name, as texts.
    """

    name: str
    settings: Mapping[str, str]


class Tracker(Protocol):
    """Follows one run; whatever it raises after `begin` is a warning and no end of the run."""

    def begin(self, tracked: Tracked) -> None:
        """Take note that a run begins.

        Raises:
            UsageError: what it writes to cannot be used.
        """

    def trial(self, trial: Trial) -> None:
        """Take note of a measured plan."""

    def end(self, answer: Mapping[str, float | str]) -> None:
        """Take note of the answer; it is empty where the run ended without one."""


def figures_of(trial: Trial) -> dict[str, float]:
    """The figures of a plan by name, those that are known and finite.

    The latency is a share of FP32's, the drop is in the unit of the metric, and the size is in bytes.
    """
    measured = trial.measured
    figures = {
        "latency_ratio": measured.latency_ratio,
        "drop": measured.judged_drop,
        "size_bytes": measured.bytes,
        "noise": measured.noise,
        "within_bounds": float(trial.feasible),
    }
    return {name: float(value) for name, value in figures.items() if value is not None and math.isfinite(value)}


class TrackedProgress:
    """Passes on how far a run is, and informs trackers of it.

    Args:
        progress: the object that is informed as well.
        trackers: the trackers.
    """

    def __init__(self, progress: Progress | None, trackers: Sequence[Tracker]) -> None:
        self._inner, self._trackers = with_passes(progress or Silent()), list(trackers)
        self._answer: Mapping[str, float | str] = {}

    def begin(self, tracked: Tracked) -> None:
        """Tell each tracker that the run begins.

        Raises:
            UsageError: what one of them writes to cannot be used.
        """
        for tracker in self._trackers:
            tracker.begin(tracked)

    def stage(self, name: str, detail: str) -> None:
        """Pass the stage on."""
        self._inner.stage(name, detail)

    def advance(self, share: float, what: str = "") -> None:
        """Pass the share on."""
        self._inner.advance(share, what)

    def trial(self, trial: Trial) -> None:
        """Pass the plan on, and tell each tracker."""
        self._inner.trial(trial)
        self._tell(lambda tracker: tracker.trial(trial))

    def answer(self, figures: Mapping[str, float | str]) -> None:
        """Keep the figures of the answer, which trackers are told at the end."""
        self._answer = figures

    def end(self) -> None:
        """Tell each tracker that the run has ended, and with which answer."""
        self._tell(lambda tracker: tracker.end(self._answer))

    def _tell(self, what: Callable[[Tracker], None]) -> None:
        for tracker in list(self._trackers):
            try:
                what(tracker)
            except Exception as error:  # a run of an hour must not end because a server for curves is away
                self._trackers.remove(tracker)
                text = f"{type(tracker).__name__} takes no more figures ({error}); the run goes on without it"
                warnings.warn(text, stacklevel=2)
