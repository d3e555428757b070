"""The answer written as it ran: a plan that says in which precision each unit really runs, if it is as fast."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

from autoprec.errors import BackendError, OutOfTimeError
from autoprec.lowering.builders_choice import BuildersChoice
from autoprec.metrics.evaluator import Evaluator
from autoprec.plan import Assignment
from autoprec.proof.as_it_ran import plan_as_it_ran
from autoprec.proof.verification import Verification
from autoprec.ranges.table import RangeTable
from autoprec.run.answer.candidate import Candidate
from autoprec.run.answer.side_by_side import shared_rounds
from autoprec.run.context import Run
from autoprec.run.engines import PlanEngine
from autoprec.study.origin import Origin

_AS_FAST = 1.01
"""An engine of the same kernels differs by up to one percent from build to build."""


def written_as_it_ran(
    run: Run,
    evaluator: Evaluator,
    engines: Mapping[str, PlanEngine],
    candidates: Mapping[str, Candidate],
    *,
    chosen: str,
    ranges: RangeTable,
) -> tuple[str, dict[str, Candidate]]:
    """Return the name of the answer and the candidates, with the plan that says what ran in the place of the answer.

    It takes its place only if it is as fast in shared rounds and within the bound, or at least as accurate; otherwise
    the run says so.

    Args:
        run: the run.
        evaluator: judges on the report samples.
        engines: name -> the engines of the plans that were timed.
        candidates: name -> the candidates, all of which were timed.
        chosen: the name of the answer.
        ranges: the calibrated ranges.
    """
    answer, kept = candidates[chosen], dict(candidates)
    plan = _as_it_ran(run, answer.plan, ranges)
    if plan is None:
        return chosen, kept
    otherwise = sum(plan[unit] is not precision for unit, precision in answer.plan.items())
    what = f"{otherwise} of the answer's units ran in another precision than planned"
    if run.budget.deadline.left_s <= run.budget.confirming_s(2, 2, evaluator.dataset.count, 5):
        run.budget.leave_out(f"{what}, and there was no time to build the plan as it ran")
        return chosen, kept
    with ExitStack() as stack:
        try:
            engine = run.engines.open(plan, ranges, stack)
        except (BackendError, OutOfTimeError) as error:
            run.budget.leave_out(f"{what}, and the plan as it ran could not be built ({error})")
            return chosen, kept
        name = f"{chosen}, {Origin.AS_IT_RAN.value}"
        timings = shared_rounds(run, {name: engine.timed} | {other: engines[other].timed for other in kept})
        outcome = evaluator.evaluate(engine.computing)
        drop = evaluator.estimated_drop(outcome, run.task.settings.level)
        ratio = timings[name].ratio_to(timings[chosen])
        within = outcome.finite and drop.estimate <= max(run.task.settings.max_drop, answer.drop.estimate)
        if ratio.estimate > _AS_FAST or not within:
            run.budget.leave_out(
                f"{what}; the plan as it ran was not taken, at {ratio.estimate:.3f} of the answer's latency"
            )
            return chosen, kept
        found = {other: replace(candidate, timing=timings[other]) for other, candidate in kept.items()}
        written = replace(answer, name=name, plan=plan, outcome=outcome, drop=drop, uniform=False, size=engine.size)
        if not answer.uniform:  # uniform plans stay, to compare with
            del found[chosen]
        return name, {**found, name: replace(written, timing=timings[name])}


def _as_it_ran(run: Run, plan: Assignment, ranges: RangeTable) -> Assignment | None:
    """The plan that says what ran; None where that is the plan itself, or the runtime does not tell."""
    if isinstance(plan, BuildersChoice) or not run.backend.runs_here:
        return None
    try:
        verification: Verification = run.engines.verified(plan, ranges)
    except BackendError:
        return None
    ran = plan_as_it_ran(verification, plan, run.task.subject.choices)
    return None if ran == dict(plan) else ran
