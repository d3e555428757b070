"""What is measured of a plan, and what is left out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import pytest

from autoprec.errors import BackendError
from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.run.budget import Budget, Deadline
from autoprec.run.context import Run, prepare_run
from autoprec.run.directory import RunDirectory
from autoprec.run.engines import timing_feed
from autoprec.run.measure import PlanMeasurer, spread
from autoprec.run.settings import Settings
from autoprec.run.spent import Spent
from autoprec.run.stages.halves import deal_halves
from autoprec.run.stages.ranges import find_ranges
from autoprec.run.task import prepare_task
from autoprec.run.uniform import FP32_PLAN, uniform_plans
from autoprec.study.participant import Wanted
from autoprec.testing import FakeBackend, tiny_data, tiny_model

FULL, QUICK = Wanted(math.inf, everything=True), Wanted(math.inf, everything=False)
SAMPLES = 320


@pytest.fixture(name="run", scope="module")
def _run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("measuring")
    model = tiny_model(folder)
    settings = Settings(
        model=model, evaluate=tiny_data(model, 2 * SAMPLES), metric="kl", calib=tiny_data(model, 8, seed=5)
    )
    (folder / "run").mkdir()
    return deal_halves(prepare_run(prepare_task(settings, FakeBackend()), RunDirectory(folder / "run")))


@pytest.fixture(name="stack")
def _stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def measuring(run: Run, stack: ExitStack, max_drop: float) -> PlanMeasurer:
    from dataclasses import replace

    task = replace(run.task, settings=replace(run.task.settings, max_drop=max_drop))
    ranges = find_ranges(run)
    reference = run.engines.open(uniform_plans(task.subject)[FP32_PLAN], ranges, stack)
    return PlanMeasurer(task, run.engines, reference, ranges)


def int8(run: Run) -> Assignment:
    return uniform_plans(run.task.subject)["uniform int8"]


def test_fp32_is_known_without_measuring(run: Run, stack: ExitStack) -> None:
    one = measuring(run, stack, 0.1)

    measured = one(uniform_plans(run.task.subject)[FP32_PLAN], FULL)
    assert (measured.judged_drop, measured.latency_ratio) == (0.0, 1.0)
    assert one.spent.plans == 0


def test_a_plan_that_is_surely_over_the_bound_is_judged_on_an_eighth_and_not_timed(run: Run, stack: ExitStack) -> None:
    one = measuring(run, stack, 1e-9)
    measured = one(int8(run), QUICK)

    assert measured.samples is not None
    assert SAMPLES / 8 <= measured.samples < SAMPLES / 4
    assert measured.judged_drop > 1e-9
    assert not measured.timed
    assert (one.spent.untimed, one.spent.clock_s) == (1, 0.0)


def test_each_third_plan_over_the_bound_is_timed(run: Run, stack: ExitStack) -> None:
    one = measuring(run, stack, 1e-9)

    assert [one(int8(run), QUICK).timed for _ in range(6)] == [False, False, True, False, False, True]


def test_what_is_wanted_in_full_is_judged_on_all_samples_and_timed(run: Run, stack: ExitStack) -> None:
    measured = measuring(run, stack, 1e-9)(int8(run), FULL)

    assert measured.samples is None
    assert measured.timed


@pytest.mark.parametrize(("rival", "samples"), [(math.inf, None), (0.9, None), (0.01, "quarter")])
def test_a_plan_that_may_be_a_finalist_is_judged_on_all_samples(
    run: Run, stack: ExitStack, rival: float, samples: str | None
) -> None:
    measured = measuring(run, stack, 1e3)(int8(run), Wanted(rival, everything=False))

    assert measured.timed
    assert (measured.samples is None) is (samples is None)


def test_the_verdict_on_a_finalist_is_that_of_all_samples_however_it_was_reached(run: Run, stack: ExitStack) -> None:
    """Stopping early must not colour the drop of what may be the answer."""
    one = measuring(run, stack, 1e3)

    assert one(int8(run), QUICK) == one(int8(run), FULL)


def test_each_look_sees_samples_that_are_spread_evenly() -> None:
    from autoprec.data.dataset import Dataset

    data = Dataset.from_arrays({"x": np.arange(18)})
    [batch] = spread(data).batches(18)

    assert batch.inputs["x"].tolist() == [0, 8, 16, 4, 12, 2, 6, 10, 14, 1, 3, 5, 7, 9, 11, 13, 15, 17]


def test_a_mixed_plan_costs_what_the_clock_says(run: Run, stack: ExitStack) -> None:
    plan = {**int8(run), "conv2": Precision.FP32}
    measured = measuring(run, stack, 1e3)(plan, FULL)

    assert 0 < measured.latency_ratio < 1


def test_where_a_profile_is_cheap_each_timed_plan_has_one(
    run: Run, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, plan = measuring(run, stack, math.inf), int8(run)
    assert one(plan, FULL).layers_ms is None

    monkeypatch.setattr(FakeBackend, "keeps_engines", True)
    feed = timing_feed(run.task, run.task.splits.select)
    layers, own = one(plan, FULL).layers_ms, run.engines.unit_ms(plan, find_ranges(run), feed)

    assert layers is not None
    assert set(layers) == {unit.name for unit in run.task.subject.partition.units}
    assert all(layers[name] >= own[name] for name in layers)
    assert sum(layers.values()) > sum(own.values())  # what converts between units is somebody's


def test_a_plan_whose_profile_fails_is_measured_all_the_same(
    run: Run, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> None:
        raise BackendError("no profile")

    monkeypatch.setattr(FakeBackend, "keeps_engines", True)
    monkeypatch.setattr(FakeBackend, "profile", broken)
    measured = measuring(run, stack, math.inf)(int8(run), FULL)

    assert measured.timed
    assert measured.layers_ms is None


def test_the_quickest_build_is_known_beside_the_sum() -> None:
    spent = Spent()
    for seconds in (3.0, 0.5, 4.0):
        spent.built(seconds)

    assert (spent.build_s, spent.least_build_s) == (7.5, 0.5)


@pytest.mark.parametrize(("kept", "build_s"), [(False, 5.5), (True, 0.75)])
def test_where_engines_are_kept_no_builds_are_reserved_for_confirming(kept: bool, build_s: float) -> None:
    budget = Budget(deadline=Deadline(60.0))
    budget.learn(Spent(build_s=16.5, least_build_s=0.5, plans=3), keeps_engines=kept)

    assert budget.build_s == pytest.approx(build_s)
    assert budget.plan_s == pytest.approx(5.5)
