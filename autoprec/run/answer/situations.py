"""The answer and its rivals in the situations whose time does not count in the search."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace

from autoprec.data.situations import Situation, situated_feed
from autoprec.errors import BackendError
from autoprec.ranges.table import RangeTable
from autoprec.run.answer.candidate import Candidate
from autoprec.run.answer.held_out import with_single_batches
from autoprec.run.budget import CONFIRM_TURN_MS, LEAST_ROUNDS, USUAL_ROUNDS
from autoprec.run.context import Run
from autoprec.timing.compare import Timing, compare


def timed_otherwise(run: Run, candidates: Mapping[str, Candidate], ranges: RangeTable) -> dict[str, Candidate]:
    """The same candidates, with what else is timed of them: single batches, and other situations."""
    return in_other_situations(run, with_single_batches(run, candidates, ranges), ranges)


def in_other_situations(run: Run, candidates: Mapping[str, Candidate], ranges: RangeTable) -> dict[str, Candidate]:
    """The same candidates, timed side by side in each of the other situations as well, where there is time for that.

    A runtime that builds engines for shapes builds them anew for each situation.
    """
    found = dict(candidates)
    for situation in run.task.settings.other_situations:
        needed_s = run.budget.confirming_s(len(found), 0, 0, LEAST_ROUNDS)
        if run.budget.deadline.left_s < needed_s:
            run.budget.leave_out(f"nothing was timed in the situation {situation.name}")
            continue
        try:
            timings = _timed(run, found, ranges, situation)
        except BackendError as error:
            run.budget.leave_out(f"the runtime refused the situation {situation.name}: {error}")
            continue
        found = {
            name: replace(candidate, elsewhere={**candidate.elsewhere, situation.name: timings[name]})
            for name, candidate in found.items()
        }
    return found


def _timed(
    run: Run, candidates: Mapping[str, Candidate], ranges: RangeTable, situation: Situation
) -> Mapping[str, Timing]:
    task = run.task
    feed = situated_feed(task.subject.model.interface, task.splits.report, situation, task.settings.batch)
    shapes = {name: array.shape for name, array in feed.items()}
    backend = run.backend.for_run(shapes, run.directory.root)
    with ExitStack() as stack:
        engines = {
            name: stack.enter_context(backend.build(run.engines.lowered(candidate.plan, ranges)))
            for name, candidate in candidates.items()
        }
        return compare(
            engines,
            feed,
            rounds=(LEAST_ROUNDS, USUAL_ROUNDS),
            turn_ms=CONFIRM_TURN_MS,
            out_of_time=lambda: run.budget.deadline.left_s <= 0,
        )
