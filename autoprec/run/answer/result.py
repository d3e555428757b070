"""The result of a run: the chosen plan beside its rivals, all measured together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from autoprec.metrics.outcome import Outcome
from autoprec.metrics.over_set import Rows
from autoprec.plan import Assignment
from autoprec.precision import Array
from autoprec.proof.verification import Verification
from autoprec.ranges.table import RangeTable
from autoprec.run.answer.blocking import Blocking
from autoprec.run.answer.candidate import Candidate
from autoprec.run.answer.luck import SelectionBias
from autoprec.run.context import TimeUse
from autoprec.run.task import Task
from autoprec.run.uniform import unit_name
from autoprec.sensitivity.table import Sensitivities
from autoprec.stats.drop import counted_drop
from autoprec.stats.intervals import Interval, paired_bootstrap
from autoprec.study.goal import Goal
from autoprec.study.outcome import SearchOutcome

_MATTERS = 0.1
"""A difference from exact arithmetic matters from this share of the bound on: then it could change the verdict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneResult:
    """The result of a run.

    Attributes:
        task: what the user asked for, with the backend and the halves of the run.
        ranges: the calibrated ranges.
        profile: the sensitivities.
        found: the search; where no finalist was fast enough in the shared rounds, it has found no plan.
        goal: what was minimised, and the bounds.
        blocking: the units that keep every plan over the bound on the drop; None where some plan meets it.
        chosen: the name of the answer among `candidates`.
        candidates: name -> the clock's unit, the answer, and the uniform plans that there was time to judge.
        reference_scores: float64[n], FP32's metric on each report sample.
        verification: what the runtime made of each unit of the answer.
        simulated: the answer in exact arithmetic on the report samples; None for FP32, and where outcomes are
            simulated anyway.
        bias: what the answer owes to luck, None where nothing was chosen.
        set_aside: one sentence for each finalist that met the bound here but is expected to miss it on other samples.
        time: what the run did with its time.
        reference_rows: FP32's statistics of each report sample, where the metric is one over a data set that has any.
    """

    task: Task
    ranges: RangeTable
    profile: Sensitivities
    found: SearchOutcome
    goal: Goal
    blocking: Blocking | None
    chosen: str
    candidates: Mapping[str, Candidate]
    reference_scores: Array
    verification: Verification
    simulated: Outcome | None
    bias: SelectionBias | None
    set_aside: tuple[str, ...]
    time: TimeUse
    reference_rows: Rows | None = None

    @property
    def clock_disturbed(self) -> bool:
        """Whether other programs used the CPUs while the candidates were timed, so that latencies say little."""
        return any(candidate.latency.disturbed for candidate in self.candidates.values())

    @property
    def plan(self) -> Assignment:
        """The chosen assignment."""
        return self.candidates[self.chosen].plan

    @property
    def answer(self) -> Candidate:
        """The chosen candidate."""
        return self.candidates[self.chosen]

    @property
    def unit(self) -> Candidate:
        """The clock's unit, which all latencies are compared with; it is FP32 unless the goal says otherwise."""
        return self.candidates[unit_name(self.goal.unit)]

    @property
    def best_uniform(self) -> Candidate:
        """The best uniform plan that could be chosen and met the bounds in the search, else the clock's unit."""
        accepted = {tuple(sorted(t.plan.items())): t.measured for t in self.found.trials if t.feasible}
        costs: dict[str, tuple[float, float]] = {}
        for name, candidate in self.candidates.items():
            measured = accepted.get(tuple(sorted(candidate.plan.items())))
            if candidate.uniform and measured is not None:
                drop, noise = measured.judged_drop, measured.noise
                costs[name] = self.goal.cost(drop, candidate.timing.median_ms, candidate.size, noise)
        return self.candidates[min(costs, key=costs.__getitem__, default=self.unit.name)]

    @property
    def batch(self) -> int:
        """The number of samples in one timed batch."""
        situation = self.task.settings.situation
        asked = situation.batch if situation is not None else None
        return self.task.subject.model.interface.batch_size or asked or self.task.settings.batch

    def counted_drop(self, candidate: Candidate) -> Interval:
        """The mean drop of the scores on the report samples, with its 95 % interval, see `stats.drop.counted_drop`."""
        if not candidate.outcome.finite:
            return Interval(math.inf, math.inf, math.inf)
        metric = self.task.metric
        if metric.over_set is not None:  # the drop of a figure over the data set is counted in no other way
            return Interval(candidate.drop.estimate, candidate.drop.low, candidate.drop.high)
        if candidate.drop.low == candidate.drop.high == 0.0:  # it computes what FP32 computes
            return Interval(0.0, 0.0, 0.0)
        counted = counted_drop(self.reference_scores, candidate.outcome.scores, metric.higher_is_better)
        return Interval(counted.estimate, counted.low, counted.high)

    def samples_per_s(self, candidate: Candidate) -> float:
        """The throughput with several batches in flight, where that is the objective."""
        return 1e3 * self.batch / candidate.timing.median_ms

    @property
    def engine_minus_exact(self) -> Interval | None:
        """By how much the engine's scores differ from those of exact arithmetic; None where they are not comparable."""
        if self.simulated is None or not (self.answer.outcome.finite and self.simulated.finite):
            return None
        metric, seed = self.task.metric, self.task.settings.seed
        return paired_bootstrap(self.simulated.scores, self.answer.outcome.scores, metric.higher_is_better, seed=seed)

    @property
    def differs_from_exact(self) -> bool:
        """Whether the engine certainly computes something else than exact arithmetic, by so much that it matters.

        Every engine rounds in an order of its own, so the scores of many samples always differ by something. It matters
        if the difference is a considerable part of the bound, or of FP32's score where there is no bound.
        """
        if self.simulated is None:
            return False
        apart = self.engine_minus_exact
        if apart is None:
            return self.answer.outcome.finite != self.simulated.finite
        bound = self.task.settings.max_drop
        usual = bound if math.isfinite(bound) else abs(float(self.reference_scores.mean()))
        return not apart.low <= 0 <= apart.high and abs(apart.estimate) > _MATTERS * usual

    @property
    def limit_ms(self) -> float | None:
        """The bound on the latency in milliseconds, where it was given so."""
        return self.task.settings.max_latency_ms
