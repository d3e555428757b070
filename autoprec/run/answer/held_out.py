"""The answer and its rivals on the report samples, which chose nothing."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

from autoprec.lowering.builders_choice import BuildersChoice
from autoprec.metrics.evaluator import Evaluator
from autoprec.metrics.outcome import Outcome
from autoprec.precision import Array
from autoprec.ranges.table import RangeTable
from autoprec.run.answer.candidate import Candidate
from autoprec.run.answer.side_by_side import SideBySide, shared_rounds
from autoprec.run.context import Run
from autoprec.run.engines import Engines, PlanEngine
from autoprec.run.uniform import FP32_PLAN
from autoprec.timing.compare import Timing


def held_out_evaluator(run: Run, reference: PlanEngine) -> Evaluator:
    """What judges plans on the report samples; runs FP32 on them."""
    task = run.task
    return Evaluator.against(
        reference.computing, task.splits.report, task.subject.model.interface, task.metric, task.settings.batch
    )


def judge_candidates(
    run: Run, evaluator: Evaluator, engines: Mapping[str, PlanEngine], side: SideBySide, chosen: str
) -> dict[str, Candidate]:
    """Judge the clock's unit, the answer and its best uniform rival; the other uniform plans where there is time.

    Args:
        run: the run.
        evaluator: judges on the report samples.
        engines: name -> the engines of the plans that were timed.
        side: what the shared rounds showed.
        chosen: the name of the answer.

    Returns:
        Name -> candidate, uniform plans first.
    """
    accepted = [name for name in side.trials if name in side.uniform]
    rival = min(accepted, key=side.ms, default=side.unit)
    needed = dict.fromkeys([side.unit, chosen, rival])
    wanted = dict.fromkeys([*needed, *(name for name in engines if name in side.uniform)])
    candidates = {}
    for number, name in enumerate(wanted):
        one_s = run.budget.confirming_s(0, 2, evaluator.dataset.count, 0)
        if name not in needed and run.budget.deadline.left_s < one_s:
            run.budget.leave_out(f"{name} was not judged on held-out samples")
            continue
        outcome = evaluator.evaluate(engines[name].computing)
        candidates[name] = Candidate(
            name=name,
            plan=side.uniform[name] if name in side.uniform else side.trials[name].plan,
            outcome=outcome,
            drop=evaluator.estimated_drop(outcome, run.task.settings.level),
            timing=side.timings[name],
            size=side.sizes[name],
            uniform=name in side.uniform,
        )
        run.progress.advance((number + 1) / len(wanted))
    order = dict.fromkeys([*(name for name in side.uniform if name in candidates), chosen])
    return {name: candidates[name] for name in order}


def held_out_losses(evaluator: Evaluator, candidates: Mapping[str, Candidate]) -> list[Array]:
    """What each candidate but FP32 loses on each report sample, where all of its outputs are finite."""
    outcomes = [c.outcome for name, c in candidates.items() if name != FP32_PLAN and c.outcome.finite]
    return [evaluator.losses(outcome) for outcome in outcomes]


def with_single_batches(run: Run, candidates: Mapping[str, Candidate], ranges: RangeTable) -> dict[str, Candidate]:
    """The same candidates; where they were timed with several batches in flight, with the latency of one alone too."""
    if run.task.settings.aim != "throughput":
        return dict(candidates)
    engines = Engines(run.task, run.backend, turns=run.engines.turns)
    with ExitStack() as stack:
        timed = {name: engines.open(c.plan, ranges, stack).timed for name, c in candidates.items()}
        alone: Mapping[str, Timing] = shared_rounds(run, timed)
    return {name: replace(candidate, alone=alone[name]) for name, candidate in candidates.items()}


def in_exact_arithmetic(run: Run, evaluator: Evaluator, answer: Candidate, ranges: RangeTable) -> Outcome | None:
    """The answer simulated in exact arithmetic.

    None for FP32, where outcomes are simulated anyway, where the builder chose what it rounds, and where there is no
    time.
    """
    chosen_by_builder = isinstance(answer.plan, BuildersChoice)
    if answer.name == FP32_PLAN or not run.backend.runs_here or chosen_by_builder:
        return None
    if run.budget.deadline.left_s <= run.budget.confirming_s(1, 2, evaluator.dataset.count, 0):
        run.budget.leave_out("the answer was not compared with exact arithmetic")
        return None
    with ExitStack() as stack:
        return evaluator.evaluate(run.engines.simulated(answer.plan, ranges, stack))


def as_it_computes(run: Run, evaluator: Evaluator, answer: Candidate, simulated: Outcome | None) -> Candidate:
    """The answer as its model computes, where the runtime computes something else instead of NaN or infinity.

    A runtime that has no kernels of a precision may compute in FP32 what the model says in FP16. What overflows in
    exact arithmetic then looks sound here, and is worthless wherever the model is run as it says.
    """
    support = run.backend.support()
    native = all(support[precision] is None for precision in set(answer.plan.values()))
    if simulated is None or simulated.finite or native:
        return answer
    return replace(
        answer, outcome=simulated, drop=evaluator.estimated_drop(simulated, run.task.settings.level), overflows=True
    )
