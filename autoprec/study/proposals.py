"""Which plan to measure next: candidates from exact solutions and neighbours, ranked by what they promise."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import ndtr

from autoprec.precision import Array, Precision
from autoprec.study.accuracy import AccuracyFit, Evaluated, Fidelity, fidelity
from autoprec.study.latency import Assignment, LatencyFit, LatencyModel, Pricing
from autoprec.study.neighbours import drawn, neighbours, uniform
from autoprec.study.refusals import forbidden
from autoprec.study.solve import Problem, fastest

EXPLORE_EVERY = 6
"""Each so many plans one is measured for what it teaches, against blind spots of the models."""
LEAST_GAIN = 0.001
"""A search is done when the best candidate's expected gain is below this share of the incumbent's latency."""
_LADDER = (0.5, 0.8, 1.3)
_WIDE_LADDER = (0.1, 0.3, 0.6, 1.6, 4.0)
_DRAWN = 40
_CENTRES = 3


@dataclass(frozen=True, slots=True)
class Foretold:
    """What the models said of a plan before it was measured.

    Attributes:
        latency: relative to FP32.
        noise: of the outputs.
        drop: as judged.
    """

    latency: float
    noise: float
    drop: float


@dataclass(frozen=True, slots=True)
class Told:
    """A plan that was measured.

    Attributes:
        number: of the trial.
        plan: unit -> precision.
        latency: relative to FP32, None where it was not timed.
        drop: as judged; NaN where nothing is bounded.
        noise: of the outputs, None where it is not known.
        foretold: before the measurement, None for plans that no model proposed.
    """

    number: int
    plan: Assignment
    latency: float | None
    drop: float
    noise: float | None = None
    foretold: Foretold | None = None


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan worth measuring.

    Attributes:
        plan: unit -> precision.
        origin: where it comes from, in words.
        foretold: what the models say of it.
        promising: whether it may be faster within the bound; else it is for learning only.
    """

    plan: dict[str, Precision]
    origin: str
    foretold: Foretold | None
    promising: bool


@dataclass(frozen=True, slots=True)
class Fidelities:
    """How well the models foretold plans that they were not fitted to."""

    latency: Fidelity
    noise: Fidelity
    drop: Fidelity


def fidelities(told: Sequence[Told]) -> Fidelities:
    """Of all plans that were foretold and then measured."""
    known = [(t, t.foretold) for t in told if t.foretold is not None]
    return Fidelities(
        fidelity([(t.number, f.latency, t.latency) for t, f in known if t.latency is not None]),
        fidelity([(t.number, f.noise, t.noise) for t, f in known if t.noise is not None], logarithmic=True),
        fidelity([(t.number, f.drop, t.drop) for t, f in known]),
    )


class Proposer:
    """Ranks candidates by their expected gain: how much faster, times how likely within the bound.

    Args:
        problem: units, choices, additive losses.
        prior: (unit, precision) -> profiled share of FP32's latency.
        bound: the most drop.
        seed: of what is drawn.
    """

    def __init__(self, problem: Problem, prior: Mapping[tuple[str, Precision], float], bound: float, seed: int) -> None:
        self.problem, self.bound, self.seed = problem, bound, seed
        self._pricing = Pricing(problem.partition, prior, problem.carrier)

    def propose(
        self, told: Sequence[Told], taken: Sequence[Assignment] = (), refused: Sequence[Assignment] = ()
    ) -> Proposal | None:
        """The next plan; None where nothing is left at all.

        Args:
            told: measured plans.
            taken: plans that are being measured.
            refused: plans that the runtime refused.
        """
        if refused:
            return self._avoiding(told, refused).propose(told, [*taken, *refused])
        seen = {_key(t.plan) for t in told} | {_key(plan) for plan in taken}
        random = np.random.default_rng([self.seed, len(seen)])
        timed = [(t.plan, t.latency) for t in told if t.latency is not None and 0 < t.latency < math.inf]
        for plan in uniform(self.problem):
            if _key(plan) not in seen:
                return Proposal(plan, "uniform", None, True)
        view, known = _View(self, told, timed, random), [*(t.plan for t in told), *taken]
        if len(seen) % EXPLORE_EVERY == EXPLORE_EVERY - 1:
            return view.teaching(seen) or view.best(seen, known, None)
        # One budget of the ladder at a time is solved for, and all of them before the search is called done.
        for turn in (len(seen), None):
            found = view.best(seen, known, turn)
            if found is not None and found.promising:
                return found
        return found

    def _avoiding(self, told: Sequence[Told], refused: Sequence[Assignment]) -> Proposer:
        """One that leaves alone what the runtime probably refuses."""
        bad = forbidden(refused, [t.plan for t in told])
        choices = {
            unit: tuple(p for p in options if (unit, p) not in bad) or tuple(options)
            for unit, options in self.problem.choices.items()
        }
        other = copy.copy(self)
        other.problem = replace(self.problem, choices=choices)
        return other


