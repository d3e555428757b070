"""How a run divides its time."""

from __future__ import annotations

import itertools

import pytest

from autoprec.run import budget as run_budget
from autoprec.run.budget import Budget, Deadline, RangesTime
from autoprec.run.spent import Spent
from autoprec.timing.compare import compare


@pytest.fixture(name="now")
def _now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    clock = [1000.0]
    monkeypatch.setattr(run_budget.time, "monotonic", lambda: clock[0])
    return clock


def test_without_a_limit_nothing_is_cut_and_nothing_reserved() -> None:
    budget = Budget(deadline=Deadline(None), sample_s=10.0, batch_ms=1e6)

    assert budget.most_samples() == float("inf")
    assert budget.reserve_s(6, 3, 1000) == 0.0
    assert not budget.out_of_time(1e9)
    assert not RangesTime(budget.deadline).is_up("ranges", 0.5)
    assert budget.ending_s == float("inf")


def test_a_deadline_counts_from_its_making(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(100.0, 4.0)
    monkeypatch.setattr(run_budget.time, "monotonic", lambda: next(clock))
    deadline = Deadline(10.0)

    assert not deadline.spent(0.5)  # 4 s
    assert deadline.spent(0.5)  # 8 s
    assert deadline.spent()  # 12 s
    assert deadline.left_s == -6.0


def test_without_a_limit_the_time_is_never_spent() -> None:
    assert not Deadline(None).spent()
    assert Deadline(None).left_s == float("inf")


def test_time_before_the_run_counts(now: list[float]) -> None:
    deadline = Deadline(40.0, elapsed_s=15.0)
    now[0] += 5.0

    assert (deadline.elapsed_s, deadline.left_s) == (20.0, 20.0)
    assert deadline.share(0.25).left_s == 5.0


def test_samples_are_as_many_as_the_least_of_a_run_can_judge_in_two_fifths_of_the_time(now: list[float]) -> None:
    budget = Budget(deadline=Deadline(60.0), sample_s=0.01)

    assert budget.most_samples() == pytest.approx(0.4 * 60 / (6 * 0.01))
    now[0] += 59.9
    assert budget.most_samples() == 32, "so few say little, but an answer needs some"


def test_a_slower_machine_gets_fewer_samples_and_a_larger_reserve(now: list[float]) -> None:
    quick, slow = (Budget(deadline=Deadline(60.0), sample_s=s, batch_ms=16e3 * s, build_s=0.1) for s in (0.001, 0.01))

    assert slow.most_samples() < quick.most_samples() / 8 or slow.most_samples() == 32
    assert slow.reserve_s(6, 3, 300) > 2 * quick.reserve_s(6, 3, 300)


def test_the_reserve_covers_the_least_of_confirming_whatever_the_limit(now: list[float]) -> None:
    for total in (1.0, 10.0, 100.0):
        budget = Budget(deadline=Deadline(total), sample_s=0.01, batch_ms=160.0, build_s=0.5)

        assert budget.least_s(300) <= budget.reserve_s(6, 3, 300) <= budget.least_s(300) + 0.15 * total


def test_the_search_ends_where_another_plan_would_use_the_reserve(now: list[float]) -> None:
    budget = Budget(deadline=Deadline(30.0), plan_s=4.0)

    assert not budget.out_of_time(25.0)
    now[0] += 2.0
    assert budget.out_of_time(25.0)


def test_sensitivities_get_the_most_samples_that_fit_or_none(now: list[float]) -> None:
    budget = Budget(deadline=Deadline(100.0), sample_s=0.01, batch_ms=10.0)

    assert budget.profiled([512, 128, 16], 10, 0.0, 300) == 128  # 0.2 of 100 s are 400 samples of 10 entries
    assert budget.profiled([512, 128, 16], 10, 12.0, 300) is None, "building alone takes 120 s"
    now[0] += 90.0
    assert budget.profiled([512, 128, 16], 10, 0.0, 300) is None, "what comes after needs the rest"


def test_sensitivities_that_may_just_take_too_long_are_begun_and_end_with_their_share_of_the_time() -> None:
    seconds = [49.0]
    budget = Budget(deadline=Deadline(240.0, clock=lambda: seconds[0] - 49.0), sample_s=0.01, batch_ms=160.0)
    seconds[0] += 49.0

    assert budget.profiled([128, 16], 60, 1.0, 300) == 16, "64.8 s are expected, 38.2 s are allowed"
    cut = budget.deadline.within(budget.sensitivity_s(300))
    seconds[0] += 38.0
    assert not cut.spent()
    seconds[0] += 0.3
    assert cut.spent()
    assert budget.profiled([128, 16], 600, 1.0, 300) is None, "ten times that is beyond hope"


def test_builds_leave_what_comes_after_them_its_time_and_runs_are_short_beside_what_is_left() -> None:
    seconds = [0.0]
    budget = Budget(deadline=Deadline(100.0, clock=lambda: seconds[0]), sample_s=0.5, ending_reserve_s=12.0)

    assert budget.build_left_s == 88.0
    assert budget.run_samples == 4, "two of a hundred seconds"
    seconds[0] += 90.0
    assert budget.build_left_s == -2.0
    assert budget.run_samples == 1
    assert Budget(deadline=Deadline(None), sample_s=0.5).run_samples is None


def test_the_time_to_build_finalists_as_usual_is_kept_where_it_leaves_enough_for_the_search() -> None:
    budget = Budget(deadline=Deadline(100.0, clock=lambda: 0.0))

    budget.keep_rebuilding(10.0)
    assert budget.rebuild_s == 40.0
    budget.keep_rebuilding(10.1)
    assert budget.rebuild_s == 0.0
    budget.keep_rebuilding(40.0, kernels_known=True)
    assert budget.rebuild_s == 60.0, "an engine of usual settings has had most kernels timed"


def test_where_builds_can_be_cancelled_a_plan_costs_only_what_measuring_it_does() -> None:
    spent = Spent(build_s=60.0, evaluate_s=2.0, clock_s=4.0, plans=6, samples=10)
    for cancels, plan_s in ((True, 1.0), (False, 11.0)):
        budget = Budget(deadline=Deadline(100.0))
        budget.learn(spent, keeps_engines=True, cancels=cancels)

        assert budget.plan_s == plan_s


def test_a_slower_machine_judges_the_answer_on_fewer_held_out_samples_and_no_limit_on_all() -> None:
    budget = Budget(deadline=Deadline(20.0, clock=lambda: 0.0), sample_s=0.01)

    assert budget.affordable(3, 3, 400) == 400
    budget.sample_s = 0.05
    assert 32 < budget.affordable(3, 3, 400) < 120
    assert Budget(deadline=Deadline(None), sample_s=9.0).affordable(3, 3, 400) == 400


def test_ranges_are_hurried_step_by_step_and_only_what_was_cut_counts(now: list[float]) -> None:
    calibration = RangesTime(Deadline(100.0))  # 20 s for all of it

    now[0] += 9.0
    assert calibration.is_up("ranges", 1.0)
    assert not calibration.cut_short, "it was at its end anyway"
    assert not calibration.is_up("calibrator", 0.2)
    now[0] += 4.0
    assert calibration.is_up("calibrator", 0.4)
    assert calibration.cut_short


def test_what_is_left_out_is_said_once() -> None:
    budget = Budget(deadline=Deadline(10.0))
    for words in ("a", "b", "a"):
        budget.leave_out(words)

    assert budget.left_out == ["a", "b"]


def test_rounds_end_early_where_the_time_is_up_but_not_before_the_third() -> None:
    from autoprec.testing import FakeEngine

    class Steady(FakeEngine):
        def __init__(self) -> None:
            """Needs no model."""

        def time_ms(self, feed: object, runs: int) -> list[float]:
            return [1.0] * runs

    asked = itertools.count()
    found = compare({"a": Steady(), "b": Steady()}, {}, rounds=(9, 25), out_of_time=lambda: next(asked) >= 0)

    assert len(found["b"].rounds_ms) == 3
