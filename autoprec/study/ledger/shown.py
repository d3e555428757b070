"""A study for people beside the search's own: named after the model, with latency, drop and size as values.

The search minimises one figure under bounds, so its own trials have one value. Optuna Dashboard, which draws the front
of several values, opens this one: `optuna-dashboard autoprec-runs/model/study.log`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from autoprec.study.ledger.storages import StudyLocation, lost, open_storage
from autoprec.study.trial import Choices, Trial

_NUMBER = "trial"


@dataclass(frozen=True, slots=True)
class Shown:
    """What the study for people is about.

    Attributes:
        model: the name of the model.
        metric: the name of the metric whose drop is shown.
        unit: what latencies are divided by, such as "FP32".
    """

    model: str
    metric: str
    unit: str

    def name(self, search: str) -> str:
        """The name of the study, given that of the search's own, which tells searches of one model apart."""
        return f"{self.model} {search[:8]}"


def show_trials(location: StudyLocation, search: str, shown: Shown, choices: Choices, trials: Sequence[Trial]) -> str:
    """Write the timed plans of a search into the study for people; those that are there already stay.

    Args:
        location: where the study is kept.
        search: the name of the search's own study.
        shown: what it is about.
        choices: unit -> the precisions that it may take.
        trials: the measured plans.

    Returns:
        The name of the study for people.

    Raises:
        RunDirectoryError: a journal cannot be written.
        StorageError: the storage cannot be reached.
    """
    name, storage = shown.name(search), open_storage(location)
    with lost(location), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental features of Optuna say so at each use
        study = optuna.create_study(study_name=name, storage=storage, directions=["minimize"] * 3, load_if_exists=True)
        study.set_metric_names([f"latency / {shown.unit}", f"drop of {shown.metric}", "size, bytes"])
        known = {record.user_attrs.get(_NUMBER) for record in study.get_trials(deepcopy=False)}
        for trial in trials:
            if trial.number not in known and trial.measured.timed and math.isfinite(trial.measured.judged_drop):
                study.add_trial(_record(trial, choices))
    return name


def _record(trial: Trial, choices: Choices) -> FrozenTrial:
    measured = trial.measured
    free = {unit: options for unit, options in choices.items() if len(options) > 1}
    return optuna.trial.create_trial(
        state=TrialState.COMPLETE,
        values=[measured.latency_ratio, measured.judged_drop, measured.bytes or 0.0],
        params={unit: trial.plan[unit].value for unit in free},
        distributions={unit: CategoricalDistribution([p.value for p in options]) for unit, options in free.items()},
        user_attrs={_NUMBER: trial.number, "proposed by": trial.origin, "within the bounds": trial.feasible},
    )
