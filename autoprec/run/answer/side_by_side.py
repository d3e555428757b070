"""The plans that may be the answer, built anew and timed in shared rounds."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

from autoprec.backends.protocol import Engine
from autoprec.backends.slow_builds import BuildsUnderLimit
from autoprec.errors import BackendError, OutOfTimeError
from autoprec.lowering.builders_choice import BuildersChoice
from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable
from autoprec.run.budget import CONFIRM_TURN_MS, LEAST_ROUNDS, MOST_ROUNDS, USUAL_ROUNDS
from autoprec.run.context import Run
from autoprec.run.engines import PlanEngine, timing_feed
from autoprec.run.identity import builds_quickly
from autoprec.run.uniform import FP32_PLAN, compared_plans, uniform_plans, unit_name
from autoprec.study.outcome import SearchOutcome
from autoprec.study.trial import Trial
from autoprec.timing.compare import Timing, compare


@dataclass(frozen=True, slots=True, kw_only=True)
class SideBySide:
    """What shared rounds showed of the plans that may be the answer.

    Attributes:
        trials: name -> what the search measured of a plan that may be the answer, the best first.
        timings: name -> the latency in the shared rounds, of these plans, of the clock's unit and of other uniform
            plans.
        sizes: name -> bytes, for the same plans.
        uniform: name -> the plan of every uniform plan, whether it was timed or not.
        unit: the name of the plan that is the clock's unit.
    """

    trials: Mapping[str, Trial]
    timings: Mapping[str, Timing]
    sizes: Mapping[str, int]
    uniform: Mapping[str, Assignment]
    unit: str = FP32_PLAN

    @property
    def unit_timing(self) -> Timing:
        """The latency of the clock's unit in the same rounds."""
        return self.timings[self.unit]

    def ms(self, name: str) -> float:
        """The milliseconds of a plan."""
        return self.timings[name].median_ms

    def ratio(self, name: str) -> float:
        """The latency of a plan over the clock's unit."""
        return self.timings[name].ratio_to(self.unit_timing).estimate

    def pace(self, name: str) -> float:
        """What plans are ordered by: milliseconds, or where other programs used the CPUs the share that is told.

        That share leaves out what others used, so that an answer is never told to be slower than its uniform rival.
        """
        return self.ratio(name) if any(timing.disturbed for timing in self.timings.values()) else self.ms(name)

    def drop(self, name: str) -> float:
        """The drop of a plan that was compared with the bound, on the selection samples."""
        return self.trials[name].measured.judged_drop

    def is_uniform(self, plan: Assignment) -> bool:
        """Whether a plan is a uniform one."""
        return uniform_name(plan, self.uniform) is not None

    def only(self, names: list[str]) -> SideBySide:
        """The same, with these plans alone as possible answers."""
        return replace(self, trials={name: self.trials[name] for name in names})


def uniform_name(plan: Assignment, uniform: Mapping[str, Assignment]) -> str | None:
    """The name of a uniform plan, None for another plan."""
    return next((name for name, other in uniform.items() if dict(other) == dict(plan)), None)


def finalists(found: SearchOutcome, uniform: Mapping[str, Assignment]) -> dict[str, Trial]:
    """Name -> trial of the plans that may be the answer, the best first; the nearest where none meets the bounds."""
    trials = found.finalists or (found.best,)
    return {_finalist_name(trial, uniform): trial for trial in trials}


def _finalist_name(trial: Trial, uniform: Mapping[str, Assignment]) -> str:
    if isinstance(trial.plan, BuildersChoice):  # another engine than that of a uniform plan with the same precisions
        return trial.origin
    return uniform_name(trial.plan, uniform) or f"trial {trial.number}"


def plans_to_confirm(run: Run, found: SearchOutcome, unit: Precision = Precision.FP32) -> dict[str, Assignment]:
    """What is timed side by side: the clock's unit, the uniform plans and the finalists, as many as there is time for.

    The unit, the best finalist, and the uniform plans and the builder's own choice among the finalists are timed in any
    case: without them there would be no answer that is certainly at least as good as these.
    """
    uniform, compared = uniform_plans(run.task.subject), compared_plans(run.task.subject, unit)
    trials = finalists(found, uniform)
    best = next(iter(trials))
    always = [name for name, trial in trials.items() if name in uniform or isinstance(trial.plan, BuildersChoice)]
    needed = dict.fromkeys([unit_name(unit), best, *always])
    known = [dict(trial.plan) for trial in found.trials]
    others = [name for name, plan in uniform.items() if dict(plan) not in known and name not in needed]
    beyond = others[max(run.task.settings.trials - len(known), 0) :]  # They would be more plans than were asked for.
    wanted = [name for name in dict.fromkeys([*needed, *trials, *compared]) if name not in beyond]
    names = list(wanted)
    while len(names) > len(needed) and not _time_to_confirm(run, names, uniform):
        names.pop()
    if len(names) < len(wanted):
        run.budget.leave_out(f"{len(wanted) - len(names)} of {len(wanted)} plans were not confirmed")
    return {name: uniform[name] if name in uniform else trials[name].plan for name in names}


