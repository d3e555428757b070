"""The engine of the builder's own choice: it is built beside the search, and judged like the engine of every plan.

What it ran is offered to the search as a plan. Where pairs and types cannot say the same, the engine itself may be the
answer, so that no answer is slower than what the builder finds without us.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from autoprec.backends.protocol import Backend
from autoprec.backends.slow_builds import BuildsAhead, ChoosesPrecisions
from autoprec.calibrate.observe import largest_magnitudes
from autoprec.errors import BackendError
from autoprec.lowering.builders_choice import BuildersChoice, float_values
from autoprec.lowering.repaired import repairs_in
from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.ranges.bins import Range
from autoprec.ranges.table import RangeTable
from autoprec.run.context import Run
from autoprec.run.identity import builds_quickly
from autoprec.run.measure import PlanMeasurer
from autoprec.run.stages.builds import keep_time_to_rebuild
from autoprec.run.stages.reference import clock_unit
from autoprec.run.task import Subject, Task
from autoprec.run.uniform import uniform_plans, unit_name
from autoprec.study.goal import TIMES, Goal
from autoprec.study.origin import Origin
from autoprec.study.outcome import SearchOutcome
from autoprec.study.participant import Wanted
from autoprec.study.trial import Trial

_FACTOR, _SHARE = 4.0, 0.5
"""Where the search has to begin its build, it takes about this many times the first one of the run (ResNet-56 on an
H200: 39 s and 9 s, alone), and may take this share of the search's time, beside which it goes on."""
_SAMPLES = 8  # enough for values that no plan quantises: most of them vanish in fusions
_NO_NUMBER = -1  # it is no trial of the study


class FreeBuild:
    """The build of one run that leaves precisions to the builder.

    Args:
        run: the run.
        measurer: measures plans as the search does.
        choice: the ranges, and the precisions of the plan that the builder starts from.

    Attributes:
        trial: what was measured of its engine; None before, and where it was not built.
    """

    def __init__(self, run: Run, measurer: PlanMeasurer, choice: BuildersChoice) -> None:
        self._run, self._measurer, self._choice = run, measurer, choice
        self.trial: Trial | None = None
        self._over = False

    def plans(self, wait: bool) -> Mapping[str, Assignment]:
        """Once the engine is there, measure it, and return the plan that says what it ran; nothing before and after.

        Args:
            wait: whether to wait for the engine.
        """
        engines, ranges = self._run.engines, self._choice.ranges
        if self._over or not (wait or engines.is_built(self._choice, ranges)):
            return {}
        self._over = True
        try:
            found = engines.verified(self._choice, ranges)
            ran = {**self._choice, **{unit.unit: unit.ran for unit in found.units if unit.ran is not None}}
            choice = BuildersChoice(ran, ranges, self._choice.pinned)
            measured = self._measurer(choice, Wanted(math.inf, everything=True))
        except BackendError as error:
            self._run.budget.leave_out(f"precisions could not be left to the builder: {error}")
            return {}
        keep_time_to_rebuild(self._run, self._measurer.goal.unit, self._measurer.ranges, kernels_known=True)
        goal = self._measurer.goal
        self.trial = Trial(
            number=_NO_NUMBER,
            origin=Origin.BUILDER.value,
            plan=choice,
            measured=measured,
            feasible=goal.accepts(measured.judged_drop, measured.latency_ratio),
        )
        choices = self._run.task.subject.choices  # the builder knows nothing of the search space
        return {Origin.BUILDER.value: {n: p if p in choices[n] else self._choice[n] for n, p in ran.items()}}

    def among(self, found: SearchOutcome) -> SearchOutcome:
        """The outcome of the search with this engine among its finalists, if it meets the bounds."""
        return found if self.trial is None else with_finalist(found, self.trial, self._measurer.goal)


def with_finalist(found: SearchOutcome, trial: Trial, goal: Goal) -> SearchOutcome:
    """The outcome with one more plan that may be the answer, if it meets the bounds."""
    if not trial.feasible:
        return found
    finalists = sorted((*found.finalists, trial), key=lambda t: t.cost(goal))
    return replace(found, finalists=tuple(finalists), best=finalists[0], feasible=True)


