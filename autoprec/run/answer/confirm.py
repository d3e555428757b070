"""The last stage: finalists built anew and timed side by side, the answer judged on samples that chose nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

from autoprec.backends.protocol import Engine
from autoprec.errors import BackendError
from autoprec.metrics.evaluator import Evaluator, Outcome
from autoprec.plan import Assignment
from autoprec.precision import Array
from autoprec.proof.verification import Verification
from autoprec.ranges.table import RangeTable
from autoprec.run.answer.choose import Contender, choose
from autoprec.run.answer.luck import SelectionBias, drop_luck, selection_bias_of, shared_noise
from autoprec.run.answer.tuned import Candidate
from autoprec.run.budget import CONFIRM_TURN_MS, LEAST_ROUNDS, MOST_ROUNDS, USUAL_ROUNDS, Budget
from autoprec.run.engines import Engines, PlanEngine, timing_feed
from autoprec.run.task import Task
from autoprec.run.uniform import FP32_PLAN, uniform_plans
from autoprec.stats.drop import Drop
from autoprec.study.goal import Goal
from autoprec.study.loop import SearchOutcome
from autoprec.study.trial import Trial
from autoprec.timing.compare import Timing, compare

_WORTH_ROOM = 1.05
"""A plan that is expected to meet the bound without luck may take so much longer than the fastest that has met it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """What the finalists came to.

    Attributes:
        found: the search; where no finalist is fast enough in the shared rounds, it has found none.
        chosen: the answer's name among the candidates.
        candidates: FP32, the answer, and those uniform plans that there was time to judge.
        reference_scores: FP32's metric on each report sample.
        curse: what the answer owes to luck, None where nothing was chosen.
        verification: what the runtime made of the answer.
        simulated: the answer in exact arithmetic.
        set_aside: finalists that met the bound by luck alone, as far as can be expected, in words.
    """

    found: SearchOutcome
    chosen: str
    candidates: Mapping[str, Candidate]
    reference_scores: Array
    verification: Verification
    simulated: Outcome | None
    curse: SelectionBias | None
    set_aside: tuple[str, ...] = ()


