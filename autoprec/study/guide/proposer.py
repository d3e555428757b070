"""Which plan to measure next: candidates from exact solutions and neighbours, ranked by what they promise."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.study.goal import Goal
from autoprec.study.guide.latency import Pricing
from autoprec.study.guide.neighbours import uniform
from autoprec.study.guide.refusals import forbidden
from autoprec.study.guide.size import size_pricing
from autoprec.study.guide.solve import Problem
from autoprec.study.guide.told import KnownPlan, PredictedPlan, Proposal
from autoprec.study.guide.view import View, plan_key

EXPLORE_EVERY = 6
"""Each so many plans one is measured for what it teaches, against blind spots of the models."""


class Proposer:
    """Ranks candidates by their expected gain: how much better, times how likely within the bounds.

    Args:
        problem: units, choices, additive losses.
        prior: (unit, precision) -> profiled share of FP32's latency.
        goal: what is minimised, and the bounds.
        seed: of what is drawn.
    """

    def __init__(self, problem: Problem, prior: Mapping[tuple[str, Precision], float], goal: Goal, seed: int) -> None:
        self.problem, self.goal, self.seed = problem, goal, seed
        self._pricing = Pricing(problem.partition, prior, problem.carrier)
        self._sizes = size_pricing(problem)

    def propose(
        self, told: Sequence[KnownPlan], taken: Sequence[Assignment] = (), refused: Sequence[Assignment] = ()
    ) -> Proposal | None:
        """The next plan; None where nothing is left at all.

        Args:
            told: measured plans.
            taken: plans that are being measured.
            refused: plans that the runtime refused.
        """
        if refused:
            return self._avoiding(told, refused).propose(told, [*taken, *refused])
        seen = {plan_key(t.plan) for t in told} | {plan_key(plan) for plan in taken}
        for plan in uniform(self.problem):
            if plan_key(plan) not in seen:
                return Proposal(plan, "uniform", None, True)
        view, known = self._view(told, len(seen)), [*(t.plan for t in told), *taken]
        if len(seen) % EXPLORE_EVERY == EXPLORE_EVERY - 1:
            return view.teaching(seen) or view.best(seen, known, None)
        # One budget of the ladder at a time is solved for, and all of them before the search is called done.
        for turn in (len(seen), None):
            found = view.best(seen, known, turn)
            if found is not None and found.promising:
                return found
        return found

    def promises(self, told: Sequence[KnownPlan]) -> list[PredictedPlan]:
        """Plans that were not measured and promise more than every measured one, the most promising first."""
        return self._view(told, len(told)).promises({plan_key(t.plan) for t in told}, [t.plan for t in told])

    def _view(self, told: Sequence[KnownPlan], turn: int) -> View:
        random = np.random.default_rng([self.seed, turn])
        return View(self.problem, self.goal, self._pricing, self._sizes, told, random)

    def _avoiding(self, told: Sequence[KnownPlan], refused: Sequence[Assignment]) -> Proposer:
        """One that leaves alone what the runtime probably refuses."""
        bad = forbidden(refused, [t.plan for t in told])
        choices = {
            unit: tuple(p for p in options if (unit, p) not in bad) or tuple(options)
            for unit, options in self.problem.choices.items()
        }
        other = copy.copy(self)
        other.problem = replace(self.problem, choices=choices)
        return other
