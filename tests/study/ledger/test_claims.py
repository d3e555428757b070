"""Several processes on one study: each ledger here stands for one of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest

from autoprec.study.ledger import owners
from autoprec.study.ledger.ask_tell import Ledger
from autoprec.study.ledger.claims import OWNER
from autoprec.study.ledger.owners import own_label
from autoprec.study.loop import Search, SearchFollower

from ...helpers.ledgers import (
    DEAD,
    DONE,
    FP32,
    LOW,
    LOWEST,
    SPACE,
    Same,
    before_look,
    enqueue_unseen,
    following,
    ledger,
    measured,
    states,
)


def test_of_two_that_ask_for_one_plan_the_later_gives_way(tmp_path: Path) -> None:
    first, second = ledger(tmp_path, sampler=Same()), ledger(tmp_path, own_label(), Same())
    mine = first.ask()

    assert mine is not None
    assert mine.plan == LOW
    assert second.ask() is None
    assert states(first) == ["RUNNING", "FAIL"]


def test_an_earlier_trial_gives_way_to_one_that_is_being_measured(tmp_path: Path) -> None:
    """The sampler of the earlier one took longer."""
    first, second = ledger(tmp_path, sampler=Same()), ledger(tmp_path, own_label(), Same())
    slow: list[Any] = []

    class Slow(Same):
        def after_trial(self, *_: Any) -> None:
            pass

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            if not slow:
                slow.append(second.ask())
            return LOW[param_name].value

    first.study.sampler = Slow()

    assert first.ask() is None
    assert slow[0] is not None
    assert states(first) == ["FAIL", "RUNNING"]


def test_a_measured_plan_that_is_asked_for_again_is_known(tmp_path: Path) -> None:
    first, second = ledger(tmp_path, sampler=Same()), ledger(tmp_path, own_label(), Same())
    asked = first.ask()
    assert asked is not None
    trial = first.tell(asked, DONE)
    again = second.ask()

    assert again is not None
    assert again.known == trial


def test_the_budget_counts_what_all_processes_have_begun(tmp_path: Path) -> None:
    first, second = ledger(tmp_path), ledger(tmp_path, own_label())
    first.enqueue({"uniform": LOW, "half": LOWEST})
    assert first.ask(1) is not None  # what was enqueued is measured nevertheless

    assert second.queue().begun == 2
    assert second.ask(1) is not None
    assert second.ask(2) is None
    assert states(second)[:2] == ["RUNNING", "RUNNING"]
    assert set(states(second)[2:]) == {"FAIL"}


def test_a_process_that_asks_before_what_a_dead_one_left_waits_again_takes_no_more_than_the_budget(
    tmp_path: Path,
) -> None:
    first, second = ledger(tmp_path), ledger(tmp_path, own_label(), Same(LOWEST))
    dead = ledger(tmp_path, DEAD, Same())
    assert dead.ask(1) is not None
    first.release()  # and is interrupted before it enqueues the plan

    assert second.ask(1) is None
    first.recover()
    again = second.ask(1)
    assert again is not None
    assert again.plan == LOW
    assert second.ask(1) is None


def test_a_sampler_may_ask_for_what_a_dead_process_left(tmp_path: Path) -> None:
    first, second = ledger(tmp_path), ledger(tmp_path, own_label(), Same())
    assert ledger(tmp_path, DEAD, Same()).ask(1) is not None
    first.release()

    assert second.ask(1) is not None
    first.recover()
    assert states(first) == ["FAIL", "RUNNING"]


def test_what_a_later_trial_holds_is_paid_for_by_an_earlier_one(tmp_path: Path) -> None:
    """The later one holds the plan of a dead process, and gives it up as the earlier one takes the last place."""
    first, later = ledger(tmp_path, sampler=Same(LOWEST)), ledger(tmp_path, own_label(), Same())
    assert ledger(tmp_path, DEAD, Same()).ask(1) is not None
    first.release()

    before_look(first, lambda: later.study.ask(fixed_distributions=SPACE))
    assert first.ask(1) is None


def test_a_proposal_whose_process_died_before_the_budget_was_looked_at_is_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = ledger(tmp_path)
    book.enqueue({"half": LOW})
    for _ in range(2):  # what waits, and a proposal
        book.study.ask(fixed_distributions=SPACE)
    monkeypatch.setattr(owners, "UNOWNED_S", -1.0)
    book.recover()

    assert states(book) == ["FAIL", "FAIL", "WAITING"]
    assert book.study.trials[2].system_attrs["fixed_params"] == {"a": "fp32", "b": "int8"}


def test_the_seeds_are_in_the_budget_before_workers_may_spend_it(tmp_path: Path) -> None:
    leader, book = ledger(tmp_path), ledger(tmp_path, own_label(), Same({"a": FP32, "b": FP32}))
    seeds = {"uniform int8": LOWEST, "half": LOW}

    def quick() -> None:
        SearchFollower(seeds, book, measured, limit=2).follow()

    found = Search(seeds, leader, measured, limit=2, begun=quick).run()

    assert [trial.origin for trial in found.trials] == list(seeds)
    assert found.stopped == "all 2 trials were used"


@pytest.mark.parametrize("seen", [False, True])
def test_an_enqueued_plan_that_gives_way_to_a_trial_beyond_the_budget_is_not_lost(tmp_path: Path, seen: bool) -> None:
    first, second = ledger(tmp_path, sampler=Same()), ledger(tmp_path, own_label())

    def enqueued() -> None:
        if seen:
            second.enqueue({"half": LOW})
        else:
            enqueue_unseen(second, "half")
            assert second.ask() is None

    before_look(first, enqueued)
    assert first.ask(0) is None
    assert states(first) == ["FAIL", "FAIL"]
    second.recover()
    again = second.ask()

    assert again is not None
    assert (again.origin, again.plan) == ("half", LOW)


def test_what_one_process_refused_is_not_measured_because_another_enqueued_it_late(tmp_path: Path) -> None:
    first, second = ledger(tmp_path), ledger(tmp_path, own_label())
    first.enqueue({"half": LOW})
    asked = first.ask()
    assert asked is not None
    search = following(second)
    search.look()
    first.fail(asked, "no kernel")
    enqueue_unseen(first, "half")
    again = second.ask()
    assert again is not None
    search.take(again)

    assert states(second) == ["FAIL", "FAIL"]


@pytest.mark.parametrize("at_once", [False, True])
def test_of_two_that_took_one_enqueued_trial_no_more_than_one_measures(tmp_path: Path, at_once: bool) -> None:
    """As SQLite allows."""
    first, second = ledger(tmp_path), ledger(tmp_path, own_label())
    first.enqueue({"half": LOW})
    found: list[object] = []
    number = first.study.trials[0]._trial_id

    def too() -> None:
        ask = second.study.ask
        second.study.ask = lambda **_: taken(second, number)  # type: ignore[method-assign]
        found.append(second.ask())
        second.study.ask = ask  # type: ignore[method-assign]

    if at_once:
        marked = first.study.get_trials
        looks = iter([marked, lambda **_: (too(), marked(deepcopy=False))[1]])
        first.study.get_trials = lambda **options: next(looks, marked)(**options)  # type: ignore[method-assign]
        assert first.ask() is None
        first.recover()
        assert states(first) == ["FAIL", "WAITING"]
    else:
        assert first.ask() is not None
        too()
        assert states(first) == ["RUNNING"]
        assert first.study.trials[0].user_attrs[OWNER]["pid"] == 1
    assert found == [None]


def taken(book: Ledger, number: int) -> optuna.Trial:
    trial = optuna.Trial(book.study, number)
    for unit, options in SPACE.items():
        trial._suggest(unit, options)
    return trial


def test_two_that_enqueue_the_same_at_once_enqueue_it_once(tmp_path: Path) -> None:
    first, second = ledger(tmp_path), ledger(tmp_path, own_label())
    enqueue_unseen(first, "uniform")  # neither has seen the other's
    enqueue_unseen(second, "uniform")
    second.enqueue({"uniform": LOW})

    assert states(first) == ["WAITING", "FAIL"]