class Confirmation:
    """Confirms what a search found.

    Args:
        task: what was asked, with the backend of the run.
        engines: builds plans.
        reference: FP32.
        ranges: calibrated.
        goal: what was minimised, and the bounds.
        budget: of the run.
        advance: told the share that is done.
    """

    def __init__(
        self,
        task: Task,
        engines: Engines,
        reference: PlanEngine,
        ranges: RangeTable,
        goal: Goal,
        budget: Budget,
        advance: Callable[[float], None] = lambda share: None,
    ) -> None:
        self._task, self._engines, self._reference, self._ranges = task, engines, reference, ranges
        self._goal, self._budget, self._advance = goal, budget, advance
        self._uniform = uniform_plans(task.subject)
        self._set_aside: list[str] = []

    def plans(self, found: SearchOutcome) -> dict[str, Assignment]:
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

    def run(self, plans: Mapping[str, Assignment], found: SearchOutcome) -> Confirmed:
        """Time the plans, choose, and judge on the report samples."""
        task, budget = self._task, self._budget
        finalists = found.finalists or (found.best,)
        with ExitStack() as stack:
            engines = self._reopened(plans, stack)
            timings = self._timed({name: engine.timed for name, engine in engines.items()})
            found, chosen = self._chosen(engines, timings, found)
            evaluator = Evaluator.against(
                self._reference.computing,
                task.splits.report,
                task.subject.model.interface,
                task.metric,
                task.settings.batch,
            )
            candidates = self._judged(evaluator, engines, plans, timings, chosen, found)
            simulated = None
            if chosen != FP32_PLAN and task.backend.runs_here:
                if budget.deadline.left_s > budget.confirming_s(1, 2, task.splits.report.count, 0):
                    simulated = evaluator.evaluate(self._engines.simulated(plans[chosen], self._ranges, stack))
                else:
                    budget.leave_out("the answer was not compared with exact arithmetic")
        verification = self._engines.verified(plans[chosen], self._ranges)
        curse = None
        if self._goal == Goal(max_drop=task.settings.max_drop):  # luck is understood for the fastest under a drop
            names = {t.number: self.name(t) for t in finalists if self.name(t) in timings}
            finite = [c.outcome for n, c in candidates.items() if n != FP32_PLAN and c.outcome.finite]
            curse = selection_bias_of(
                found,
                candidates[chosen],
                timings,
                names,
                task.settings.max_drop,
                task.settings.confidence,
                shared_noise([evaluator.losses(outcome) for outcome in finite]),
                task.settings.seed,
            )
        return Confirmed(
            found=found,
            chosen=chosen,
            candidates=candidates,
            reference_scores=evaluator.reference_scores,
            verification=verification,
            simulated=simulated,
            curse=curse,
            set_aside=tuple(self._set_aside),
        )

    def name(self, trial: Trial) -> str:
        """A uniform plan's own name, another's number."""
        return _name(trial.plan, self._uniform) or f"trial {trial.number}"

    def _time_for(self, plans: int, judged: int) -> bool:
        budget = self._budget
        return budget.deadline.left_s >= budget.confirming_s(
            plans, judged, self._task.splits.report.count, LEAST_ROUNDS
        )

    def _timed(self, engines: Mapping[str, Engine]) -> dict[str, Timing]:
        """All engines, round by round, until ratios are known well or what comes after needs the time."""
        budget, samples = self._budget, self._task.splits.report.count
        judged = budget.confirming_s(0, min(3, len(engines)), samples, 0)
        late = lambda: budget.deadline.left_s < judged  # noqa: E731
        most = MOST_ROUNDS if not budget.deadline.spent(0.8) else USUAL_ROUNDS
        timings = compare(
            engines,
            timing_feed(self._task, self._task.splits.report),
            rounds=(USUAL_ROUNDS, most),
            turn_ms=CONFIRM_TURN_MS,
            hurry=late,
        )
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
        found: SearchOutcome,
    ) -> dict[str, Candidate]:
        """FP32, the answer and its best uniform rival; the other uniform plans where there is time."""
        accepted = [self.name(t) for t in found.finalists if self.name(t) in self._uniform and self.name(t) in engines]
        rival = min(accepted, key=lambda name: timings[name].median_ms, default=FP32_PLAN)
        needed = dict.fromkeys([FP32_PLAN, chosen, rival])
        wanted = dict.fromkeys([*needed, *(name for name in engines if name in self._uniform)])
        confidence, candidates = self._task.settings.level, {}
        for number, name in enumerate(wanted):
            one_s = self._budget.confirming_s(0, 2, evaluator.dataset.count, 0)
            if name not in needed and self._budget.deadline.left_s < one_s:
                self._budget.leave_out(f"{name} was not judged on fresh samples")
                continue
            outcome = evaluator.evaluate(engines[name].computing)
            drop: Drop = evaluator.estimated_drop(outcome, confidence)
            candidates[name] = Candidate(
                name=name, plan=plans[name], outcome=outcome, drop=drop, timing=timings[name], size=engines[name].size
            )
            self._advance((number + 1) / len(wanted))
        order = [*(name for name in self._uniform if name in candidates), chosen]
        alone = self._alone({name: candidates[name].plan for name in dict.fromkeys(order)})
        return {name: replace(candidates[name], alone=alone.get(name)) for name in dict.fromkeys(order)}

    def _alone(self, plans: Mapping[str, Assignment]) -> dict[str, Timing]:
        """Latencies of single batches, where the clock was that of a busy machine."""
        if self._goal.objective != "throughput":
            return {}
        engines = Engines(self._task, self._task.backend)
        with ExitStack() as stack:
            return self._timed({name: engines.open(plan, self._ranges, stack).timed for name, plan in plans.items()})

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

    def _chosen(
        self, engines: Mapping[str, PlanEngine], timings: Mapping[str, Timing], found: SearchOutcome
    ) -> tuple[SearchOutcome, str]:
        """The answer's name; where no finalist is fast enough in the shared rounds, the search has found none."""
        trials = {self.name(t): t for t in found.finalists or (found.best,)}
        fp32 = timings[FP32_PLAN]
        contenders = [
            Contender(
                name=name,
                trial=trial,
                timing=timings[name],
                ratio=timings[name].ratio_to(fp32).estimate,
                size=engines[name].size,
                uniform=name in self._uniform,
            )
            for name, trial in trials.items()
            if name in engines
        ]
        if found.feasible:
            contenders = self._not_by_luck(contenders, timings, found)
            winner = choose(self._goal, contenders, self._task.settings.max_latency_ms)
            if winner is not None:
                return found, winner.name
        nearest = min(contenders, key=lambda c: c.timing.median_ms)
        return replace(found, feasible=False, best=nearest.trial), nearest.name

    def _not_by_luck(
        self, contenders: list[Contender], timings: Mapping[str, Timing], found: SearchOutcome
    ) -> list[Contender]:
        """Without plans that are expected to miss the bound on other samples, as they were found by meeting it here.

        Uniform plans were not picked out of many, and where a confidence was asked for, intervals leave room. What is
        expected is uncertain itself, so it is followed where that costs little.
        """
        settings, bound = self._task.settings, self._goal.max_drop
        if settings.confidence is not None or self._goal != Goal(max_drop=settings.max_drop):
            return contenders
        names = {c.trial.number: c.name for c in contenders}
        luck = max(drop_luck(found, timings, names, bound, settings.seed), 0.0)
        left = [c for c in contenders if c.uniform or c.trial.measured.judged_drop + luck <= bound]
        fastest, rest = (min((c.timing.median_ms for c in some), default=math.inf) for some in (contenders, left))
        if rest > _WORTH_ROOM * fastest:
            return contenders
        for contender in (c for c in contenders if c not in left):
            drop = contender.trial.measured.judged_drop
            self._set_aside.append(
                f"{contender.name}: a drop of {drop:.4f} when measured, and of about {drop + luck:.4f} on other "
                f"samples, as the best of many looks better than it is; allowed is {bound:g}"
            )
        return left


def _name(plan: Assignment, plans: Mapping[str, Assignment]) -> str | None:
    return next((name for name, other in plans.items() if dict(other) == dict(plan)), None)
