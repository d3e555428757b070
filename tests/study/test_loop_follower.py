"""A process that follows a search: when it ends, and what it measures."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.trial import TrialState

from autoprec.errors import BackendError
from autoprec.plan import Assignment
from autoprec.study.ledger.owners import own_label
from autoprec.study.loop import MOST_REFUSED_AT_FIRST
from autoprec.study.participant import Ahead, Wanted
from autoprec.study.stop import Stop, StopReason
from autoprec.study.trial import Measurement

from ..helpers.ledgers import (
    following,
    ledger,
    measured,
    states,
)


def test_a_follower_ends_when_the_leader_says_so(tmp_path: Path) -> None:
    leader, book = ledger(tmp_path), ledger(tmp_path, own_label())
    leader.begin()
    leader.end("all 4 trials were used")

    assert following(book).follow() == (0, Stop(StopReason.LEADER, "all 4 trials were used"))
    leader.begin()
    assert book.ended() is None


def test_a_follower_uses_the_budget_up_and_no_more(tmp_path: Path) -> None:
    book = ledger(tmp_path, own_label())

    assert following(book, limit=3).follow() == (3, Stop(StopReason.TRIALS, "all 3 trials were used"))
    assert len(book.trials()) == 3


def test_a_follower_begins_plans_ahead_and_leaves_them_to_others_when_the_leader_ends(tmp_path: Path) -> None:
    leader, book, begun = ledger(tmp_path), ledger(tmp_path, own_label()), []
    leader.begin()

    def ends(plan: Assignment, wanted: Wanted) -> Measurement:
        assert len(begun) == 3, "the one that is measured, and two that are built meanwhile"
        leader.end("the time was used up")
        return measured(plan, wanted)

    count, stop = following(book, ends, ahead=Ahead(3, begun.append)).follow()

    assert (count, stop.reason) == (1, StopReason.LEADER)
    assert "RUNNING" not in states(book)


def test_a_follower_whose_runtime_refuses_everything_ends(tmp_path: Path) -> None:
    def refusing(plan: Assignment, wanted: Wanted) -> Measurement:
        raise BackendError("no memory")

    book = ledger(tmp_path, own_label())
    with pytest.raises(
        BackendError, match=rf"refused its first {MOST_REFUSED_AT_FIRST} plans, the last one with: no memory"
    ):
        following(book, refusing).follow()
    assert states(book).count("FAIL") >= MOST_REFUSED_AT_FIRST
    assert TrialState.RUNNING not in [trial.state for trial in book.study.trials]
