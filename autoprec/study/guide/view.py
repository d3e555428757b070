"""The models of one moment: what they predict of candidates, and which plans they call worth measuring."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from autoprec.plan import Assignment
from autoprec.precision import Array, Precision
from autoprec.study.goal import Goal
from autoprec.study.guide.accuracy import AccuracyFit
from autoprec.study.guide.fitting import LatencyFit
from autoprec.study.guide.neighbours import drawn, neighbours, uniform_assignments
from autoprec.study.guide.plan_table import Key, PlanTable, plan_key
from autoprec.study.guide.pricing import Pricing
from autoprec.study.guide.proposals import Estimate, PredictedPlan, Proposal, model_fits
from autoprec.study.guide.rungs import SPEED_WORTH, Models, rungs
from autoprec.study.guide.size import SizeFit
from autoprec.study.guide.solve import MANY_UNITS, Problem
from autoprec.study.origin import Origin
from autoprec.study.trial import Prediction, Trial

LEAST_GAIN = 0.001
"""A search is done when the best candidate's expected gain is below this share of the incumbent's latency."""
_NOISE_WORTH = 0.1
"""Of plans of about equal drop the one nearer to FP32 is better: usual noise is worth this share of a usual drop."""
_MOST_PREDICTED = 3
_LIKELY = 0.5
_WORTH_TELLING = 0.995
_DRAWN = 40
_CENTRES = 3
_SHORTEST = 0.05  # of FP32's latency: below, a doubt relative to the prediction says little
_FEW_RUNGS = 3
"""Of a ladder, where there are many units and solving takes seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What plans are made of.

    Attributes:
        latency: the latencies.
        size: the sizes.
    """

    latency: Pricing
    size: Pricing


@dataclass(frozen=True, slots=True)
class _Candidates:
    """Plans that may be worth measuring, each once.

    Attributes:
        plans: the plans.
        origins: what proposed each.
        near: whether each is a neighbour of one of the best measured plans, bool[plans].
    """

    plans: PlanTable
    origins: Sequence[str]
    near: Array


class View:
    """The models fitted to the trials of one moment.

    Args:
        problem: units, choices, additive losses.
        goal: what is minimised, and the bounds.
        prices: what plans are made of.
        trials: the measured plans.
        random: the source of everything that is drawn.
    """

    def __init__(
        self, problem: Problem, goal: Goal, prices: Prices, trials: Sequence[Trial], random: np.random.Generator
    ) -> None:
        self.problem, self.random, self.trials = problem, random, trials
        self.goal = goal = _reachable(goal, trials)
        accepted = [t for t in trials if t.measured.timed and _accepts(goal, t)]
        self.accepted = sorted(accepted, key=lambda t: (*t.cost(goal), t.number))
        self.models = _fitted(problem, goal, prices, trials, self.accepted)
        noises = [t.measured.noise for t in trials if 0 < t.measured.noise < math.inf]
        usual = float(np.median(noises)) if noises else math.inf
        self.noise_worth = _NOISE_WORTH * self.models.accuracy.unit / usual
        self._around: list[PlanTable] | None = None
        self.incumbent = min(map(self._worth, self.accepted), default=math.inf)

    def best(self, seen: set[Key], known: Sequence[Assignment], turn: int | None) -> Proposal | None:
        """The candidate of most expected gain.

        Args:
            seen: the keys of plans that were measured or are being measured.
            known: these plans.
            turn: which rung of the ladder of budgets is solved for, None for all of them.
        """
        candidates = self._candidates(seen, known, turn)
        if candidates is None:
            return None
        mean, doubt = self._costs(candidates.plans)
        likely = self._likely(candidates.plans)
        best = self.incumbent if math.isfinite(self.incumbent) else float(mean.max())
        if not self.models.trusted:  # rely on measuring: a neighbour of an accepted plan may well be accepted too
            likely = np.where(candidates.near, 0.5 + 0.5 * likely, likely)
        gain = likely * _expected_improvement(best, mean, doubt)
        index = int(np.argmax(gain))
        scale = best + self.models.accuracy.unit if self.goal.objective == "accuracy" else best
        plan = candidates.plans[index]
        promising = bool(gain[index] > LEAST_GAIN * scale)
        return Proposal(plan, candidates.origins[index], self._predicted(plan), promising)

    def better_plans(self, seen: set[Key], known: Sequence[Assignment]) -> list[PredictedPlan]:
        """The plans of most expected gain that are predicted to be better than the best measured one."""
        candidates = self._candidates(seen, known, None)
        if candidates is None:
            return []
        mean, doubt = self._costs(candidates.plans)
        likely = self._likely(candidates.plans)
        gain = likely * _expected_improvement(min(self.incumbent, float(mean.max())), mean, doubt)
        worth = (likely >= _LIKELY) & (mean < _WORTH_TELLING * self.incumbent)
        indices = [index for index in np.argsort(-gain) if worth[index]][:_MOST_PREDICTED]
        return [self._better(candidates.plans[i], candidates.origins[i], float(likely[i])) for i in indices]

    def teaching(self, seen: set[Key]) -> Proposal | None:
        """Of random plans in blocks the one that the models are least certain of."""
        centres = [t.plan for t in self.accepted[:_CENTRES]] + list(uniform_assignments(self.problem))
        plans = [drawn(self.problem, centres[n % len(centres)], self.random) for n in range(_DRAWN)]
        plans = [plan for plan in plans if plan_key(plan) not in seen]
        if not plans:
            return None
        mean, doubt = self.models.latency.predict(plans)
        _, unsure = self.models.accuracy.drop(plans)
        unit = self.models.accuracy.unit
        worth: Array = doubt / np.maximum(mean, _SHORTEST) + 0.1 * np.minimum(unsure / unit, 1.0)
        plan = plans[int(np.argmax(worth))]
        return Proposal(plan, Origin.EXPLORE.value, self._predicted(plan), True)

    def _better(self, plan: Assignment, origin: str, likely: float) -> PredictedPlan:
        models = self.models
        size = None
        if any(t.measured.bytes is not None for t in self.trials):
            size = _estimate(*models.size.fit.predict([plan]), unit=models.size.unit)
        return PredictedPlan(
            plan=dict(plan),
            origin=origin,
            latency=_estimate(*models.latency.predict([plan])),
            drop=_estimate(*models.accuracy.drop([plan])),
            size=size,
            likely=likely,
        )

    def _costs(self, plans: Sequence[Assignment]) -> tuple[Array, Array]:
        """The predicted figure that is minimised, and its standard deviation, float64[plans] each."""
        if self.goal.objective == "size":
            size, doubt = self.models.size.fit.predict(plans)
            return size + SPEED_WORTH * self.models.latency.predict(plans)[0], doubt
        if self.goal.objective == "accuracy":
            drop, doubt = self.models.accuracy.drop(plans)
            return np.maximum(drop, 0.0) + self.noise_worth * self.models.accuracy.noise(plans), doubt
        return self.models.latency.predict(plans)

    def _worth(self, trial: Trial) -> float:
        """The same figure of a measured plan."""
        measured = trial.measured
        if self.goal.objective == "size":
            if measured.bytes is None:
                return math.inf
            return measured.bytes / self.models.size.unit + SPEED_WORTH * measured.latency_ratio
        if self.goal.objective == "accuracy":
            noise = measured.noise if math.isfinite(measured.noise) else 0.0
            return max(measured.judged_drop, 0.0) + self.noise_worth * noise
        return measured.latency_ratio

    def _likely(self, plans: Sequence[Assignment]) -> Array:
        """The probability of meeting the bounds, float64[plans]."""
        likely: Array = self.models.accuracy.feasible(plans) if self.models.bounded else np.ones(len(plans))
        if math.isfinite(self.goal.max_latency):
            mean, doubt = self.models.latency.predict(plans)
            likely = likely * ndtr((self.goal.max_latency - mean) / np.maximum(doubt, 1e-9))
        return likely

    def _candidates(self, seen: set[Key], known: Sequence[Assignment], turn: int | None) -> _Candidates | None:
        """Solutions and neighbours that were not seen, each plan once; None where there are none."""
        solutions = list(self._solutions(known, turn))
        names = tuple(self.problem.choices)
        tables = [PlanTable.of(names, [plan for plan, _ in solutions]), *self._neighbours()]
        plans = PlanTable(names, np.concatenate([table.numbers for table in tables]))
        found, kept = set(seen), []
        for index, key in enumerate(plans.keys()):
            if key not in found:
                found.add(key)
                kept.append(index)
        if not kept:
            return None
        origins = [origin for _, origin in solutions]
        near = np.array(kept) >= len(solutions)
        labels = [Origin.SWAP.value if index >= len(solutions) else origins[index] for index in kept]
        return _Candidates(plans.taken(kept), labels, near)

    def _solutions(self, known: Sequence[Assignment], turn: int | None) -> Iterator[tuple[dict[str, Precision], str]]:
        """The exact solutions of one rung of the ladder, or of all of them, with their origins."""
        ladder = list(rungs(self.goal, self.models, self.random))
        whole = ladder[:_FEW_RUNGS] if len(self.problem.choices) > MANY_UNITS else ladder
        for rung in whole if turn is None else [ladder[turn % len(ladder)]]:
            plan = rung.solve(self.problem, known)
            if plan is not None:
                yield plan, rung.origin

    def _neighbours(self) -> list[PlanTable]:
        """The neighbours of the best accepted plans, or else of the plan that comes nearest to being accepted."""
        if self._around is not None and len(self.problem.choices) > MANY_UNITS:
            return self._around
        centres = [t.plan for t in self.accepted[:_CENTRES]]
        if not centres and self.trials:
            nearest = min(self.trials, key=lambda t: (*t.short_of(self.goal), t.number))
            centres = [nearest.plan]
        self._around = [neighbours(self.problem, centre, self.random) for centre in centres]
        return self._around

    def _predicted(self, plan: Assignment) -> Prediction:
        models = self.models
        return Prediction(
            latency=float(models.latency.predict([plan])[0][0]),
            noise=float(models.accuracy.noise([plan])[0]),
            drop=float(models.accuracy.drop([plan])[0][0]),
        )


def _fitted(problem: Problem, goal: Goal, prices: Prices, trials: Sequence[Trial], accepted: Sequence[Trial]) -> Models:
    timed = [t for t in trials if 0 < t.measured.latency_ratio < math.inf]
    latency = LatencyFit(
        prices.latency,
        [t.plan for t in timed],
        np.array([t.measured.latency_ratio for t in timed]),
        [t.measured.layers_ms for t in timed],
    )
    built = [(t.plan, t.measured.bytes) for t in trials if t.measured.bytes is not None and t.measured.bytes > 0]
    size = SizeFit(prices.size, [plan for plan, _ in built], np.array([float(size) for _, size in built]))
    drops = np.array([t.measured.judged_drop for t in trials])
    near = max(accepted[0].measured.judged_drop, 0.0) if accepted else 0.0
    accuracy = AccuracyFit(
        problem.loss,
        [t.plan for t in trials],
        np.array([t.measured.noise for t in trials]),
        drops,
        goal.max_drop if math.isfinite(goal.max_drop) else near,
    )
    return Models(
        latency=latency,
        size=size,
        accuracy=accuracy,
        trusted=model_fits(trials).drop.trusted,
        bounded=math.isfinite(goal.max_drop) and not np.isnan(drops).all(),
        missed=bool((drops > goal.max_drop).any()),
    )


def _reachable(goal: Goal, trials: Sequence[Trial]) -> Goal:
    """The goal; or, until some plan is fast enough, to find faster plans."""
    if math.isfinite(goal.max_latency) and not any(t.measured.timed and _accepts(goal, t) for t in trials):
        return Goal("latency", goal.max_drop)
    return goal


def _accepts(goal: Goal, trial: Trial) -> bool:
    return goal.accepts(trial.measured.judged_drop, trial.measured.latency_ratio)


def _estimate(mean: Array, deviation: Array, unit: float = 1.0) -> Estimate:
    return Estimate(float(mean[0]) * unit, float(deviation[0]) * unit)


def _expected_improvement(best: float, mean: Array, deviation: Array) -> Array:
    """Jones, Schonlau and Welch 1998, Efficient Global Optimization of Expensive Black-Box Functions."""
    z = (best - mean) / np.maximum(deviation, 1e-9)
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    result: Array = (best - mean) * ndtr(z) + deviation * density
    return result
