"""Each stage alone: it needs the context and stored inputs, and no stage before it in the same process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from autoprec.data.splits import dealt_as
from autoprec.ranges.table import RangeTable, load_ranges
from autoprec.recipes.ranging import Rounding
from autoprec.run.answer.confirm import confirm
from autoprec.run.context import Run, prepare_run
from autoprec.run.directory import RunDirectory
from autoprec.run.measure import PlanMeasurer
from autoprec.run.search_description import read_search_description
from autoprec.run.settings import Settings
from autoprec.run.stages.halves import deal_halves
from autoprec.run.stages.latency import profile_uniform_plans
from autoprec.run.stages.plan_search import find_blocking_units, plan_measurer, search_plans
from autoprec.run.stages.ranges import find_ranges
from autoprec.run.stages.sensitivity import measure_sensitivities
from autoprec.run.study_description import read_study_description
from autoprec.run.task import prepare_task
from autoprec.run.tune import tune
from autoprec.run.uniform import FP32_PLAN, uniform_plans
from autoprec.sensitivity.table import load_sensitivities
from autoprec.testing import FakeBackend, tiny_data, tiny_model

MAX_DROP = 0.02


@pytest.fixture(name="finished", scope="module")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that has ended, and of its model."""
    folder = tmp_path_factory.mktemp("stages")
    tiny_model(folder)
    (folder / "run").mkdir()
    tune(begun(folder))
    return folder


def begun(folder: Path, max_drop: float = MAX_DROP) -> Run:
    [model] = folder.glob("*.onnx")
    settings = Settings(model=model, evaluate=tiny_data(model, 64), metric="sqnr", max_drop=max_drop, trials=6)
    return prepare_run(prepare_task(settings, FakeBackend()), RunDirectory(folder / "run"))


@pytest.fixture(name="dealt")
def _dealt(finished: Path) -> Run:
    """A run whose halves are those that the finished run stored."""
    run = begun(finished)
    letters = read_search_description(run.directory.search).halves
    return replace(run, task=replace(run.task, splits=dealt_as(run.task.splits, letters)), halves=letters)


@pytest.fixture(name="measurer")
def _measurer(dealt: Run) -> Iterator[PlanMeasurer]:
    ranges = load_ranges(dealt.directory.ranges)
    with ExitStack() as stack:
        fp32 = dealt.engines.open(uniform_plans(dealt.task.subject)[FP32_PLAN], ranges, stack)
        yield plan_measurer(dealt, fp32, ranges)


def test_dealing_gives_the_stored_halves(finished: Path, dealt: Run) -> None:
    run = deal_halves(begun(finished))

    assert run.halves == dealt.halves
    assert run.task.splits.select.fingerprint() == dealt.task.splits.select.fingerprint()


def test_ranges_are_found_alone(dealt: Run, tmp_path: Path) -> None:
    fresh = replace(dealt, directory=RunDirectory(tmp_path))

    assert find_ranges(fresh).to_record() == load_ranges(dealt.directory.ranges).to_record()
    assert [path.name for path in tmp_path.iterdir()] == ["ranges.json"]


def test_sensitivities_are_measured_alone_from_stored_ranges(dealt: Run, tmp_path: Path) -> None:
    fresh = replace(dealt, directory=RunDirectory(tmp_path))
    measured = measure_sensitivities(fresh, load_ranges(dealt.directory.ranges))

    assert measured.entries == load_sensitivities(dealt.directory.profile).entries
    assert [path.name for path in tmp_path.iterdir()] == ["profile.json"]


def test_sensitivities_of_units_that_are_called_otherwise_now_are_measured_anew(dealt: Run, tmp_path: Path) -> None:
    stored, fresh = load_sensitivities(dealt.directory.profile), replace(dealt, directory=RunDirectory(tmp_path))
    replace(stored, entries={(f"old {unit}", p): entry for (unit, p), entry in stored.entries.items()}).save(
        fresh.directory.profile
    )

    assert measure_sensitivities(fresh, load_ranges(dealt.directory.ranges)).entries == stored.entries


def test_uniform_plans_are_profiled_alone_from_stored_ranges(dealt: Run, tmp_path: Path) -> None:
    ranges, fresh = load_ranges(dealt.directory.ranges), replace(dealt, directory=RunDirectory(tmp_path))

    assert profile_uniform_plans(fresh, ranges) == profile_uniform_plans(dealt, ranges)
    assert [path.name for path in tmp_path.iterdir()] == ["latency.json"]


def test_the_search_goes_on_alone_and_the_answer_is_confirmed_alone(dealt: Run, measurer: PlanMeasurer) -> None:
    answer = read_study_description(dealt.directory.studied).answer
    sensitivities = load_sensitivities(dealt.directory.profile)
    prior = profile_uniform_plans(dealt, measurer.ranges)
    found = search_plans(dealt, measurer, sensitivities, prior)

    assert found.feasible
    assert measurer.spent.plans == 0, "all of its plans are stored"
    assert read_study_description(dealt.directory.studied).answer is None, "the search forgets an old answer"

    result = confirm(dealt, measurer, sensitivities, found)

    again = read_study_description(dealt.directory.studied).answer
    assert answer is not None
    assert again is not None
    assert again.plan == answer.plan == result.plan
    assert list(result.time.seconds) == ["start", "latency", "search", "confirmation"]


def test_units_that_block_a_bound_are_found_alone(finished: Path, dealt: Run, measurer: PlanMeasurer) -> None:
    sensitivities = load_sensitivities(dealt.directory.profile)
    found = search_plans(dealt, measurer, sensitivities, profile_uniform_plans(dealt, measurer.ranges))

    assert find_blocking_units(dealt, measurer, sensitivities, found) is None
    int8 = next(trial for trial in found.trials if trial.origin == "uniform int8")
    strict = plan_measurer(
        replace(dealt, task=replace(dealt.task, settings=replace(dealt.task.settings, max_drop=1e-6))),
        measurer.reference,
        measurer.ranges,
    )
    blocking = find_blocking_units(dealt, strict, sensitivities, replace(found, feasible=False, best=int8))

    assert blocking is not None
    assert blocking.units


def test_ranges_are_found_again_where_weights_are_to_be_rounded_otherwise(dealt: Run, tmp_path: Path) -> None:
    def found(rounding: Rounding) -> RangeTable:
        recipe = replace(dealt.task.recipe, rounding=rounding, method="minmax")
        return find_ranges(replace(dealt, directory=RunDirectory(tmp_path), task=replace(dealt.task, recipe=recipe)))

    table = found("gptq-all")
    written = (tmp_path / "ranges.json").stat().st_mtime_ns

    assert table.rounds_8_bits
    assert table.patches
    assert found("gptq-all").fingerprint == table.fingerprint
    assert (tmp_path / "ranges.json").stat().st_mtime_ns == written
    assert found("gptq").readings == found("nearest").readings == {}  # there are no units of 4 bits
