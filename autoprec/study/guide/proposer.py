"""Which plan to measure next: candidates from exact solutions and neighbours, ranked by their expected gain."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.study.goal import Goal
from autoprec.study.guide.neighbours import uniform_assignments
from autoprec.study.guide.plan_table import plan_key
from autoprec.study.guide.pricing import Pricing
from autoprec.study.guide.proposals import PredictedPlan, Proposal
from autoprec.study.guide.refusals import forbidden
from autoprec.study.guide.size import size_pricing
from autoprec.study.guide.solve import Problem
from autoprec.study.guide.view import Prices, View
from autoprec.study.origin import Origin
from autoprec.study.trial import Trial

EXPLORE_EVERY = 6
"""One plan in so many is measured for what it teaches, against blind spots of the models."""


class Proposer:
    """Ranks candidates by their expected gain: how much better, times how likely within the bounds.

    Args:
        problem: units, choices, additive losses.
        prior: (unit, precision) -> profiled share of FP32's latency.
        goal: what is minimised, and the bounds.
        seed: the seed of everything that is drawn.
    """

    def __init__(self, problem: Problem, prior: Mapping[tuple[str, Precision], float], goal: Goal, seed: int) -> None:
        self.problem, self.goal, self.seed = problem, goal, seed
        self._prices = Prices(latency=Pricing(problem.partition, prior, problem.carrier), size=size_pricing(problem))

    def propose(
        self, trials: Sequence[Trial], taken: Sequence[Assignment] = (), refused: Sequence[Assignment] = ()
    ) -> Proposal | None:
        """The next plan; None where nothing is left at all.

        Args:
            trials: measured plans.
            taken: plans that are being measured.
            refused: plans that the runtime refused.
        """
        if refused:
            whole = [plan for plan in refused if len(plan) == len(self.problem.choices)]
            return self._avoiding(trials, refused).propose(trials, [*taken, *whole])
        seen = {plan_key(t.plan) for t in trials} | {plan_key(plan) for plan in taken}
        dear = Precision.FP32 if self.goal.unit is not Precision.FP32 else None
        for plan in uniform_assignments(self.problem):
            # Where FP32 is not the clock's unit, its engine takes long to build and is the last resort.
            if plan_key(plan) not in seen and dear not in plan.values():
                return Proposal(plan, Origin.UNIFORM.value, None, True)
        view, known = self._view(trials, len(seen)), [*(t.plan for t in trials), *taken]
        if len(seen) % EXPLORE_EVERY == EXPLORE_EVERY - 1:
            return view.teaching(seen) or view.best(seen, known, None)
        # One budget of the ladder at a time is solved for, and all of them before the search is called done.
        for turn in (len(seen), None):
            found = view.best(seen, known, turn)
            if found is not None and found.promising:
                return found
        return found

    def better_plans(self, trials: Sequence[Trial]) -> list[PredictedPlan]:
        """Plans that were not measured and that are predicted to be better than every measured one, best first."""
        return self._view(trials, len(trials)).better_plans(
            {plan_key(t.plan) for t in trials}, [t.plan for t in trials]
        )

    def _view(self, trials: Sequence[Trial], turn: int) -> View:
        random = np.random.default_rng([self.seed, turn])
        return View(self.problem, self.goal, self._prices, trials, random)

    def _avoiding(self, trials: Sequence[Trial], refused: Sequence[Assignment]) -> Proposer:
        """A proposer that avoids what the runtime probably refuses."""
        bad = forbidden(refused, [t.plan for t in trials])
        choices = {
            unit: tuple(p for p in options if (unit, p) not in bad) or tuple(options)
            for unit, options in self.problem.choices.items()
        }
        other = copy.copy(self)
        other.problem = replace(self.problem, choices=choices)
        return other
