"""What becomes of the plans of processes that end, are killed or fall silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoprec.study.ledger.claims import OWNER
from autoprec.study.ledger.owners import STALE_S, Watch, abandoned, beating, own_label
from autoprec.study.ledger.status import LEFT

from ...helpers.ledgers import (
    DEAD,
    DONE,
    ELSEWHERE,
    LOW,
    ledger,
    states,
)


def test_what_a_dead_process_had_begun_is_measured_once_more(tmp_path: Path) -> None:
    dead, first, second = ledger(tmp_path, DEAD), ledger(tmp_path), ledger(tmp_path, own_label())
    dead.enqueue({"half": LOW})
    assert dead.ask() is not None
    first.recover()
    second.recover()
    again = second.ask()

    assert again is not None
    assert (again.origin, again.plan) == ("half", LOW)
    assert second.tell(again, DONE) is not None
    assert states(first) == ["FAIL", "COMPLETE"]
    assert first.study.trials[0].user_attrs[LEFT] == "killed"


def test_a_plan_that_ended_two_processes_is_given_to_no_third(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    book.enqueue({"half": LOW})
    for _ in range(2):
        assert ledger(tmp_path, DEAD).ask() is not None
        book.recover()

    assert states(book) == ["FAIL", "FAIL"]
    assert book.refusals() == [(LOW, "half: it ended 2 processes that measured it")]


def test_a_new_session_tries_what_an_earlier_one_was_killed_at(tmp_path: Path) -> None:
    book = ledger(tmp_path)
    book.enqueue({"half": LOW})
    for _ in range(2):
        assert ledger(tmp_path, DEAD).ask() is not None
        book.recover()
    book.begin()
    book.recover()

    assert states(book) == ["FAIL", "FAIL", "WAITING"]
    assert book.refusals() == []


def test_what_a_process_left_in_order_is_measured_by_another(tmp_path: Path) -> None:
    first, second = ledger(tmp_path), ledger(tmp_path, own_label())
    first.enqueue({"half": LOW})
    asked = first.ask()
    assert asked is not None
    first.leave(asked)
    second.recover()
    again = second.ask()

    assert again is not None
    assert again.plan == LOW


def test_a_process_that_was_thought_dead_is_not_counted(tmp_path: Path) -> None:
    late, other = ledger(tmp_path, DEAD), ledger(tmp_path)
    late.enqueue({"half": LOW})
    asked = late.ask()
    other.recover()
    again = other.ask()
    assert asked is not None
    assert again is not None

    assert late.tell(asked, DONE) is None
    assert other.tell(again, DONE) is not None
    assert [trial.number for trial in other.trials()] == [again.trial.number]


def test_a_process_elsewhere_lives_as_long_as_its_counter_moves() -> None:
    now = [0.0]
    watch = Watch(clock=lambda: now[0])

    assert watch.silent_s("it", None) is None
    assert watch.silent_s("it", 1) == 0.0
    now[0] = STALE_S + 1
    assert abandoned(ELSEWHERE, None, watch.silent_s("it", 1))
    assert not abandoned(ELSEWHERE, None, watch.silent_s("it", 2))


def test_a_container_of_the_same_name_is_elsewhere() -> None:
    other = {**DEAD, "space": "pid:[1] another"}

    assert abandoned(DEAD, None, 0.0)
    assert not abandoned(other, None, 0.0)


def test_silence_elsewhere_frees_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    far, here = ledger(tmp_path, ELSEWHERE), ledger(tmp_path, own_label(), watch=Watch(clock=lambda: now[0]))
    far.enqueue({"half": LOW})
    with far.present():
        assert far.ask() is not None
    here.recover()
    assert states(here) == ["RUNNING"]
    now[0] = STALE_S + 1
    here.recover()

    assert states(here) == ["FAIL", "WAITING"]
    assert here.study.trials[0].user_attrs[OWNER] == ELSEWHERE


def test_signs_of_life_go_on_until_the_end() -> None:
    import time

    beats: list[int] = []

    def beat(count: int) -> None:
        beats.append(count)
        if count == 2:
            raise OSError("the network is away for a moment")

    with beating(beat, 0.01):
        ends = time.monotonic() + 30
        while len(beats) < 4 and time.monotonic() < ends:
            time.sleep(0.01)
    count = len(beats)

    assert beats == list(range(1, count + 1))
    assert count >= 4
