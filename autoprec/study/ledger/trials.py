"""Measured plans as an Optuna study stores them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from optuna.trial import FrozenTrial

from autoprec.precision import Precision
from autoprec.study.goal import Goal
from autoprec.study.ledger.claims import measured
from autoprec.study.sampler import MEASUREMENT
from autoprec.study.trial import Choices, Measurement, Trial

ORIGIN = "origin"


def measured_trials(records: Sequence[FrozenTrial], choices: Choices, goal: Goal) -> list[Trial]:
    """The measured plans among Optuna's trials, in order."""
    return [measured_trial(record, choices, goal) for record in records if measured(record)]


def measured_trial(record: FrozenTrial, choices: Choices, goal: Goal) -> Trial:
    """What one of Optuna's trials says of its plan."""
    stored: dict[str, Any] = record.user_attrs[MEASUREMENT]
    found = Measurement(**{key: _number(key, value) for key, value in stored.items()})
    plan = plan_of_params(choices, record.params)
    feasible = goal.accepts(found.judged_drop, found.latency_ratio)
    return Trial(number=record.number, origin=record.user_attrs[ORIGIN], plan=plan, measured=found, feasible=feasible)


def as_stored(found: Measurement) -> dict[str, Any]:
    """A measurement as JSON, which knows no infinity."""
    values = asdict(found)
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}


def plan_of_params(choices: Choices, params: Mapping[str, Any]) -> dict[str, Precision]:
    """Unit -> precision; units with one choice are no parameters."""
    return {unit: options[0] if len(options) == 1 else Precision(params[unit]) for unit, options in choices.items()}


def _number(key: str, value: Any) -> Any:
    if value is None and key not in ("kl", "agreement", "samples", "ratio_error", "drop_error", "bytes", "layers_ms"):
        return float("inf")
    return value
