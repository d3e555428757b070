"""Fifth stage: the search for the best plan within the bounds, on the selection samples.

It leaves the study, study.json (what the study is about) and search.json (what workers need to know of it).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from autoprec.backends.slow_builds import BuildsUnderLimit
from autoprec.errors import OutOfTimeError
from autoprec.files.computed_by import computed_by
from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable
from autoprec.run.answer.blocking import Blocking, find_blocking
from autoprec.run.budget import USUAL_ROUNDS
from autoprec.run.context import Run
from autoprec.run.describe_study import describe_study
from autoprec.run.engines import PlanEngine, timing_feed
from autoprec.run.identity import study_name
from autoprec.run.measure import PlanMeasurer, ahead_of
from autoprec.run.search_description import SearchDescription, settings_record
from autoprec.run.stages.builders_choice import FreeBuild
from autoprec.run.study_description import SCHEMA
from autoprec.run.uniform import compared_plans, last_resort, problem_of, seed_plans
from autoprec.sensitivity.table import Sensitivities
from autoprec.study.goal import Goal
from autoprec.study.ledger.ask_tell import Ledger
from autoprec.study.ledger.patience import patiently
from autoprec.study.ledger.samplers import make_sampler
from autoprec.study.ledger.shown import Shown, show_trials
from autoprec.study.ledger.storages import carry, has_study, same
from autoprec.study.loop import Search
from autoprec.study.outcome import FINALISTS, SearchOutcome
from autoprec.timing.compare import compare


def plan_measurer(
    run: Run, reference: PlanEngine, ranges: RangeTable, unit: Precision = Precision.FP32
) -> PlanMeasurer:
    """What measures the plans of a search, with the goal of the run, in shares of the clock's unit."""

    def out_of_time() -> bool:
        return run.budget.out_of_time(run.budget.least_s(run.task.splits.report.count))

    def cut() -> bool:
        return run.budget.must_end(run.task.splits.report.count)

    return PlanMeasurer(
        run.task,
        run.engines,
        reference,
        ranges,
        _goal(run, reference, unit),
        economy=run.economy,
        out_of_time=out_of_time,
        cut=cut,
    )


def search_plans(
    run: Run,
    measurer: PlanMeasurer,
    sensitivities: Sensitivities,
    prior: Mapping[tuple[str, Precision], float],
    free: FreeBuild | None = None,
) -> SearchOutcome:
    """Find the best plan within the bounds, on the selection samples.

    Args:
        run: the run, its halves dealt.
        measurer: measures the plans, see `plan_measurer`.
        sensitivities: those of the run.
        prior: (unit, precision) -> share of FP32's latency, by profiles.
        free: the build that leaves precisions to the builder; what it runs is measured too.

    Raises:
        BackendError: the runtime cannot run FP32.
        OutOfTimeError: the time limit ended before any plan was measured.
        StorageError: the study cannot be reached.
    """
    task, settings, goal = run.task, run.task.settings, measurer.goal
    limit = f", {run.budget.deadline.left_s:.0f} s left of {settings.timeout_s:g} s" if run.budget.limited else ""
    detail = f"at most {settings.trials} plans on {task.splits.select.count} samples, sampler {settings.sampler}{limit}"
    earlier = computed_by(run.directory.studied, SCHEMA)
    detail += f"; those of earlier runs stay{earlier}" if earlier else ""
    detail += "" if goal.unit is Precision.FP32 else f"; latencies are shares of uniform {goal.unit_text}'s"
    run.clock.begin("search", detail)
    name = study_name(task, sensitivities, goal.unit)
    describe_study(task, measurer.ranges, name, goal, prior).save(run.directory.studied)
    sampler = make_sampler(settings.sampler, problem_of(task.subject, sensitivities), prior, goal, settings.seed)
    if not same(run.location, run.journal) and not has_study(run.location, name):
        carry(run.journal, run.location, name)
    description = _description(run, sensitivities)
    search = Search(
        seed_plans(task.subject, goal.unit),
        Ledger(run.location, name, task.subject.choices, goal, sampler),
        measurer,
        limit=settings.trials,
        out_of_time=lambda: _out_of_time(run, measurer),
        progress=run.progress.trial,
        begun=lambda: description.save(run.directory.search),
        last_resort=last_resort(task.subject, goal.unit),
        ahead=ahead_of(run.engines, measurer.ranges),
        late=_nothing_late if free is None else free.plans,
    )
    try:
        found = search.run()
    finally:
        if run.directory.search.is_file():
            description.over(search.stopped).save(run.directory.search)
    _keep_study(run, name, goal, found)
    return found if free is None else free.among(found)


