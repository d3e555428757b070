"""The models of one moment: what they say of candidates, and which plans they call worth measuring."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr

from autoprec.plan import Assignment
from autoprec.precision import Array, Precision
from autoprec.study.goal import Goal
from autoprec.study.guide.accuracy import AccuracyFit, Evaluated
from autoprec.study.guide.fitting import LatencyFit
from autoprec.study.guide.latency import LatencyModel, Pricing, Timed
from autoprec.study.guide.neighbours import drawn, neighbours, uniform
from autoprec.study.guide.size import SizeFit, combined
from autoprec.study.guide.solve import Cap, Problem, fastest, most_accurate
from autoprec.study.guide.told import KnownPlan, Predicted, PredictedPlan, Proposal, model_fits

LEAST_GAIN = 0.001
"""A search is done when the best candidate's expected gain is below this share of the incumbent's latency."""
_LADDER = (0.5, 0.8, 1.3)
_WIDE_LADDER = (0.1, 0.3, 0.6, 1.6, 4.0)
_LIMITS = (0.97, 1.03, 0.9)
"""Shares of the latency limit that are solved for beside it, since predictions err."""
_SPEED_WORTH = 0.002
"""Of plans of about equal size the faster is better: FP32's whole latency is worth this share of the largest size."""
_NOISE_WORTH = 0.1
"""Of plans of about equal drop the one nearer to FP32 is better: usual noise is worth this share of a usual drop."""
_PROMISES = 3
_LIKELY, _WORTH_TELLING = 0.5, 0.995
_DRAWN = 40
_CENTRES = 3


