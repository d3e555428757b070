"""Several processes on one study: each ledger here stands for one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from autoprec.errors import BackendError
from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.study.ledger import owners
from autoprec.study.ledger.ask_tell import Ledger
from autoprec.study.ledger.claims import OWNER, Claims
from autoprec.study.ledger.owners import STALE_S, Watch, abandoned, beating, own_label
from autoprec.study.ledger.status import LEFT
from autoprec.study.loop import MOST_REFUSED_AT_FIRST, Search, SearchFollower, Wanted
from autoprec.study.stop import Stop, StopReason
from autoprec.study.trial import Measurement

FP32, INT8 = Precision.FP32, Precision.INT8
CHOICES = {"a": (FP32, INT8), "b": (FP32, INT8), "fixed": (INT8,)}
SPACE = {name: CategoricalDistribution(["fp32", "int8"]) for name in ("a", "b")}
LOW: Assignment = {"a": FP32, "b": INT8, "fixed": INT8}
LOWEST: Assignment = {"a": INT8, "b": INT8, "fixed": INT8}
DEAD = {**own_label(), "pid": 2**22 + 1}
ELSEWHERE = {**own_label(), "host": "elsewhere"}
DONE = Measurement(drop=0.0, judged_drop=0.0, noise=1e-3, kl=None, agreement=None, latency_ratio=0.5)


class Same(optuna.samplers.RandomSampler):
    """Always asks for one plan."""

    def __init__(self, plan: Assignment = LOW) -> None:
        super().__init__()
        self.plan = plan

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        return self.plan[param_name].value


def ledger(
    path: Path,
    mark: dict[str, Any] | None = None,
    sampler: optuna.samplers.BaseSampler | None = None,
    watch: Watch | None = None,
) -> Ledger:
    process = {**own_label(), "pid": 1, "began": None} if mark is None else mark  # process 1 always lives
    sampler = sampler or optuna.samplers.RandomSampler(seed=0)
    return Ledger(path / "log", "run", CHOICES, 0.01, sampler, process=process, watch=watch)


def enqueue_unseen(book: Ledger, name: str) -> None:
    """Enqueue the plan LOW as a process does that has not seen what others enqueued."""
    book.study.enqueue_trial({"a": "fp32", "b": "int8"}, user_attrs={"origin": name})


def before_look(book: Ledger, what: Callable[[], object]) -> None:
    """Have something happen when the next trial of a process has its plan, and before it looks at the others."""
    look = book.claims

    def interrupted() -> Claims:
        book.claims = look  # type: ignore[method-assign]
        what()
        return look()

    book.claims = interrupted  # type: ignore[method-assign]


def states(book: Ledger) -> list[str]:
    return [trial.state.name for trial in book.study.get_trials()]


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


def measured(plan: Assignment, wanted: Wanted) -> Measurement:
    return DONE


def following(
    book: Ledger, how: Callable[[Assignment, Wanted], Measurement] = measured, limit: int = 4
) -> SearchFollower:
    return SearchFollower({"uniform int8": LOWEST}, book, how, limit=limit)


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
