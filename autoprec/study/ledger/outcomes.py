"""A measurement as Optuna's samplers understand it: an objective, constraints, and a few attributes."""

from __future__ import annotations

import math
import warnings

import optuna
from optuna.trial import TrialState

from autoprec.study.goal import Goal
from autoprec.study.optuna_adapter import LATENCY, NOISE, SIZE
from autoprec.study.trial import Measurement

_CONSTRAINT, _LATENCY_CONSTRAINT = "drop above the bound", "latency above the bound"
_WORST = 1e9


def tell(study: optuna.Study, trial: optuna.Trial, measured: Measurement, goal: Goal) -> None:
    """End a trial with what was measured; where its objective is not known it is pruned, with its constraints."""
    if math.isfinite(measured.noise):
        trial.set_user_attr(NOISE, measured.noise)
    if measured.bytes is not None:
        trial.set_user_attr(SIZE, measured.bytes)
    if measured.timed:
        trial.set_user_attr(LATENCY, measured.latency_ratio)
    value = _objective(goal, measured)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if math.isfinite(goal.max_drop):
            trial.set_constraint(_CONSTRAINT, min(measured.judged_drop - goal.max_drop, _WORST))
        if math.isfinite(goal.max_latency):
            trial.set_constraint(_LATENCY_CONSTRAINT, min(measured.latency_ratio - goal.max_latency, _WORST))
        if value is None:
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, value)


def _objective(goal: Goal, measured: Measurement) -> float | None:
    """The figure that is minimised; None where it is not known."""
    if goal.objective == "size":
        return None if measured.bytes is None else float(measured.bytes)
    if goal.objective == "accuracy":
        return min(measured.judged_drop, _WORST)
    return measured.latency_ratio if measured.timed else None
