"""The last stage: finalists built anew and timed side by side, the answer judged on samples that chose nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from autoprec.budget import CONFIRM_TURN_MS, LEAST_ROUNDS, MOST_ROUNDS, USUAL_ROUNDS, Budget
from autoprec.curse import Curse, shared_noise, winners_curse
from autoprec.drops import Drop
from autoprec.engines import Engines, PlanEngine, timing_feed
from autoprec.errors import BackendError
from autoprec.evaluate import Evaluator, Outcome
from autoprec.precision import Array
from autoprec.ranges.table import RangeTable
from autoprec.seeds import FP32_PLAN, uniform_plans
from autoprec.study.latency import Assignment
from autoprec.study.search import Found
from autoprec.study.trials import Trial
from autoprec.task import Task
from autoprec.timing import Timing, compare
from autoprec.tuned import Candidate
from autoprec.verify import Verification

_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What the finalists came to.

    Attributes:
        chosen: the answer's name among the candidates.
        candidates: FP32, the answer, and those uniform plans that there was time to judge.
        reference_scores: FP32's metric on each report sample.
        curse: what the answer owes to luck, None where nothing was chosen.
        verification: what the runtime made of the answer.
        simulated: the answer in exact arithmetic.
    """

    chosen: str
    candidates: Mapping[str, Candidate]
    reference_scores: Array
    verification: Verification
    simulated: Outcome | None
    curse: Curse | None


