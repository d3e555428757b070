"""The loop: what is measured in which order, what is not, and when it ends."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from autoprec.errors import BackendError, NotHonouredError, OutOfTimeError
from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.study.ledger.ask_tell import Ledger
from autoprec.study.ledger.samplers import make_sampler
from autoprec.study.loop import Search
from autoprec.study.outcome import FINALISTS, SearchOutcome
from autoprec.study.participant import MOST_REFUSED, Wanted
from autoprec.study.stop import StopReason
from autoprec.study.trial import Measurement

from .test_sampler import BOUND, MEASURE, NAMES, OPTIMUM, PRIOR, PROBLEM

FP32, INT8 = Precision.FP32, Precision.INT8
SEEDS: dict[str, Assignment] = {
    "uniform fp32": dict.fromkeys(NAMES, FP32),
    "uniform int8": dict.fromkeys(NAMES, INT8),
    "first half int8": {name: INT8 if place < 5 else FP32 for place, name in enumerate(NAMES)},
}


def ledger(sampler: str = "guided", path: Path | None = None) -> Ledger:
    return Ledger(path, "run", PROBLEM.choices, BOUND, make_sampler(sampler, PROBLEM, PRIOR, BOUND, 0))


def measure(plan: Assignment, wanted: Wanted) -> Measurement:
    latency, drop, noise = MEASURE({name: p.value for name, p in plan.items()})
    return Measurement(drop=drop, judged_drop=drop, noise=noise, kl=None, agreement=None, latency_ratio=latency)


def searched(book: Ledger, how: Callable[[Assignment, Wanted], Measurement] = measure, **options: Any) -> SearchOutcome:
    return Search(SEEDS, book, how, **{"limit": 40, **options}).run()


def test_it_begins_with_the_seeds_and_measures_no_plan_twice() -> None:
    found = searched(ledger())

    assert [trial.origin for trial in found.trials[:3]] == list(SEEDS)
    assert len({tuple(trial.plan.values()) for trial in found.trials}) == len(found.trials)


@pytest.mark.parametrize("limit", [1, 2])
def test_the_plans_that_a_search_begins_with_count_as_trials(limit: int, tmp_path: Path) -> None:
    found = searched(ledger(path=tmp_path / "log"), limit=limit)
    again = searched(ledger(path=tmp_path / "log"), limit=limit)

    assert [trial.origin for trial in found.trials] == list(SEEDS)[:limit]
    assert len(again.trials) == limit


def test_it_finds_the_optimum_and_says_why_it_ended() -> None:
    found = searched(ledger())

    assert found.feasible
    assert found.best.measured.latency_ratio <= 1.02 * OPTIMUM
    assert "faster within the bound" in found.stopped


def test_the_models_report_on_plans_that_they_had_not_seen() -> None:
    models = searched(ledger()).models

    assert models.latency.plans == models.noise.plans > 5
    assert (models.latency.error or 9) < 0.1


def test_a_plan_whose_measurement_is_cut_ends_the_search_is_no_refusal_and_is_measured_first_the_next_time(
    tmp_path: Path,
) -> None:
    def cut(plan: Assignment, wanted: Wanted) -> Measurement:
        if plan == SEEDS["first half int8"]:
            raise OutOfTimeError("the build was cancelled")
        return measure(plan, wanted)

    found = searched(ledger(path=tmp_path / "log"), cut)

    assert [trial.origin for trial in found.trials] == list(SEEDS)[:2]
    assert (found.stop.reason, found.refused) == (StopReason.TIME, ())
    assert searched(ledger(path=tmp_path / "log"), limit=3).trials[2].origin == "first half int8"


def test_a_search_that_is_cut_before_its_first_plan_says_what_to_do() -> None:
    def cut(plan: Assignment, wanted: Wanted) -> Measurement:
        raise OutOfTimeError("the build was cancelled")

    with pytest.raises(OutOfTimeError, match="allow more time: the same command goes on"):
        searched(ledger(), cut)


@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_other_samplers_use_all_trials(sampler: str) -> None:
    found = searched(ledger(sampler), limit=12)

    assert len(found.trials) == 12
    assert found.stopped == "all 12 trials were used"
    assert found.models.latency.plans == 0


def test_a_sampler_that_only_repeats_itself_is_stopped() -> None:
    class Stubborn(optuna.samplers.RandomSampler):
        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return "fp32"

    book = Ledger(None, "run", PROBLEM.choices, BOUND, Stubborn())
    found = searched(book)

    assert found.stopped == "the sampler proposes only plans that are known"
    assert len(found.trials) == 3


def test_a_run_that_goes_on_measures_only_what_is_new(tmp_path: Path) -> None:
    first = searched(ledger(path=tmp_path / "log"), limit=6)
    plans: list[Assignment] = []

    def noted(plan: Assignment, wanted: Wanted) -> Measurement:
        plans.append(plan)
        return measure(plan, wanted)

    second = searched(ledger(path=tmp_path / "log"), noted, limit=9)

    assert second.trials[:6] == first.trials
    assert len(plans) == 3


def test_out_of_time_it_measures_the_uniform_plans_and_answers() -> None:
    found = searched(ledger(), out_of_time=lambda: True)

    assert [trial.origin for trial in found.trials] == ["uniform fp32", "uniform int8"]
    assert found.stopped == "the time limit was reached"
    assert found.feasible


def test_a_refused_plan_costs_that_plan_only_and_is_not_tried_again() -> None:
    refused: list[Assignment] = []

    def picky(plan: Assignment, wanted: Wanted) -> Measurement:
        if plan["u4"] is INT8:
            refused.append(plan)
            raise BackendError("no kernel")
        return measure(plan, wanted)

    found = searched(ledger(), picky)

    assert found.feasible
    assert len(refused) == len({tuple(plan.values()) for plan in refused}) <= MOST_REFUSED + 1
    assert all(words.endswith("no kernel") for words in found.refused)
    assert len(found.refused) == len(refused)


def test_where_not_even_the_first_plan_runs_the_error_is_the_runtimes() -> None:
    def broken(plan: Assignment, wanted: Wanted) -> Measurement:
        raise BackendError("no device")

    with pytest.raises(BackendError, match="no device"):
        searched(ledger(), broken)


def test_a_plan_whose_measurement_breaks_off_is_not_left_running() -> None:
    book = ledger()

    def stopped(plan: Assignment, wanted: Wanted) -> Measurement:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        searched(book, stopped)
    assert TrialState.RUNNING not in [trial.state for trial in book.study.trials]


def test_seeds_and_explored_plans_are_wanted_in_full_and_others_against_a_rival() -> None:
    wishes: list[tuple[bool, float]] = []

    def noted(plan: Assignment, wanted: Wanted) -> Measurement:
        wishes.append((wanted.everything, wanted.rival))
        return measure(plan, wanted)

    found = searched(ledger(), noted)
    accepted = sorted(t.measured.latency_ratio for t in found.trials[:-1] if t.feasible)

    assert [everything for everything, _ in wishes[:3]] == [True] * 3
    assert not all(everything for everything, _ in wishes)
    assert wishes[0][1] == math.inf
    assert wishes[-1][1] == accepted[FINALISTS - 1]


def test_where_nothing_is_accepted_the_least_drop_is_the_best_found() -> None:
    def hopeless(plan: Assignment, wanted: Wanted) -> Measurement:
        latency, drop, noise = MEASURE({name: p.value for name, p in plan.items()})
        return Measurement(
            drop=drop + 1, judged_drop=drop + 1, noise=noise, kl=None, agreement=None, latency_ratio=latency
        )

    found = searched(ledger(), hopeless, limit=10)

    assert not found.feasible
    assert found.best.measured.judged_drop == min(t.measured.judged_drop for t in found.trials)
    assert found.finalists == ()


def test_plans_that_were_not_timed_are_no_finalists() -> None:
    def untimed(plan: Assignment, wanted: Wanted) -> Measurement:
        full = measure(plan, wanted)
        over = full.judged_drop > BOUND and not wanted.everything
        latency = math.inf if over else full.latency_ratio
        return Measurement(
            drop=full.drop,
            judged_drop=full.judged_drop,
            noise=full.noise,
            kl=None,
            agreement=None,
            latency_ratio=latency,
        )

    found = searched(ledger(), untimed)

    assert any(not trial.measured.timed for trial in found.trials)
    assert all(trial.measured.timed for trial in found.finalists)
    assert found.best.measured.latency_ratio <= 1.02 * OPTIMUM


def test_what_turns_up_late_is_measured_as_if_it_had_been_a_seed() -> None:
    """It comes once three plans are measured, and what is waited for in the end comes after the limit of time."""
    late = {**SEEDS["uniform fp32"], NAMES[0]: INT8, NAMES[3]: INT8, NAMES[7]: INT8}
    seen: list[Assignment] = []
    asked: list[bool] = []

    def turning_up(wait: bool) -> dict[str, Assignment]:
        asked.append(wait)
        return {"builder's choice": late} if len(seen) == 3 else {}

    def how(plan: Assignment, wanted: Wanted) -> Measurement:
        seen.append(plan)
        assert wanted.everything or dict(plan) != late
        return measure(plan, wanted)

    found = searched(ledger(), how, late=turning_up, limit=8)

    assert dict(seen[3]) == late
    assert [t.origin for t in found.trials if dict(t.plan) == late] == ["builder's choice"]
    assert asked[-1], "in the end it is waited for"


def test_a_plan_that_would_not_run_as_asked_is_measured_as_it_ran() -> None:
    refused, unit = SEEDS["first half int8"], NAMES[1]

    def how(plan: Assignment, wanted: Wanted) -> Measurement:
        if dict(plan) == dict(refused):
            raise NotHonouredError("it would not run as asked", [unit], {unit: FP32})
        return measure(plan, wanted)

    found = searched(ledger(), how)

    assert {**refused, unit: FP32} in [dict(t.plan) for t in found.trials if t.origin == "as it ran"]