def _nothing_late(wait: bool) -> Mapping[str, Assignment]:
    return {}


def _keep_study(run: Run, name: str, goal: Goal, found: SearchOutcome) -> None:
    """Have the run directory hold the whole study, wherever it was kept, and one that people can look at."""
    patiently(run.location, lambda: carry(run.location, run.journal, name))
    task = run.task
    shown = Shown(Path(task.subject.model.path).stem, task.metric.name, goal.unit_text)
    for place in dict.fromkeys((run.journal, run.location)):
        patiently(place, partial(show_trials, place, name, shown, task.subject.choices, found.trials))


def find_blocking_units(
    run: Run, measurer: PlanMeasurer, sensitivities: Sensitivities, found: SearchOutcome
) -> Blocking | None:
    """Which units keep even the best plan over the bound on the drop; None where that bound was met."""
    bound, best = measurer.goal.max_drop, found.best
    if found.feasible or best.measured.judged_drop <= bound:
        return None
    run.clock.begin("blocking", f"which units keep the drop above {bound:g}")
    losses = {unit: sensitivities.entries.get((unit, precision)) for unit, precision in best.plan.items()}
    noises = {unit: entry.noise for unit, entry in losses.items() if entry is not None}
    given = run.task.subject.partition.as_given()

    def late() -> bool:
        return _out_of_time(run, measurer)

    try:
        return find_blocking(best.plan, noises, measurer.drop_of, bound, late, given=given)
    except OutOfTimeError:
        run.budget.leave_out("which units keep the drop above the bound was not found out")
        return None


def _goal(run: Run, reference: PlanEngine, unit: Precision) -> Goal:
    """What is minimised, and the bounds; a bound in milliseconds becomes a share of the clock's unit."""
    settings = run.task.settings
    share = settings.max_latency
    if settings.max_latency_ms is not None:
        feed = timing_feed(run.task, run.task.splits.select)
        timing = compare({"unit": reference.timed}, feed, rounds=(USUAL_ROUNDS, USUAL_ROUNDS))
        share = settings.max_latency_ms / timing["unit"].median_ms
    return Goal(settings.aim, settings.max_drop, math.inf if share is None else share, unit)


def _out_of_time(run: Run, measurer: PlanMeasurer) -> bool:
    """Whether one more plan would take the time that confirming and reporting need."""
    budget, uniform = run.budget, len(compared_plans(run.task.subject, measurer.goal.unit))
    cancels = isinstance(run.backend, BuildsUnderLimit)
    budget.learn(measurer.spent, keeps_engines=run.backend.keeps_engines, cancels=cancels)
    reserve_s = budget.reserve_s(FINALISTS + uniform, uniform + 1, run.task.splits.report.count) + budget.rebuild_s
    budget.ending_reserve_s = reserve_s + budget.plan_s
    return budget.out_of_time(reserve_s)


def _description(run: Run, sensitivities: Sensitivities) -> SearchDescription:
    """What workers need to know of the search."""
    return SearchDescription(
        storage=None if same(run.location, run.journal) else run.location.public,
        settings=settings_record(run.task.settings),
        threads=run.backend.threads,
        targets=run.backend.targets,
        halves=run.halves,
        profile=sensitivities.fingerprint,
    )