class Confirming:
    """Confirms what a search found.

    Args:
        task: what was asked, with the backend of the run.
        engines: builds plans.
        reference: FP32.
        ranges: calibrated.
        budget: of the run.
        advance: told the share that is done.
    """

    def __init__(
        self,
        task: Task,
        engines: Engines,
        reference: PlanEngine,
        ranges: RangeTable,
        budget: Budget,
        advance: Callable[[float], None] = lambda share: None,
    ) -> None:
        self._task, self._engines, self._reference, self._ranges = task, engines, reference, ranges
        self._budget, self._advance = budget, advance
        self._uniform = uniform_plans(task.subject)

    def plans(self, found: Found) -> dict[str, Assignment]:
        """What is timed side by side: FP32, the uniform plans and the finalists, as many as there is time for."""
        finalists = found.finalists or (found.best,)
        best = finalists[0]
        accepted = [name for t in finalists if (name := _name(t.plan, self._uniform)) is not None]
        named = {self.name(t): t.plan for t in finalists}
        wanted = {FP32_PLAN: self._uniform[FP32_PLAN], self.name(best): best.plan}
        wanted |= {name: self._uniform[name] for name in accepted}
        least = len(wanted)
        wanted |= {**named, **self._uniform}
        names = list(wanted)
        while len(names) > least and not self._time_for(len(names), len([n for n in names if n in self._uniform]) + 1):
            names.pop()
        if len(names) < len(wanted):
            self._budget.leave_out(f"{len(wanted) - len(names)} of {len(wanted)} plans were not confirmed")
        return {name: wanted[name] for name in names}

    def run(self, plans: Mapping[str, Assignment], found: Found) -> Confirmed:
        """Time the plans, choose, and judge on the report samples."""
        task, budget = self._task, self._budget
        finalists = found.finalists or (found.best,)
        with ExitStack() as stack:
            engines = self._reopened(plans, stack)
            timings = self._timed(engines)
            chosen = self._choose({name: plans[name] for name in engines}, timings, found)
            evaluator = Evaluator(
                self._reference.computing, task.splits.report, task.subject.model.interface, task.metric,
                task.settings.batch,
            )  # fmt: skip
            candidates = self._judged(evaluator, engines, plans, timings, chosen, found)
            simulated = None
            if chosen != FP32_PLAN and task.backend.runs_here:
                if budget.deadline.left_s > budget.confirming_s(1, 2, task.splits.report.count, 0):
                    simulated = evaluator.evaluate(self._engines.simulated(plans[chosen], self._ranges, stack))
                else:
                    budget.leave_out("the answer was not compared with exact arithmetic")
        verification = self._engines.verified(plans[chosen], self._ranges)
        names = {t.number: self.name(t) for t in finalists if self.name(t) in timings}
        finite = [c.outcome for n, c in candidates.items() if n != FP32_PLAN and c.outcome.finite]
        curse = winners_curse(
            found, candidates[chosen], timings, names, task.settings.max_drop, task.settings.confidence,
            shared_noise([evaluator.losses(outcome) for outcome in finite]), task.settings.seed,
        )  # fmt: skip
        return Confirmed(chosen, candidates, evaluator.reference_scores, verification, simulated, curse)

    def name(self, trial: Trial) -> str:
        """A uniform plan's own name, another's number."""
        return _name(trial.plan, self._uniform) or f"trial {trial.number}"

    def _time_for(self, plans: int, judged: int) -> bool:
        budget = self._budget
        return budget.deadline.left_s >= budget.confirming_s(
            plans, judged, self._task.splits.report.count, LEAST_ROUNDS
        )

    def _timed(self, engines: Mapping[str, PlanEngine]) -> dict[str, Timing]:
        """All engines, round by round, until ratios are known well or what comes after needs the time."""
        budget, samples = self._budget, self._task.splits.report.count
        judged = budget.confirming_s(0, min(3, len(engines)), samples, 0)
        late = lambda: budget.deadline.left_s < judged  # noqa: E731
        most = MOST_ROUNDS if not budget.deadline.spent(0.8) else USUAL_ROUNDS
        timings = compare(
            {name: engine.timed for name, engine in engines.items()}, timing_feed(self._task, self._task.splits.report),
            rounds=(USUAL_ROUNDS, most), turn_ms=CONFIRM_TURN_MS, hurry=late,
        )  # fmt: skip
        rounds = len(next(iter(timings.values())).rounds_ms)
        if rounds < USUAL_ROUNDS:
            budget.leave_out(f"finalists were timed in {rounds} rounds, not {USUAL_ROUNDS}")
        return timings

    def _judged(
        self,
        evaluator: Evaluator,
        engines: Mapping[str, PlanEngine],
        plans: Mapping[str, Assignment],
        timings: Mapping[str, Timing],
        chosen: str,
        found: Found,
    ) -> dict[str, Candidate]:
        """FP32, the answer and its best uniform rival; the other uniform plans where there is time."""
        accepted = [self.name(t) for t in found.finalists if self.name(t) in self._uniform and self.name(t) in engines]
        rival = min(accepted, key=lambda name: timings[name].median_ms, default=FP32_PLAN)
        needed = dict.fromkeys([FP32_PLAN, chosen, rival])
        wanted = dict.fromkeys([*needed, *(name for name in engines if name in self._uniform)])
        confidence, candidates = self._task.settings.confidence or _CONFIDENCE, {}
        for number, name in enumerate(wanted):
            one_s = self._budget.confirming_s(0, 2, evaluator.dataset.count, 0)
            if name not in needed and self._budget.deadline.left_s < one_s:
                self._budget.leave_out(f"{name} was not judged on fresh samples")
                continue
            outcome = evaluator.evaluate(engines[name].computing)
            drop: Drop = evaluator.estimated_drop(outcome, confidence)
            candidates[name] = Candidate(name, plans[name], outcome, drop, timings[name])
            self._advance((number + 1) / len(wanted))
        order = [*(name for name in self._uniform if name in candidates), chosen]
        return {name: candidates[name] for name in dict.fromkeys(order)}

    def _reopened(self, plans: Mapping[str, Assignment], stack: ExitStack) -> dict[str, PlanEngine]:
        """The engines of these plans; one that the runtime refuses is left out, as it was in the search."""
        engines = {}
        for name, plan in plans.items():
            try:
                engines[name] = self._reference if name == FP32_PLAN else self._engines.open(plan, self._ranges, stack)
            except BackendError:
                if not name.startswith("uniform"):
                    raise
        return engines

    def _choose(self, plans: Mapping[str, Assignment], timings: Mapping[str, Timing], found: Found) -> str:
        """The fastest accepted plan by the shared rounds, if it is faster than the fastest uniform one for certain.

        The fastest of several in the same rounds may owe that to luck, so each of the comparisons that could have
        been made must err less often: the interval is widened by Bonferroni's rule.
        """
        if not found.feasible:
            return self.name(found.best)
        accepted = [name for t in found.finalists if (name := self.name(t)) in plans]
        fastest = min(accepted, key=lambda name: timings[name].median_ms)
        uniform = min((n for n in accepted if n in self._uniform),
                      key=lambda name: timings[name].median_ms, default=fastest)  # fmt: skip
        rivals = max(sum(name not in self._uniform for name in accepted), 1)
        surely = timings[fastest].ratio_to(timings[uniform], 1 - (1 - _CONFIDENCE) / rivals)
        return fastest if fastest == uniform or surely.high < 1.0 else uniform


def _name(plan: Assignment, plans: Mapping[str, Assignment]) -> str | None:
    return next((name for name, other in plans.items() if dict(other) == dict(plan)), None)