class View:
    """The models fitted to what was told.

    Args:
        problem: units, choices, additive losses.
        goal: what is minimised, and the bounds.
        pricing: of latencies.
        sizes: of bytes.
        told: measured plans.
        random: of what is drawn.
    """

    def __init__(
        self,
        problem: Problem,
        goal: Goal,
        pricing: Pricing,
        sizes: Pricing,
        told: Sequence[KnownPlan],
        random: np.random.Generator,
    ) -> None:
        self.problem, self.random, self.told = problem, random, told
        self.goal = goal = _reachable(goal, told)
        timed = [
            Timed(t.plan, t.latency, t.layers_ms) for t in told if t.latency is not None and 0 < t.latency < math.inf
        ]
        self.latency = LatencyFit(pricing, timed)
        built = [(t.plan, t.size) for t in told if t.size is not None and t.size > 0]
        self.size = SizeFit(sizes, built)
        feasible = [t for t in told if t.latency is not None and goal.accepts(t.drop, t.latency)]
        self.accepted = sorted(feasible, key=lambda t: (*_cost(goal, t), t.number))
        judged = [Evaluated(t.plan, t.noise, t.drop) for t in told]
        near = max(self.accepted[0].drop, 0.0) if self.accepted else 0.0
        self.accuracy = AccuracyFit(self.problem.loss, judged, goal.max_drop if math.isfinite(goal.max_drop) else near)
        self.trusted = model_fits(told).drop.trusted
        self.bounded = math.isfinite(goal.max_drop) and any(not math.isnan(t.drop) for t in told)
        noises = [t.noise for t in told if t.noise is not None and 0 < t.noise < math.inf]
        self.noise_worth = _NOISE_WORTH * self.accuracy.unit / float(np.median(noises)) if noises else 0.0
        self.incumbent = min(map(self._worth, self.accepted), default=math.inf)

    def best(self, seen: set[tuple[str, ...]], known: Sequence[Assignment], turn: int | None) -> Proposal | None:
        """The candidate of most expected gain; of the ladder only the rung whose turn it is, or all of them."""
        candidates, near = self._candidates(seen, known, turn)
        if not candidates:
            return None
        plans = list(candidates.values())
        origins = [near[key] for key in candidates]
        mean, doubt = self._costs(plans)
        likely = self._likely(plans)
        best = self.incumbent if math.isfinite(self.incumbent) else float(mean.max())
        if not self.trusted:  # lean on measuring: a neighbour of what is accepted may well be accepted too
            likely = np.where([o == "swap" for o in origins], 0.5 + 0.5 * likely, likely)
        gain = likely * _expected_improvement(best, mean, doubt)
        index = int(np.argmax(gain))
        scale = best + self.accuracy.unit if self.goal.objective == "accuracy" else best
        promising = bool(gain[index] > LEAST_GAIN * scale)
        return Proposal(plans[index], origins[index], self._foretold(plans[index]), promising)

    def promises(self, seen: set[tuple[str, ...]], known: Sequence[Assignment]) -> list[PredictedPlan]:
        """The plans of most expected gain that are predicted to be better than the best measured one."""
        candidates, near = self._candidates(seen, known, None)
        if not candidates:
            return []
        plans, origins = list(candidates.values()), [near[key] for key in candidates]
        mean, doubt = self._costs(plans)
        likely = self._likely(plans)
        gain = likely * _expected_improvement(min(self.incumbent, float(mean.max())), mean, doubt)
        worth = (likely >= _LIKELY) & (mean < _WORTH_TELLING * self.incumbent)
        indices = [index for index in np.argsort(-gain) if worth[index]][:_PROMISES]
        return [self._promise(plans[index], origins[index], float(likely[index])) for index in indices]

    def _promise(self, plan: dict[str, Precision], origin: str, likely: float) -> PredictedPlan:
        latency, drop = self.latency.predict([plan]), self.accuracy.drop([plan])
        size = None
        if any(t.size is not None for t in self.told):
            mean, doubt = self.size.fit.predict([plan])
            size = float(mean[0]) * self.size.unit, float(doubt[0]) * self.size.unit
        pairs = [(float(mean[0]), float(doubt[0])) for mean, doubt in (latency, drop)]
        return PredictedPlan(plan=plan, origin=origin, latency=pairs[0], drop=pairs[1], size=size, likely=likely)

    def _costs(self, plans: Sequence[Assignment]) -> tuple[Array, Array]:
        """What is minimised, predicted, with its standard deviation."""
        if self.goal.objective == "size":
            size, doubt = self.size.fit.predict(plans)
            return size + _SPEED_WORTH * self.latency.predict(plans)[0], doubt
        if self.goal.objective == "accuracy":
            drop, doubt = self.accuracy.drop(plans)
            return np.maximum(drop, 0.0) + self.noise_worth * self.accuracy.noise(plans), doubt
        return self.latency.predict(plans)

    def _worth(self, told: KnownPlan) -> float:
        """The same of a measured plan."""
        latency = math.inf if told.latency is None else told.latency
        if self.goal.objective == "size":
            return math.inf if told.size is None else told.size / self.size.unit + _SPEED_WORTH * latency
        if self.goal.objective == "accuracy":
            return max(told.drop, 0.0) + self.noise_worth * (told.noise or 0.0)
        return latency

    def _likely(self, plans: Sequence[Assignment]) -> Array:
        """The probability of meeting the bounds."""
        likely: Array = self.accuracy.feasible(plans) if self.bounded else np.ones(len(plans))
        if math.isfinite(self.goal.max_latency):
            mean, doubt = self.latency.predict(plans)
            likely = likely * ndtr((self.goal.max_latency - mean) / np.maximum(doubt, 1e-9))
        return likely

    def teaching(self, seen: set[tuple[str, ...]]) -> Proposal | None:
        """Of random plans in blocks the one that the models are least certain of."""
        centres = [t.plan for t in self.accepted[:_CENTRES]] + list(uniform(self.problem))
        plans = [drawn(self.problem, centres[n % len(centres)], self.random) for n in range(_DRAWN)]
        plans = [plan for plan in plans if plan_key(plan) not in seen]
        if not plans:
            return None
        mean, doubt = self.latency.predict(plans)
        _, unsure = self.accuracy.drop(plans)
        worth: Array = doubt / np.maximum(mean, 0.05) + 0.1 * np.minimum(unsure / self.accuracy.unit, 1.0)
        plan = plans[int(np.argmax(worth))]
        return Proposal(plan, "explore", self._foretold(plan), True)

    def _candidates(
        self, seen: set[tuple[str, ...]], known: Sequence[Assignment], turn: int | None
    ) -> tuple[dict[tuple[str, ...], dict[str, Precision]], dict[tuple[str, ...], str]]:
        found: dict[tuple[str, ...], dict[str, Precision]] = {}
        origins: dict[tuple[str, ...], str] = {}
        for origin, plan in self._all(known, turn):
            key = plan_key(plan)
            if key not in seen and key not in found:
                found[key], origins[key] = plan, origin
        return found, origins

    def _all(self, known: Sequence[Assignment], turn: int | None) -> Iterator[tuple[str, dict[str, Precision]]]:
        rungs = list(self._accurate_rungs() if self.goal.objective == "accuracy" else self._rungs())
        for rung in rungs if turn is None else [rungs[turn % len(rungs)]]:
            plan = rung.solve(self.problem, known)
            if plan is not None:
                yield rung.origin, plan
        centres = [t.plan for t in self.accepted[:_CENTRES]]
        if not centres and self.told:
            nearest = min(self.told, key=lambda t: (*self.goal.short_of(t.drop, t.latency or math.inf), t.number))
            centres = [nearest.plan]
        for centre in centres:
            for other in neighbours(self.problem, centre, self.random):
                yield "swap", other

    def _rungs(self) -> Iterator[_Rung]:
        """The cheapest plans within a ladder of budgets, by prices as they are and as they might be."""
        drawn, cap = self.latency.drawn(self.random), None
        model, guess = self.latency.model, drawn
        if math.isfinite(self.goal.max_latency):
            cap = Cap(model, self.goal.max_latency)
        if self.goal.objective == "size":
            model = combined(self.size.fit.model, model, _SPEED_WORTH)
            guess = combined(self.size.fit.drawn(self.random), drawn, _SPEED_WORTH)
        if not self.bounded or not any(t.drop > self.goal.max_drop for t in self.told):
            yield _Rung(model=model, losses={}, budget=math.inf, cap=cap, origin="model, no budget")
            yield _Rung(model=guess, losses={}, budget=math.inf, cap=cap, origin="model, prices drawn")
            return
        bound, losses = self.goal.max_drop, self.accuracy.losses
        middle = self.accuracy.budget(bound)
        yield _Rung(model=model, losses=losses, budget=middle, cap=cap, origin=f"model, loss {middle:.2g}")
        yield _Rung(
            model=model, losses=self.accuracy.slopes(), budget=bound, cap=cap, origin=f"model, drop {bound:.2g}"
        )
        yield _Rung(model=guess, losses=losses, budget=middle, cap=cap, origin="model, prices drawn")
        for step in _LADDER if self.trusted else _WIDE_LADDER:
            yield _Rung(
                model=model, losses=losses, budget=middle * step, cap=cap, origin=f"model, loss {middle * step:.2g}"
            )

    def _accurate_rungs(self) -> Iterator[_Rung]:
        """The plans of least loss that are fast enough, by losses and prices as they are and as they might be."""
        losses, model, limit = self.accuracy.losses, self.latency.model, self.goal.max_latency
        yield _Rung(
            model=None, losses=losses, budget=math.inf, cap=Cap(model, limit), origin=f"model, latency {limit:.2g}"
        )
        yield _Rung(
            model=None,
            losses=self.accuracy.slopes(),
            budget=math.inf,
            cap=Cap(model, limit),
            origin=f"model, drop at latency {limit:.2g}",
        )
        yield _Rung(
            model=None,
            losses=losses,
            budget=math.inf,
            cap=Cap(self.latency.drawn(self.random), limit),
            origin="model, prices drawn",
        )
        for step in _LIMITS:
            yield _Rung(
                model=None,
                losses=losses,
                budget=math.inf,
                cap=Cap(model, limit * step),
                origin=f"model, latency {limit * step:.2g}",
            )

    def _foretold(self, plan: Assignment) -> Predicted:
        latency = float(self.latency.predict([plan])[0][0])
        return Predicted(latency, float(self.accuracy.noise([plan])[0]), float(self.accuracy.drop([plan])[0][0]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rung:
    """A program worth solving.

    Attributes:
        model: prices to minimise; None minimises the loss.
        losses: (unit, precision) -> loss.
        budget: the most loss.
        cap: on the latency.
        origin: how to call the answer.
    """

    model: LatencyModel | None
    losses: Mapping[tuple[str, Precision], float]
    budget: float
    cap: Cap | None
    origin: str

    def solve(self, problem: Problem, known: Sequence[Assignment]) -> dict[str, Precision] | None:
        """The best plan that is not known, None where there is none."""
        problem = replace(problem, loss=self.losses)
        if self.model is not None:
            return fastest(problem, self.model, self.budget, known, self.cap)
        assert self.cap is not None
        return most_accurate(problem, self.cap, self.budget, known)


def _reachable(goal: Goal, told: Sequence[KnownPlan]) -> Goal:
    """The goal; or, until some plan is fast enough, to find faster ones."""
    if math.isfinite(goal.max_latency) and not any(
        t.latency is not None and goal.accepts(t.drop, t.latency) for t in told
    ):
        return Goal("latency", goal.max_drop)
    return goal


def _cost(goal: Goal, told: KnownPlan) -> tuple[float, float]:
    latency, noise = (math.inf if value is None else value for value in (told.latency, told.noise))
    return goal.cost(told.drop, latency, told.size, noise)


def _expected_improvement(best: float, mean: Array, deviation: Array) -> Array:
    """Jones, Schonlau and Welch 1998, Efficient Global Optimization of Expensive Black-Box Functions."""
    z = (best - mean) / np.maximum(deviation, 1e-9)
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    result: Array = (best - mean) * ndtr(z) + deviation * density
    return result


def plan_key(plan: Assignment) -> tuple[str, ...]:
    """A plan to look up."""
    return tuple(plan[name].value for name in sorted(plan))
