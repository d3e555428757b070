"""The life of a trial, read from what Optuna stores."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.trial import TrialState, create_trial

from autoprec.study.ledger.status import LEFT, REFUSED, TrialStatus, left_as, status_of
from autoprec.study.optuna_adapter import MEASUREMENT


@pytest.mark.parametrize(
    ("state", "attributes", "status"),
    [
        (TrialState.WAITING, {}, TrialStatus.WAITING),
        (TrialState.RUNNING, {}, TrialStatus.RUNNING),
        (TrialState.RUNNING, {LEFT: "killed"}, TrialStatus.RUNNING),
        (TrialState.COMPLETE, {MEASUREMENT: {}}, TrialStatus.MEASURED),
        (TrialState.PRUNED, {MEASUREMENT: {}}, TrialStatus.MEASURED),
        (TrialState.COMPLETE, {}, TrialStatus.REPEATED),
        (TrialState.FAIL, {REFUSED: "no kernel"}, TrialStatus.REFUSED),
        (TrialState.FAIL, {LEFT: "killed"}, TrialStatus.KILLED),
        (TrialState.FAIL, {LEFT: "stopped"}, TrialStatus.STOPPED),
        (TrialState.FAIL, {LEFT: "yielded"}, TrialStatus.YIELDED),
        (TrialState.FAIL, {}, TrialStatus.DROPPED),
    ],
)
def test_where_a_trial_is_in_its_life(state: TrialState, attributes: dict[str, Any], status: TrialStatus) -> None:
    value = 1.0 if state is TrialState.COMPLETE else None

    assert status_of(create_trial(state=state, value=value, user_attrs=attributes)) is status


@pytest.mark.parametrize("status", list(TrialStatus))
def test_what_is_left_is_stored_and_read_again(status: TrialStatus) -> None:
    trial = create_trial(state=TrialState.FAIL, user_attrs=dict(status.attributes))

    assert left_as(trial) is (status if status.is_left else None)
