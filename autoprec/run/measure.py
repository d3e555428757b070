"""Measures a plan for the search, and no more of it than the search needs to know."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from dataclasses import replace

from autoprec.backends.limited import LimitedComputing, OutOfTime, never
from autoprec.data.dataset import Dataset
from autoprec.errors import BackendError
from autoprec.metrics.evaluator import Evaluator
from autoprec.metrics.outcome import Outcome
from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable
from autoprec.run.engines import Engines, PlanEngine, timing_feed
from autoprec.run.spent import Spent
from autoprec.run.task import Task
from autoprec.run.uniform import uniform_plans, unit_name
from autoprec.stats.drop import Drop
from autoprec.study.goal import Goal
from autoprec.study.participant import Ahead, Wanted
from autoprec.study.trial import Measurement
from autoprec.timing.compare import compare

CERTAIN = 0.9995
"""The confidence at which a part of the samples decides: with 40 such plans a run, one run in 50 has a wrong verdict.

The allowed error is divided equally among the looks (Bonferroni correction), so that checking several times does not
raise it (Lan and DeMets 1983, "Discrete sequential boundaries for clinical trials").
"""
_MET_SHARE = 0.25
"""A bound counts as certainly met on this share of the samples at the earliest, see `certain`."""
LOOKS = (0.125, 0.25, 0.5)
"""The parts of the samples after which a plan may be judged."""
_FEWEST = 32  # the fewest samples of a look: on fewer, hardly anything is certain
_TIMED_ANYWAY = 3
"""Every third plan over the bound is timed: the latency model learns from it as well as from other plans."""
TRIAL_ROUNDS, TRIAL_TURN_MS = (5, 15), 15.0
"""The fewest and the most rounds in which the search times a plan beside FP32, and the least length of a turn."""
_NEAR = 1.02  # a plan up to this many times as slow as the rival may still be a finalist


def ahead_of(engines: Engines, ranges: RangeTable) -> Ahead:
    """How plans are built before they are measured, in a run and in each of its workers."""
    return Ahead(engines.at_once, lambda plan: engines.ahead(plan, ranges), lambda plan: engines.is_built(plan, ranges))


class PlanMeasurer:
    """Measures plans on the selection samples and by the clock, accuracy first.

    A plan that is certain to be over the bound after a part of the samples is judged on that part, and most
    plans over the bound are not timed. A plan that may become a finalist is always judged on all samples.

    Args:
        task: what the user asked for.
        engines: builds the plans.
        reference: the engine of the clock's unit, with the one that computes FP32's outputs.
        ranges: the calibrated ranges.
        goal: what the search minimises, and its bounds; by default the latency under the task's bound.
        economy: whether anything may be left out at all.
        out_of_time: says whether what comes after the search needs the time that is left.
        cut: says whether a plan whose samples are being run must be given up for it.

    Attributes:
        spent: what the plans have cost so far.
    """

    def __init__(
        self,
        task: Task,
        engines: Engines,
        reference: PlanEngine,
        ranges: RangeTable,
        goal: Goal | None = None,
        *,
        economy: bool = True,
        out_of_time: OutOfTime = never,
        cut: OutOfTime = never,
    ) -> None:
        self.spent, self._economy, self._out_of_time, self._cut = Spent(), economy, out_of_time, cut
        self._task, self._engines, self.reference, self.ranges = task, engines, reference, ranges
        settings = task.settings
        data = spread(task.splits.select)
        self._evaluator = Evaluator.against(
            reference.computing, data, task.subject.model.interface, task.metric, settings.batch
        )
        self._feed = timing_feed(task, task.splits.select)
        self.goal = goal or Goal(max_drop=settings.max_drop)
        self._unit_plan = uniform_plans(task.subject)[unit_name(self.goal.unit)]
        self._looks = tuple(share for share in LOOKS if share * data.count >= _FEWEST)
        self._certainty = 1 - (1 - CERTAIN) / max(len(self._looks), 1)
        self._early = bool(self._looks)
        self._over = 0

    def __call__(self, plan: Assignment, asked: Wanted) -> Measurement:
        """Measure what the search wants to know of a plan.

        Raises:
            BackendError: the runtime refused the plan, or does not run a plan that may be the answer as it asks.
            OutOfTimeError: the time limit ended the measurement.
        """
        if plan == self._unit_plan and self.goal.unit is Precision.FP32:
            return Measurement(
                drop=0.0,
                judged_drop=0.0,
                noise=0.0,
                kl=0.0,
                agreement=1.0,
                latency_ratio=1.0,
                ratio_error=0.0,
                drop_error=0.0,
                bytes=self.reference.size,
                layers_ms=self._engines.layers_ms(plan, self.ranges, self._feed),
            )
        wanted = asked if self._economy else Wanted(math.inf, everything=True)
        with ExitStack() as stack:
            begun = time.monotonic()
            engine = self._engines.open(plan, self.ranges, stack)
            self.spent.built(time.monotonic() - begun)
            outcome = self._evaluated(engine, wanted, early=self._early and not wanted.everything)
            over = self._judged(outcome) > self.goal.max_drop
            self._over += over
            self.spent.plans += 1
            if over and not wanted.everything and self._over % _TIMED_ANYWAY:
                self.spent.untimed += 1
                return self._measurement(outcome, float("inf"), None, engine.size)
            ratio, error = (1.0, 0.0) if plan == self._unit_plan else self._ratio(engine, wanted.rival)
            near = not over and self._near(outcome, ratio, engine.size, wanted.rival)
            if near:
                self._engines.require_honoured(plan, self.ranges)
            if near and self._partial(outcome):
                outcome = self._evaluated(engine, wanted, early=False)
            self.spent.cut += self._partial(outcome)
            begun = time.monotonic()
            layers = self._engines.layers_ms(plan, self.ranges, self._feed)
            self.spent.clock_s += time.monotonic() - begun
            return replace(self._measurement(outcome, ratio, error, engine.size), layers_ms=layers)

    def drop_of(self, plan: Assignment) -> float:
        """The judged drop of a plan, however few samples make it certain; infinite where the runtime refuses it."""
        with ExitStack() as stack:
            try:
                engine = self._engines.open(plan, self.ranges, stack)
            except BackendError:
                return math.inf
            return self._judged(self._evaluated(engine, Wanted(math.inf, everything=True), early=self._early))

    def check_metric(self) -> None:
        """Check that the metric scores as it did when the search began, see `Evaluator.check_metric`."""
        self._evaluator.check_metric()

    def judged_drop(self, drop: Drop) -> float:
        """What the bound is compared with: the estimate, or the upper end where a confidence was asked for."""
        return drop.estimate if self._task.settings.confidence is None else drop.high

    def _near(self, outcome: Outcome, ratio: float, size: int, rival: float) -> bool:
        """Whether a plan may be a finalist."""
        if self.goal.objective == "size":
            return size <= rival and ratio < _NEAR * self.goal.max_latency
        if self.goal.objective == "accuracy":
            return self._judged(outcome) <= rival and ratio < _NEAR * self.goal.max_latency
        return ratio < _NEAR * rival

    def _evaluated(self, engine: PlanEngine, wanted: Wanted, *, early: bool) -> Outcome:
        begun = time.monotonic()
        enough = (lambda outcome: self._certain(outcome, wanted.rival)) if early else None
        outcome = self._evaluator.evaluate(LimitedComputing(engine.computing, self._cut), enough, self._looks)
        self.spent.evaluate_s += time.monotonic() - begun
        self.spent.samples += len(outcome.scores)
        return outcome

    def _ratio(self, engine: PlanEngine, rival: float) -> tuple[float, float]:
        """The latency over the clock's unit, with its standard error."""
        begun = time.monotonic()
        pair = {"unit": self.reference.timed, "plan": engine.timed}
        # Where the latency is not minimised, the fewest rounds show it well enough.
        least = {"latency": rival, "throughput": rival, "size": 0.0, "accuracy": None}[self.goal.objective]
        timing = compare(
            pair, self._feed, rounds=TRIAL_ROUNDS, turn_ms=TRIAL_TURN_MS, rival=least, out_of_time=self._out_of_time
        )
        self.spent.clock_s += time.monotonic() - begun
        self.spent.batch_ms = timing["unit"].median_ms
        return timing["plan"].ratio_to(timing["unit"]).estimate, timing["plan"].error_to(timing["unit"])

    def _certain(self, outcome: Outcome, rival: float) -> bool:
        """Whether so few samples prove that the bound is met or missed, or that others are more accurate."""
        drop, bound = self._evaluator.estimated_drop(outcome, self._certainty), self.goal.max_drop
        if self.goal.objective == "accuracy":
            return drop.low > min(bound, rival)
        return certain(drop, bound, self._evaluator.dataset.count)

    def _estimated(self, outcome: Outcome) -> Drop:
        return self._evaluator.estimated_drop(outcome, self._task.settings.level)

    def _judged(self, outcome: Outcome) -> float:
        return self.judged_drop(self._estimated(outcome))

    def _partial(self, outcome: Outcome) -> bool:
        return len(outcome.scores) < self._evaluator.dataset.count

    def _measurement(self, outcome: Outcome, ratio: float, error: float | None, size: int) -> Measurement:
        drop = self._estimated(outcome)
        return Measurement(
            drop=self._evaluator.drop(outcome),
            judged_drop=self.judged_drop(drop),
            noise=outcome.noise,
            kl=outcome.kl,
            agreement=outcome.agreement,
            latency_ratio=ratio,
            samples=len(outcome.scores) if self._partial(outcome) else None,
            ratio_error=error,
            drop_error=drop.error(self._task.settings.level),
            bytes=size,
        )


def certain(drop: Drop, bound: float, samples: int) -> bool:
    """Whether the drop on a part of so many samples proves that the bound is met or missed.

    Changed decisions prove that it is missed. That no decision changed among very few samples proves little, whatever
    the interval says: in a simulation, one plan in 60 near the bound was taken to meet it on an eighth of 512 samples.
    """
    return drop.low > bound or (drop.high < bound and drop.samples >= _MET_SHARE * samples)


def spread(data: Dataset) -> Dataset:
    """The same samples in another order: every eighth first, then every fourth, then every second.

    A look at the first samples then sees samples from the whole data set, even if that is sorted.
    """
    first = [index for step in (8, 4, 2) for index in range(0, data.count, step)]
    return data.subset(list(dict.fromkeys([*first, *range(data.count)])))