def open_again(
    run: Run, plans: Mapping[str, Assignment], reference: PlanEngine, ranges: RangeTable, stack: ExitStack
) -> dict[str, PlanEngine]:
    """The engines of these plans; a uniform plan that the runtime refuses is left out, as it was in the search.

    FP32 is the reference itself, where that is what it times.

    Raises:
        BackendError: the runtime refuses a plan now that it has run before.
    """
    uniform, engines = uniform_plans(run.task.subject), {}
    for name, plan in plans.items():
        try:
            same = name == FP32_PLAN and reference.timed is reference.computing
            engines[name] = reference if same else run.engines.open(plan, ranges, stack)
        except (BackendError, OutOfTimeError):
            if name not in uniform:
                raise
    return engines


def open_as_usual(
    run: Run, plans: Mapping[str, Assignment], reference: PlanEngine, ranges: RangeTable, stack: ExitStack
) -> dict[str, PlanEngine]:
    """The engines of these plans, built by usual settings where the search built quickly and there is time for that.

    Raises:
        BackendError: the runtime refuses a plan now that it has run before.
    """
    backend, budget = run.backend, run.budget
    quick = isinstance(backend, BuildsUnderLimit) and builds_quickly(backend, run.task.settings.timeout_s)
    if not (quick and isinstance(backend, BuildsUnderLimit)):
        return open_again(run, plans, reference, ranges, stack)
    if budget.rebuild_s:
        run.engines.settle(cancel=False)  # a process that is ended takes long to start again
        judged_s = budget.confirming_s(len(plans), min(3, len(plans)), run.task.splits.report.count, LEAST_ROUNDS)
        budget.ending_reserve_s = judged_s
        backend.limit_builds(lambda: budget.build_left_s)
        for plan in plans.values():
            run.engines.ahead(plan, ranges)
        rebuilt = _rebuilt(run, plans, ranges, stack)
        if rebuilt is not None:
            return rebuilt
        run.engines.settle()
        backend.limit_builds(lambda: budget.build_left_s, quickly=True)
    free = any(isinstance(plan, BuildersChoice) for plan in plans.values())
    which = "engines but the builder's own choice" if free else "engines"
    budget.leave_out(
        f"{which} were built by quick settings of the builder; by usual ones the order of plans may differ"
    )
    return open_again(run, plans, reference, ranges, stack)


def _rebuilt(
    run: Run, plans: Mapping[str, Assignment], ranges: RangeTable, stack: ExitStack
) -> dict[str, PlanEngine] | None:
    """The engines by usual settings; None where one that no comparison can do without was not built in time.

    These are the uniform plans and the first of the others. Engines of both kinds of settings cannot be compared.
    """
    uniform = uniform_plans(run.task.subject)
    needed = [*(name for name in plans if name in uniform), *[name for name in plans if name not in uniform][:1]]
    engines = {}
    with ExitStack() as usual:
        for name, plan in plans.items():
            try:
                engines[name] = run.engines.open(plan, ranges, usual)
            except (BackendError, OutOfTimeError):  # the engine that the search built is there
                if name in needed:
                    return None
        stack.enter_context(usual.pop_all())
    if len(engines) < len(plans):
        run.budget.leave_out(f"{len(plans) - len(engines)} of {len(plans)} finalists were not built by usual settings")
    return engines


def time_side_by_side(
    run: Run, engines: Mapping[str, PlanEngine], found: SearchOutcome, unit: Precision = Precision.FP32
) -> SideBySide:
    """Time these engines in shared rounds, while nothing is built."""
    run.engines.settle()
    uniform = uniform_plans(run.task.subject)
    return SideBySide(
        trials={name: trial for name, trial in finalists(found, uniform).items() if name in engines},
        timings=shared_rounds(run, {name: engine.timed for name, engine in engines.items()}),
        sizes={name: engine.size for name, engine in engines.items()},
        uniform=uniform,
        unit=unit_name(unit),
    )


def shared_rounds(run: Run, engines: Mapping[str, Engine]) -> dict[str, Timing]:
    """Time all engines round by round, until their ratios are known well or what comes after needs the time."""
    budget, report = run.budget, run.task.splits.report
    judging_s = budget.confirming_s(0, min(3, len(engines)), report.count, 0)

    def out_of_time() -> bool:
        return budget.deadline.left_s < judging_s

    most = MOST_ROUNDS if not budget.deadline.spent(0.8) else USUAL_ROUNDS
    timings = compare(
        engines,
        timing_feed(run.task, report),
        rounds=(USUAL_ROUNDS, most),
        turn_ms=CONFIRM_TURN_MS,
        out_of_time=out_of_time,
    )
    rounds = len(next(iter(timings.values())).rounds_ms)
    if rounds < USUAL_ROUNDS:
        budget.leave_out(f"finalists were timed in {rounds} rounds, not {USUAL_ROUNDS}")
    return timings


def _time_to_confirm(run: Run, names: list[str], uniform: Mapping[str, Assignment]) -> bool:
    judged = len([name for name in names if name in uniform]) + 1
    needed_s = run.budget.confirming_s(len(names), judged, run.task.splits.report.count, LEAST_ROUNDS)
    return run.budget.deadline.left_s >= needed_s
