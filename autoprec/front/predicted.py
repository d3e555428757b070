"""What the models of a run predict under a new bound, and measuring it as the run measured its own plans."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from autoprec.backends.make import make_backend
from autoprec.backends.protocol import Backend
from autoprec.errors import BackendError, RunDirectoryError, UsageError
from autoprec.files.trust import trusted_files
from autoprec.front.points import Cost, Point
from autoprec.front.run_front import RunFront
from autoprec.plan import Assignment
from autoprec.ranges.table import RangeTable
from autoprec.run.begun_with import as_begun
from autoprec.run.compatible import check_machine, check_samples
from autoprec.run.context import Run, prepare_run
from autoprec.run.measure import PlanMeasurer
from autoprec.run.owner import claimed_run
from autoprec.run.progress import Progress
from autoprec.run.repairs_record import repairs_of, with_repairs
from autoprec.run.settings import DataLike, Settings
from autoprec.run.stages.halves import deal_halves
from autoprec.run.stages.ranges import find_ranges
from autoprec.run.stages.reference import build_like_the_run, open_reference
from autoprec.run.task import Task, prepare_task
from autoprec.run.trusted import trusted_settings
from autoprec.study.goal import Goal, Objective
from autoprec.study.guide.proposals import PredictedPlan
from autoprec.study.guide.proposer import Proposer
from autoprec.study.guide.solve import Problem
from autoprec.study.ledger.ask_tell import Ledger
from autoprec.study.ledger.asked import Asked
from autoprec.study.ledger.samplers import make_sampler
from autoprec.study.origin import Origin
from autoprec.study.participant import Wanted, measure_asked
from autoprec.study.trial import Trial


def asked_goal(
    run: RunFront,
    max_drop: float | None = None,
    objective: Cost | None = None,
    max_ratio: float | None = None,
    max_ms: float | None = None,
) -> Goal:
    """What a question to `RunFront.within` or `RunFront.fast_enough` minimises, and its bounds."""
    goal = run.studied.goal
    if max_ratio is not None or max_ms is not None:
        return Goal("accuracy", max_latency=run.latency_limit(max_ratio, max_ms)[0], unit=goal.unit)
    if max_drop is None and objective is None:
        return goal
    wanted: Objective = objective or ("size" if goal.objective == "size" else "latency")
    return Goal(wanted, goal.max_drop if max_drop is None else max_drop, unit=goal.unit)


def predicted_plans(run: RunFront, goal: Goal) -> list[PredictedPlan]:
    """Plans that nobody measured and that the run's models predict to be better than every measured one.

    The models are fitted to all measured plans and solved again, which takes seconds; nothing is built. The list is
    empty where nothing is predicted to be better, where the run had no time to measure the sensitivities that models
    need, or where it is of a version that did not store what else they need.
    """
    studied = run.studied
    losses = {(u, p): noise for u, row in run.noises.items() for p, noise in row.items()}
    if not studied.prior or not losses:
        return []
    problem = Problem(run.partition, studied.choices, losses, studied.carrier)
    return Proposer(problem, studied.shares, goal, seed=0).better_plans([_sized(point) for point in run.points])


def _sized(point: Point) -> Trial:
    """The trial with its size known, and without what was predicted of it by models of fewer trials."""
    return replace(point.trial, measured=replace(point.trial.measured, bytes=point.size), predicted=None)


def measure_predicted(
    run: RunFront,
    predicted: Sequence[PredictedPlan],
    *,
    calib: DataLike | None = None,
    eval: DataLike | None = None,
    trust: str | Path | Sequence[str | Path] = (),
    backend: Backend | None = None,
    progress: Progress | None = None,
) -> list[Trial]:
    """Measure plans on the run's selection samples and by its clock, and add them to its study.

    Args:
        run: the run, whose stored ranges are used.
        predicted: the plans.
        calib: the calibration data, where the run's was in memory or has moved.
        eval: the evaluation data, likewise.
        trust: the run directory, or its study.json, if that may name functions and paths anywhere.
        backend: the runtime, where the run's has no name.
        progress: told how far the measurement is.

    Returns:
        The new trials; those that the runtime refused are missing.

    Raises:
        DataError: the data is not that of the run.
        MetricError: the metric is not that of the run.
        BackendError: the machine is not of the kind of the run's.
        UsageError: the run has nothing to measure.
        RunDirectoryError: the run does not say how its plans were measured, or another process works in it.
    """
    task = _task(run, {"calib": calib, "evaluate": eval}, trusted_files(trust), backend)
    with claimed_run(run.directory, run.model, task.settings):
        again = deal_halves(prepare_run(task, run.directory, progress))
        _refuse_others(run, again.task)
        ranges = find_ranges(again)
        problem = Problem(run.partition, run.studied.choices, {}, run.studied.carrier)
        sampler = make_sampler("random", problem, {}, run.studied.goal, task.settings.seed)
        limit_s = run.studied.asked.get("timeout_s")
        ledger = Ledger(run.directory.study, run.studied.study, run.studied.choices, run.studied.goal, sampler)
        return _measure(
            again, {f"{Origin.PREDICTED.value}: {p.origin}": p.plan for p in predicted}, ledger, ranges, limit_s
        )


def _measure(
    run: Run, plans: Mapping[str, Assignment], ledger: Ledger, ranges: RangeTable, limit_s: float | None
) -> list[Trial]:
    """Measure these plans in full, also where a search would stop early; `limit_s` is the limit that the run had."""
    task = run.task
    found: list[Trial] = []
    run.progress.stage("measuring", f"{len(plans)} plans on {task.splits.select.count} samples")
    with ExitStack() as stack:
        build_like_the_run(task, limit_s)
        reference = open_reference(run.engines, task, ledger.goal.unit, ranges, stack)
        goal = Goal(max_drop=task.settings.max_drop, unit=ledger.goal.unit)
        measuring = PlanMeasurer(task, run.engines, reference, ranges, goal)
        ledger.enqueue(plans)
        while ledger.queue().waiting:
            asked = ledger.ask(0)  # nothing but what waits
            if asked is None:
                continue
            measure = partial(measuring, asked.plan, Wanted(math.inf, everything=True))
            trial = measure_asked(ledger, asked, measure, partial(_refuse, ledger, asked))
            if trial is not None:
                found.append(trial)
                run.progress.trial(trial)
    run.progress.stage("", "")
    return found


def _refuse(ledger: Ledger, asked: Asked, error: BackendError) -> None:
    ledger.fail(asked, str(error))


def _refuse_others(run: RunFront, task: Task) -> None:
    """Figures of other data or of another machine cannot be compared with those of the run."""
    if run.ranges is None:
        raise UsageError("no unit of the run may be quantised, so no plan can be predicted to be better")
    check_samples(run.studied, task, run.ranges)
    check_machine(run.studied.machine, task.backend.describe(), run.directory.root)


def _task(
    run: RunFront, data: Mapping[str, DataLike | None], trusted: tuple[str | Path, ...], backend: Backend | None
) -> Task:
    studied, asked = run.studied, run.studied.asked
    if not asked:
        raise RunDirectoryError(
            f"{run.directory.studied} does not say how plans were measured, as an older autoprec made it; run "
            f"`autoprec tune` with the same options and --out {run.directory.root}"
        )
    mine = {name: source for name, source in data.items() if source is not None}
    asked = {**trusted_settings(run.directory.studied, asked, set(mine), trusted), **mine}
    given = {name: asked[name] for name in ("calib", "evaluate", "metric")}
    _refuse_memory(asked, given)
    settings = Settings(
        model=run.model.path,
        **given,
        direction=asked["direction"],
        decode=asked.get("decode"),
        labels=asked.get("labels"),
        max_drop=studied.max_drop,
        space=asked["space"],
        recipe=asked["recipe"],
        pins=tuple(asked["pins"]),
        batch=int(asked["batch"]),
        situations=tuple(asked.get("situations", ())),
        counted=asked.get("counted"),
        seed=int(asked["seed"]),
        confidence=studied.confidence,
        objective="throughput" if studied.objective == "throughput" else None,
    )
    runtime = make_backend(backend or studied.backend, int(asked["threads"]), tuple(asked["targets"]))
    return with_repairs(as_begun(prepare_task(settings, runtime), studied), repairs_of(run.directory))


def _refuse_memory(asked: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    options = {"calib": "--calib", "evaluate": "--eval"}
    for name in asked["memory"]:
        if given[name] is None and name in options:
            raise UsageError(
                f"the run's data was in the memory of a Python program; store it in a file and give it by "
                f"{options[name]}"
            )
        if given[name] is None:
            raise UsageError("the run's metric was a function of a Python program; call autoprec.search again instead")
