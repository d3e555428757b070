"""Why a search ended: a reason that logic compares, with the text that is stored and shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from autoprec.study.goal import Goal, improves
from autoprec.study.trial import Trial


class StopReason(Enum):
    """The reasons for which a search ends."""

    TRIALS = auto()
    """All trials were used."""
    TIME = auto()
    """The time was used up."""
    REFUSALS = auto()
    """The runtime refused too many plans."""
    NO_IMPROVEMENT = auto()
    """The last trials were not better than the best one."""
    NOTHING_PREDICTED = auto()
    """The models predict that no other plan is better, or that none meets the bounds."""
    EVERYTHING_MEASURED = auto()
    """There is no plan that was not measured."""
    REPEATS = auto()
    """The sampler asks only for plans that are known."""
    LEADER = auto()
    """The process that leads the search ended it."""
    INTERRUPTED = auto()
    """The process that leads the search was stopped."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The end of a search.

    Attributes:
        reason: the reason, for comparisons.
        text: the reason with its figures, as it is stored in the study and shown to people.
    """

    reason: StopReason
    text: str


OUT_OF_TIME = Stop(StopReason.TIME, "the time limit was reached")
EVERYTHING_MEASURED = Stop(StopReason.EVERYTHING_MEASURED, "every plan was measured")
ONLY_REPEATS = Stop(StopReason.REPEATS, "the sampler proposes only plans that are known")
INTERRUPTED = Stop(StopReason.INTERRUPTED, "the `autoprec tune` that leads it was stopped")

PATIENCE = 10
"""Stop after this many timed trials in a row without improvement, or after twice as many trials of any kind: beyond
that the search only picks the luckiest of equals."""


def no_improvement(trials: Sequence[Trial], goal: Goal, seeds: int) -> Stop | None:
    """The stop where the last plans, all proposed after one was accepted, were not surely better than that one.

    Args:
        trials: the measured plans, in order.
        goal: what is minimised, and the bounds.
        seeds: the number of the first trials that the search did not propose.
    """
    best, since = (math.inf, math.inf), 0
    for index, trial in enumerate(trials):
        if trial.feasible and improves(trial.cost(goal), best):
            best, since = trial.cost(goal), index + 1
    recent = trials[max(since, seeds) :]
    timed = sum(trial.measured.timed for trial in recent)
    patient = timed < PATIENCE and len(recent) < 2 * PATIENCE
    if patient or since == 0:
        return None
    text = f"none of the last {len(recent)} plans was {goal.better} within {goal.bounds}"
    return Stop(StopReason.NO_IMPROVEMENT, text)


def nothing_predicted(trials: Sequence[Trial], goal: Goal) -> Stop:
    """The stop where the models predict that no other plan is worth measuring."""
    if math.isfinite(goal.max_latency) and not any(t.feasible for t in trials):
        return Stop(StopReason.NOTHING_PREDICTED, f"no other plan is predicted to meet {goal.bounds}")
    return Stop(StopReason.NOTHING_PREDICTED, f"no other plan is predicted to be {goal.better} within {goal.bounds}")
