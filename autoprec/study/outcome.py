"""What a search came to: the best plan, and the plans worth measuring again."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from autoprec.study.goal import Goal
from autoprec.study.guide.proposals import ModelFits
from autoprec.study.stop import Stop
from autoprec.study.trial import Trial

FINALISTS = 4
"""How many of the best accepted plans are measured again on fresh samples."""
_SAFELY = 0.95
"""A plan of this share of the latency limit will meet it again, where those near the limit may not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOutcome:
    """What a search came to.

    Attributes:
        trials: all measured plans.
        best: the best accepted trial; where none is accepted, the trial that comes nearest to the bounds.
        feasible: whether the bounds are met.
        stop: why the search ended.
        finalists: the plans worth measuring again, best first.
        models: how well the models predicted plans that they had not seen.
        refused: what the runtime said of plans that it could not build or run.
        by: process -> the number of plans that it measured since this search began.
    """

    trials: tuple[Trial, ...]
    best: Trial
    feasible: bool
    stop: Stop
    finalists: tuple[Trial, ...]
    models: ModelFits
    refused: tuple[str, ...] = ()
    by: Mapping[str, int] = field(default_factory=dict)

    @property
    def not_timed(self) -> int:
        """The number of plans whose latency was not measured, since they were over the bound."""
        return sum(not trial.measured.timed for trial in self.trials)

    @property
    def judged_in_part(self) -> int:
        """The number of plans that were judged on fewer than all samples, since these were enough."""
        return sum(trial.measured.samples is not None for trial in self.trials)

    @property
    def stopped(self) -> str:
        """Why the search ended, as a text."""
        return self.stop.text


def best_and_finalists(trials: Sequence[Trial], goal: Goal) -> tuple[Trial, tuple[Trial, ...]]:
    """The best trial, and the accepted plans that are worth measuring again, best first."""
    accepted = sorted((t for t in trials if t.feasible), key=lambda t: t.cost(goal))
    if not accepted:
        return min(trials, key=lambda t: (*t.short_of(goal), t.number)), ()
    finalists = accepted[:FINALISTS]
    # Some of the fastest may meet the bound by luck alone, so one must be there that meets it with room.
    if not any(_with_room(t, goal) for t in finalists):
        finalists += [t for t in accepted if _with_room(t, goal)][:1]
    safe = [t for t in accepted[FINALISTS:] if t.measured.latency_ratio <= _SAFELY * goal.max_latency]
    finalists += safe[:1] if math.isfinite(goal.max_latency) else []
    # Every uniform plan is reported on fresh samples, to compare the answer with.
    finalists += [t for t in accepted[FINALISTS:] if t.uniform and t not in finalists]
    return accepted[0], tuple(finalists)


def rival_of(trials: Sequence[Trial], goal: Goal) -> float:
    """What a further plan must beat to become a finalist; infinite while there are too few accepted plans."""
    accepted = sorted(t.cost(goal)[0] for t in trials if t.feasible)
    return accepted[FINALISTS - 1] if len(accepted) >= FINALISTS else math.inf


def _with_room(trial: Trial, goal: Goal) -> bool:
    return trial.measured.judged_drop + (trial.measured.drop_error or 0.0) <= goal.max_drop
