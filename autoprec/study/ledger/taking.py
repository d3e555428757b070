"""Taking a trial for this process, and giving it up to another one."""

from __future__ import annotations

from typing import Any

import optuna
from optuna.trial import FrozenTrial

from autoprec.study.ledger.owners import label
from autoprec.study.ledger.status import TrialStatus
from autoprec.study.optuna_adapter import fail_trial, is_enqueued

_TAKER = "autoprec:taker:"
"""How the user attributes begin that name a process which took an enqueued trial. The value is True, or False where
that process gave the trial up to another one."""


def take(study: optuna.Study, trial: optuna.Trial, process: dict[str, Any]) -> bool:
    """Claim an enqueued trial; one that the sampler proposed belongs to whoever asked.

    Several processes may be given the same enqueued trial at once, since SQLite locks no row.

    Returns:
        False if another process claimed it too; the last of those that withdraw puts it back in the queue.
    """
    if not is_enqueued(_now(study, trial)):
        return True
    key = _TAKER + label(process)
    trial.set_user_attr(key, True)
    if len(_takers(_now(study, trial))) == 1:
        return True
    trial.set_user_attr(key, False)
    record = _now(study, trial)
    if not any(_takers(record).values()):
        give_way(study, record)
    return False


def give_way(study: optuna.Study, record: FrozenTrial) -> None:
    """Give way to another trial of the same plan. That one may yet fail, so an enqueued plan is still owed."""
    fail_trial(study, record, (TrialStatus.YIELDED if is_enqueued(record) else TrialStatus.DROPPED).attributes)


def _now(study: optuna.Study, trial: optuna.Trial) -> FrozenTrial:
    return study.get_trials(deepcopy=False)[trial.number]


def _takers(record: FrozenTrial) -> dict[str, bool]:
    return {key: bool(value) for key, value in record.user_attrs.items() if key.startswith(_TAKER)}
