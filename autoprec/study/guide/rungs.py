"""The programs that are solved for candidates: a ladder of budgets round the one that the models believe in."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.study.goal import Goal
from autoprec.study.guide.accuracy import AccuracyFit
from autoprec.study.guide.fitting import LatencyFit
from autoprec.study.guide.latency import LatencyModel
from autoprec.study.guide.size import SizeFit, combined
from autoprec.study.guide.solve import Cap, Problem, fastest, most_accurate

SPEED_WORTH = 0.002
"""Of plans of about equal size the faster is better: FP32's whole latency is worth this share of the largest size."""
_LADDER = (0.5, 0.8, 1.3)
_WIDE_LADDER = (0.1, 0.3, 0.6, 1.6, 4.0)
_LIMITS = (0.97, 1.03, 0.9)
"""Shares of the latency limit that are solved for beside it, since predictions have errors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A program worth solving.

    Attributes:
        model: the prices to minimise; None minimises the loss.
        losses: (unit, precision) -> loss.
        budget: the most loss.
        cap: a bound on the latency, None where there is none.
        origin: what the solution is called.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The models fitted to the trials of one moment.

    Attributes:
        latency: the model of the latency.
        size: the model of the size.
        accuracy: the models of noise and drop.
        trusted: whether the predicted drops may be relied on.
        bounded: whether a bound on the drop matters: there is one, and drops were judged.
        missed: whether a measured plan has missed that bound.
    """

    latency: LatencyFit
    size: SizeFit
    accuracy: AccuracyFit
    trusted: bool
    bounded: bool
    missed: bool


def rungs(goal: Goal, models: Models, random: np.random.Generator) -> Iterator[Rung]:
    """The programs for a goal; with prices as they are and as they might be."""
    return _accurate_rungs(goal, models, random) if goal.objective == "accuracy" else _cheap_rungs(goal, models, random)


def _cheap_rungs(goal: Goal, models: Models, random: np.random.Generator) -> Iterator[Rung]:
    """The cheapest plans within a ladder of budgets of loss."""
    drawn, cap = models.latency.drawn(random), None
    model, guess = models.latency.model, drawn
    if math.isfinite(goal.max_latency):
        cap = Cap(model, goal.max_latency)
    if goal.objective == "size":
        model = combined(models.size.fit.model, model, SPEED_WORTH)
        guess = combined(models.size.fit.drawn(random), drawn, SPEED_WORTH)
    if not models.bounded or not models.missed:
        yield Rung(model=model, losses={}, budget=math.inf, cap=cap, origin="model, no budget")
        yield Rung(model=guess, losses={}, budget=math.inf, cap=cap, origin="model, prices drawn")
        return
    bound, losses, slopes = goal.max_drop, models.accuracy.losses, models.accuracy.slopes()
    middle = models.accuracy.budget(bound)
    yield Rung(model=model, losses=losses, budget=middle, cap=cap, origin=f"model, loss {middle:.2g}")
    yield Rung(model=model, losses=slopes, budget=bound, cap=cap, origin=f"model, drop {bound:.2g}")
    yield Rung(model=guess, losses=losses, budget=middle, cap=cap, origin="model, prices drawn")
    for step in _LADDER if models.trusted else _WIDE_LADDER:
        budget = middle * step
        yield Rung(model=model, losses=losses, budget=budget, cap=cap, origin=f"model, loss {budget:.2g}")


def _accurate_rungs(goal: Goal, models: Models, random: np.random.Generator) -> Iterator[Rung]:
    """The plans of least loss that are fast enough."""
    losses, model, limit = models.accuracy.losses, models.latency.model, goal.max_latency
    drawn = models.latency.drawn(random)

    def rung(losses: Mapping[tuple[str, Precision], float], cap: Cap, origin: str) -> Rung:
        return Rung(model=None, losses=losses, budget=math.inf, cap=cap, origin=origin)

    yield rung(losses, Cap(model, limit), f"model, latency {limit:.2g}")
    yield rung(models.accuracy.slopes(), Cap(model, limit), f"model, drop at latency {limit:.2g}")
    yield rung(losses, Cap(drawn, limit), "model, prices drawn")
    for step in _LIMITS:
        yield rung(losses, Cap(model, limit * step), f"model, latency {limit * step:.2g}")
