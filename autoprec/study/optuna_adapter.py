"""What a study stores in Optuna's trials, and the only access to what Optuna keeps private.

Optuna has no public way to fail a trial that another process runs, nor to store a system attribute from a sampler;
its own samplers and storages use the private attributes below. Whatever a new version of Optuna changes is mended here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from autoprec.study.trial import Measurement, Prediction

NOISE, LATENCY, SIZE, LAYERS = "noise", "latency", "bytes", "layers_ms"
"""User attributes of a trial: the noise of its outputs, for a better accuracy model; its latency over FP32's, and its
size, where these are not the objective; and by unit the milliseconds of its layers, for a better latency model. All may
be missing."""
MEASUREMENT = "measurement"
"""User attribute of a trial that `autoprec.study.ledger` measured: all figures, whatever the objective was then."""
ORIGIN = "origin"
"""User attribute of an enqueued or measured trial: what proposed its plan."""
CLAIM = "autoprec:plan"
"""System attribute: the plan that the guided sampler chose, before the trial has parameters."""
PREDICTED = "autoprec:foretold"
"""System attribute: the latency, noise and drop that the models predicted."""
PROPOSED_AS = "autoprec:origin"
"""System attribute: what proposed the plan, as long as the trial is not measured."""
_FIXED = "fixed_params"
"""System attribute of Optuna's own: the parameters of an enqueued trial."""


def is_enqueued(trial: FrozenTrial) -> bool:
    """Whether the trial's plan was enqueued, so that it is measured whatever the budget says."""
    return _FIXED in trial.system_attrs


def chosen_params(trial: FrozenTrial) -> dict[str, Any]:
    """The parameters that a trial has, or will have: those enqueued, those claimed by the sampler, and its own."""
    return {**trial.system_attrs.get(_FIXED, {}), **trial.system_attrs.get(CLAIM, {}), **trial.params}


def prediction_of(trial: FrozenTrial) -> Prediction | None:
    """What the models predicted of the trial's plan, None where no model proposed it."""
    stored = trial.system_attrs.get(PREDICTED)
    return None if stored is None else Prediction(*stored)


def measurement_of(trial: FrozenTrial) -> Measurement | None:
    """All figures of a trial that the ledger measured, None for others."""
    stored: Mapping[str, Any] | None = trial.user_attrs.get(MEASUREMENT)
    return None if stored is None else Measurement.from_record(stored)


def set_system_attributes(study: optuna.Study, trial: FrozenTrial, attributes: Mapping[str, Any]) -> None:
    """Store system attributes of a running trial, in the order given."""
    for key, value in attributes.items():
        study._storage.set_trial_system_attr(trial._trial_id, key, value)


def fail_trial(study: optuna.Study, trial: FrozenTrial | optuna.Trial, attributes: Mapping[str, str]) -> None:
    """Fail a trial of this process or another one, with user attributes that say why.

    Several processes may try at once: what the first of them said stays. The attributes are there before the trial has
    failed, so that nobody sees a failed trial without its reason.
    """
    storage = study._storage
    with contextlib.suppress(UpdateFinishedTrialError):
        for key, value in attributes.items():
            storage.set_trial_user_attr(trial._trial_id, key, value)
        storage.set_trial_state_values(trial._trial_id, state=TrialState.FAIL)
