"""Measured plans as an Optuna study stores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from optuna.trial import FrozenTrial

from autoprec.precision import Precision
from autoprec.study.goal import Goal
from autoprec.study.ledger.status import is_measured
from autoprec.study.optuna_adapter import MEASUREMENT, ORIGIN, prediction_of
from autoprec.study.trial import Choices, Measurement, Trial


def measured_trials(records: Sequence[FrozenTrial], choices: Choices, goal: Goal) -> list[Trial]:
    """The measured plans among Optuna's trials, in order."""
    return [measured_trial(record, choices, goal) for record in records if is_measured(record)]


def measured_trial(record: FrozenTrial, choices: Choices, goal: Goal) -> Trial:
    """What one of Optuna's trials says of its plan."""
    measured = Measurement.from_record(record.user_attrs[MEASUREMENT])
    return Trial(
        number=record.number,
        origin=record.user_attrs[ORIGIN],
        plan=plan_of_params(choices, record.params),
        measured=measured,
        feasible=goal.accepts(measured.judged_drop, measured.latency_ratio),
        predicted=prediction_of(record),
    )


def plan_of_params(choices: Choices, params: Mapping[str, Any]) -> dict[str, Precision]:
    """Unit -> precision; units with one choice are no parameters of the study."""
    return {unit: options[0] if len(options) == 1 else Precision(params[unit]) for unit, options in choices.items()}
