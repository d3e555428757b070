"""Last stage: the finalists are built anew and timed side by side, and the answer is judged on held-out samples.

It completes study.json with the answer.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace

from autoprec.lowering.builders_choice import BuildersChoice
from autoprec.plan import Assignment
from autoprec.ranges.table import RangeTable
from autoprec.run.answer.as_written import written_as_it_ran
from autoprec.run.answer.blocking import Blocking
from autoprec.run.answer.candidate import Candidate
from autoprec.run.answer.choose import choose
from autoprec.run.answer.held_out import (
    as_it_computes,
    held_out_evaluator,
    held_out_losses,
    in_exact_arithmetic,
    judge_candidates,
)
from autoprec.run.answer.luck import selection_bias_of, shared_noise, without_lucky
from autoprec.run.answer.result import TuneResult
from autoprec.run.answer.side_by_side import SideBySide, open_as_usual, plans_to_confirm, time_side_by_side
from autoprec.run.answer.situations import timed_otherwise
from autoprec.run.context import Run
from autoprec.run.measure import PlanMeasurer
from autoprec.run.settings import Settings
from autoprec.run.study_description import read_study_description
from autoprec.sensitivity.table import Sensitivities
from autoprec.study.goal import Goal
from autoprec.study.outcome import SearchOutcome

_JUDGED = 3  # FP32, the answer and its best uniform rival


def confirm(
    run: Run,
    measurer: PlanMeasurer,
    sensitivities: Sensitivities,
    found: SearchOutcome,
    blocking: Blocking | None = None,
) -> TuneResult:
    """Measure the finalists again, choose the answer, and judge it on samples that chose nothing.

    Args:
        run: the run.
        measurer: what measured the plans of the search; says the goal, the ranges, and the engine of the clock's unit.
        sensitivities: those of the run.
        found: the search.
        blocking: which units keep every plan over the bound, where the search met none.

    Raises:
        BackendError: the runtime refuses a finalist now that it has run before.
    """
    reference, ranges, goal = measurer.reference, measurer.ranges, measurer.goal
    with ExitStack() as stack:
        engines = open_as_usual(run, _begin(run, found, goal), reference, ranges, stack)
        run = _with_affordable_samples(run)
        side = time_side_by_side(run, engines, found, goal.unit)
        chosen, found, set_aside = choose_answer(run.task.settings, side, goal, found)
        evaluator = held_out_evaluator(run, reference)
        judged = judge_candidates(run, evaluator, engines, side, chosen)
        chosen, judged = written_as_it_ran(run, evaluator, engines, judged, chosen=chosen, ranges=ranges)
        candidates = timed_otherwise(run, judged, ranges)
        simulated = in_exact_arithmetic(run, evaluator, candidates[chosen], ranges)
        candidates[chosen] = answer = as_it_computes(run, evaluator, candidates[chosen], simulated)
        found = replace(found, feasible=found.feasible and answer.outcome.finite)
    shared = shared_noise(held_out_losses(evaluator, candidates))
    read_study_description(run.directory.studied).answered(answer, candidates[side.unit]).save(run.directory.studied)
    run.clock.end()
    return TuneResult(
        task=run.task,
        ranges=_ranges_of(answer, ranges),
        profile=sensitivities,
        found=found,
        goal=goal,
        blocking=blocking,
        chosen=chosen,
        candidates=candidates,
        reference_scores=evaluator.reference_scores,
        reference_rows=evaluator.reference_rows,
        verification=run.engines.verified(answer.plan, ranges),
        simulated=simulated,
        bias=selection_bias_of(found, answer, side, run.task.settings, shared),
        set_aside=set_aside,
        time=run.time_use(measurer.spent),
    )


def _begin(run: Run, found: SearchOutcome, goal: Goal) -> dict[str, Assignment]:
    """Begin the stage; returns the plans that are timed side by side."""
    plans, fresh = plans_to_confirm(run, found, goal.unit), run.task.splits.report.count
    run.clock.begin("confirmation", f"{len(plans)} plans timed in turns, then scored on {fresh} held-out samples")
    return plans


def _ranges_of(answer: Candidate, ranges: RangeTable) -> RangeTable:
    """The ranges that the answer was made with: those of the run, and for the builder's choice those of all values."""
    return answer.plan.ranges if isinstance(answer.plan, BuildersChoice) else ranges


def _with_affordable_samples(run: Run) -> Run:
    """The same run, with fewer held-out samples where the machine became too slow to judge plans on all of them."""
    report = run.task.splits.report
    count = run.budget.affordable(_JUDGED, _JUDGED, report.count)
    if count >= report.count:
        return run
    run.budget.leave_out(f"the answer was judged on {count} of {report.count} held-out samples")
    splits = replace(run.task.splits, report=report.subset(range(count)))
    return replace(run, task=replace(run.task, splits=splits))


def choose_answer(
    settings: Settings, side: SideBySide, goal: Goal, found: SearchOutcome
) -> tuple[str, SearchOutcome, tuple[str, ...]]:
    """Return the answer's name, the search, and why finalists were set aside.

    Where no finalist is fast enough in the shared rounds, the search has found no plan within the bounds after all.
    """
    set_aside: tuple[str, ...] = ()
    if found.feasible:
        side, set_aside = without_lucky(found, side, settings)
        winner = choose(goal, side, settings.max_latency_ms)
        if winner is not None:
            return winner, found, set_aside
    nearest = min(side.trials, key=side.ms)
    return nearest, replace(found, feasible=False, best=side.trials[nearest]), set_aside