class _View:
    """The models of one moment."""

    def __init__(
        self, proposer: Proposer, told: Sequence[Told], timed: Sequence[tuple[Assignment, float]],
        random: np.random.Generator,
    ) -> None:  # fmt: skip
        self.problem, self.bound, self.random = proposer.problem, proposer.bound, random
        self.told = told
        self.latency = LatencyFit(proposer._pricing, timed)
        judged = [Evaluated(t.plan, t.noise, t.drop) for t in told]
        self.accuracy = AccuracyFit(self.problem.loss, judged, self.bound)
        self.trusted = fidelities(told).drop.trusted
        self.bounded = any(not math.isnan(t.drop) for t in told)
        feasible = [t for t in told if t.latency is not None and not t.drop > self.bound]
        self.accepted = sorted(feasible, key=lambda t: (t.latency, t.number))
        self.incumbent = min((t.latency for t in feasible if t.latency is not None), default=math.inf)

    def best(self, seen: set[tuple[str, ...]], known: Sequence[Assignment], turn: int | None) -> Proposal | None:
        """The candidate of most expected gain; of the ladder only the rung whose turn it is, or all of them."""
        candidates, near = self._candidates(seen, known, turn)
        if not candidates:
            return None
        plans = list(candidates.values())
        origins = [near[key] for key in candidates]
        mean, doubt = self.latency.predict(plans)
        likely = self.accuracy.feasible(plans) if self.bounded else np.ones(len(plans))
        best = self.incumbent if math.isfinite(self.incumbent) else float(mean.max())
        if not self.trusted:  # lean on measuring: a neighbour of what is accepted may well be accepted too
            likely = np.where([o == "swap" for o in origins], 0.5 + 0.5 * likely, likely)
        gain = likely * _expected_improvement(best, mean, doubt)
        place = int(np.argmax(gain))
        promising = bool(gain[place] > LEAST_GAIN * best)
        return Proposal(plans[place], origins[place], self._foretold(plans[place]), promising)

    def teaching(self, seen: set[tuple[str, ...]]) -> Proposal | None:
        """Of random plans in blocks the one that the models are least certain of."""
        centres = [t.plan for t in self.accepted[:_CENTRES]] + list(uniform(self.problem))
        plans = [drawn(self.problem, centres[n % len(centres)], self.random) for n in range(_DRAWN)]
        plans = [plan for plan in plans if _key(plan) not in seen]
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
            key = _key(plan)
            if key not in seen and key not in found:
                found[key], origins[key] = plan, origin
        return found, origins

    def _all(self, known: Sequence[Assignment], turn: int | None) -> Iterator[tuple[str, dict[str, Precision]]]:
        rungs = list(self._rungs())
        for model, losses, budget, origin in rungs if turn is None else [rungs[turn % len(rungs)]]:
            plan = fastest(replace(self.problem, loss=losses), model, budget, known)
            if plan is not None:
                yield origin, plan
        centres = [t.plan for t in self.accepted[:_CENTRES]]
        if not centres and self.told:
            centres = [min(self.told, key=lambda t: (t.drop, t.number)).plan]
        for centre in centres:
            for other in neighbours(self.problem, centre, self.random):
                yield "swap", other

    def _rungs(self) -> Iterator[tuple[LatencyModel, Mapping[tuple[str, Precision], float], float, str]]:
        """What is worth solving for: prices, losses, the budget for them, and how to call the answer."""
        model = self.latency.model
        if not self.bounded or not any(t.drop > self.bound for t in self.told):
            yield model, {}, math.inf, "model, no budget"
            yield self.latency.drawn(self.random), {}, math.inf, "model, prices drawn"
            return
        losses, middle = self.accuracy.losses, self.accuracy.budget(self.bound)
        yield model, losses, middle, f"model, loss {middle:.2g}"
        yield model, self.accuracy.slopes(), self.bound, f"model, drop {self.bound:.2g}"
        yield self.latency.drawn(self.random), losses, middle, "model, prices drawn"
        for step in _LADDER if self.trusted else _WIDE_LADDER:
            yield model, losses, middle * step, f"model, loss {middle * step:.2g}"

    def _foretold(self, plan: Assignment) -> Foretold:
        latency = float(self.latency.predict([plan])[0][0])
        return Foretold(latency, float(self.accuracy.noise([plan])[0]), float(self.accuracy.drop([plan])[0][0]))


def _expected_improvement(best: float, mean: Array, deviation: Array) -> Array:
    """Jones, Schonlau and Welch 1998, Efficient Global Optimization of Expensive Black-Box Functions."""
    z = (best - mean) / np.maximum(deviation, 1e-9)
    density = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    result: Array = (best - mean) * ndtr(z) + deviation * density
    return result


def _key(plan: Assignment) -> tuple[str, ...]:
    return tuple(plan[name].value for name in sorted(plan))