def begin_free_build(run: Run, ranges: RangeTable) -> BuildersChoice | None:
    """Begin early to build what the builder chooses by itself, where a process of its own can do it.

    It takes longer than the uniform plans together, and often decides what the answer is. So it is begun as soon as
    there are ranges, and goes on beside all other builds. They take up to four times as long beside it, so that a run
    with little time begins it later, if at all.

    Returns:
        What is left to the builder; None where it cannot or must not choose, or the search has to begin it.
    """
    unit, settings = clock_unit(run.task), run.task.settings
    if unit is Precision.FP32 or run.engines.at_once <= 2 or builds_quickly(run.backend, settings.timeout_s):
        return None
    if not (_is_able(run) and settings.aim in TIMES):
        return None
    plan = uniform_plans(run.task.subject)[unit_name(unit)]
    choice = choice_of_builder(run.task, run.backend, ranges, plan, run.budget.run_samples)
    run.engines.ahead(choice, choice.ranges)
    return choice


def free_build(run: Run, measurer: PlanMeasurer, choice: BuildersChoice | None) -> FreeBuild | None:
    """The build of what the builder chooses by itself; None where it cannot, must not, or has no time to choose.

    Args:
        run: the run.
        measurer: measures plans as the search does.
        choice: what was begun early; without it the build is begun now, if there is time for it.
    """
    if not (_is_able(run) and measurer.goal.timed):
        return None
    if choice is None:
        unit = uniform_plans(run.task.subject)[unit_name(measurer.goal.unit)]
        first_s, left_s = run.engines.builder_s(unit, measurer.ranges), run.budget.deadline.left_s
        if run.budget.limited and _FACTOR * first_s > _SHARE * (left_s - run.budget.rebuild_s):
            run.budget.leave_out("precisions were not left to the builder to compare with")
            return None
        choice = choice_of_builder(run.task, run.backend, measurer.ranges, unit, run.budget.run_samples)
        run.engines.ahead(choice, choice.ranges)
    return FreeBuild(run, measurer, choice)


def _is_able(run: Run) -> bool:
    backend = run.backend
    able = isinstance(backend, ChoosesPrecisions) and backend.chooses_precisions and isinstance(backend, BuildsAhead)
    # With repairs the builder would be given the model before them, to which the ranges do not belong.
    return able and _may_choose(run.task.subject) and not repairs_in(run.task.subject.model)


def _may_choose(subject: Subject) -> bool:
    """Whether the space has all that the builder chooses between, and what the user fixed can be told to it."""
    offered = {precision for options in subject.choices.values() for precision in options}
    pinned = {subject.pinned[name] for name in subject.pinned}
    if any(p.is_quantized for p in pinned) or (pinned and subject.lowerer.scheme.strongly_typed):
        return False
    return {Precision.FP16, Precision.INT8} <= offered and not subject.partition.sources


def choice_of_builder(
    task: Task, backend: Backend, ranges: RangeTable, plan: Assignment, most_samples: int | None = None
) -> BuildersChoice:
    """What is left to the builder: a plan to begin with, and ranges also of values that no plan of ours quantises.

    Args:
        task: what is tuned.
        backend: computes these values in exact arithmetic.
        ranges: the calibrated ranges.
        plan: unit -> the precision that it is said to have until the engine is there.
        most_samples: the most samples to look at, None for as many as are needed.
    """
    lowerer, data = task.subject.lowerer, task.splits.calibrate
    names = [name for name in float_values(lowerer.model.ir.graph) if name not in ranges.clipped]
    count = min(data.count, _SAMPLES, most_samples or _SAMPLES)
    largest = largest_magnitudes(lowerer, names, backend, data.subset(range(count)))
    spans = {name: Range(-value, value) for name, value in largest.items()}
    every = replace(ranges, clipped={**ranges.clipped, **spans}, extent={**ranges.extent, **spans})
    return BuildersChoice(plan, every, task.subject.pinned)
