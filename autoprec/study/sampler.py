"""An Optuna sampler that models latency and accuracy, for any study whose parameters are units' precisions."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.study.goal import Goal, goal_of
from autoprec.study.guide.proposals import ModelFits, Proposal, model_fits
from autoprec.study.guide.proposer import Proposer
from autoprec.study.guide.solve import Problem
from autoprec.study.optuna_adapter import (
    CLAIM,
    LATENCY,
    LAYERS,
    NOISE,
    ORIGIN,
    PREDICTED,
    PROPOSED_AS,
    SIZE,
    chosen_params,
    measurement_of,
    prediction_of,
    set_system_attributes,
)
from autoprec.study.trial import Measurement, Trial

_CLAIMS = 5
"""How many plans a trial tries to claim before it takes one that another trial may hold."""
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


class ModelGuidedSampler(optuna.samplers.BaseSampler):
    """Proposes plans by solving fitted models of latency and accuracy exactly, then by swaps round the best plan.

    Each unit is one categorical parameter with the unit's name, whose values are names of precisions; units with a
    single choice are no parameters. The objective, which is minimised, is what the goal says: the latency relative to
    FP32, the bytes, or the drop. Bounds are constraints, set in the objective by
    `trial.set_constraint(name, drop - max_drop)`, or by `latency - max_latency` where the latency is bounded, with a
    name that begins with "latency"; without constraints every plan is accepted. A trial may give the noise of its
    outputs in the user attribute "noise", its latency in "latency" where neither objective nor constraint gives it, and
    in "layers_ms" the milliseconds of each unit in a profile. Plans of finished and of running trials are not proposed
    again, in this process or another one.

    Args:
        problem: units with their edges, the choices, and the additive losses.
        prior: (unit, precision) -> share of FP32's latency, as far as known before anything is measured.
        goal: what is minimised, and the bounds; a number is the most drop of the fastest plan.
        seed: the seed of everything that is drawn; the same trials and seed give the same proposal.
    """

    def __init__(
        self, problem: Problem, prior: Mapping[tuple[str, Precision], float], goal: Goal | float, seed: int = 0
    ) -> None:
        self.problem, self.goal = problem, goal_of(goal)
        self._proposer = Proposer(problem, prior, self.goal, seed)
        self._fixed = {unit: options[0] for unit, options in problem.choices.items() if len(options) == 1}
        self._space: dict[str, BaseDistribution] = {
            unit: CategoricalDistribution([p.value for p in options])
            for unit, options in problem.choices.items()
            if len(options) > 1
        }
        self._fallback = optuna.samplers.RandomSampler(seed=seed)
        self._last: tuple[str, Proposal | None] | None = None
        self._refused: list[Assignment] = []
        self._one_at_a_time = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_one_at_a_time"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._one_at_a_time = threading.Lock()

    def refuse(self, plan: Assignment) -> None:
        """Never propose this plan again in this process, whatever becomes of its trial.

        A plan of one unit alone stands for every plan in which that unit has this precision.
        """
        self._refused.append(dict(plan))

    def propose(self, study: optuna.Study, excluded: Sequence[Assignment] = ()) -> Proposal | None:
        """What the next trial would be, None where every plan was tried; nothing is stored.

        Args:
            study: the study, with the trials so far.
            excluded: plans that are not to be proposed besides those of the trials.
        """
        trials, busy = self._trials(study)
        taken, refused = [*busy, *excluded], self._refused
        plans = [sorted(plan.items()) for plan in (*taken, *refused)]
        figures = [(t.number, t.measured.latency_ratio, t.measured.judged_drop, t.measured.bytes) for t in trials]
        state = repr([figures, plans, len(refused)])
        last = self._last
        if last is None or last[0] != state:  # solving takes seconds, and a study is asked more often than it changes
            last = self._last = (state, self._proposer.propose(trials, taken, refused))
        return last[1]

    def fidelities(self, study: optuna.Study) -> ModelFits:
        """How well the models predicted the study's plans before these were measured."""
        return model_fits(self.trials(study))

    def trials(self, study: optuna.Study) -> list[Trial]:
        """The measured plans of a study, as the models see them."""
        return self._trials(study)[0]

    def stop(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """A callback for `study.optimize` that ends it when no plan is predicted to be better within the bounds."""
        proposal = self.propose(study)
        if proposal is None or not proposal.promising:
            study.stop()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """One categorical parameter for each unit that has a choice."""
        return dict(self._space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """The plan of the next trial.

        Two processes may ask at once, and the same trials lead both to the same plans. So a trial leaves the best
        ones to those that began before it and have none yet; then it writes its plan down and looks again, and where
        another holds the same one, the later trial chooses anew, or whichever has not begun to measure.
        """
        if not search_space:
            return {}
        excluded: list[Assignment] = []
        with self._one_at_a_time:  # threads of this process
            for _ in range(self._undecided_before(study, trial)):
                theirs = self.propose(study, excluded)
                excluded += [] if theirs is None else [theirs.plan]
            plan: Assignment = {}
            for _ in range(_CLAIMS):
                proposal = self.propose(study, excluded)
                if proposal is None:
                    return {}  # all plans were tried, so any plan will do
                plan = proposal.plan
                self._claim(study, trial, proposal)
                if not self._taken(study, trial, plan):
                    break
                excluded.append(plan)
        return {unit: plan[unit].value for unit in search_space}

    def _undecided_before(self, study: optuna.Study, trial: FrozenTrial) -> int:
        """Running trials that began before this one and hold no plan yet."""
        running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return sum(other.number < trial.number and self._plan(other) is None for other in running)

    def _taken(self, study: optuna.Study, trial: FrozenTrial, plan: Assignment) -> bool:
        """Whether another trial has this plan and will keep it."""
        for other in study.get_trials(deepcopy=False):
            if other.number == trial.number or self._plan(other) != plan or other.state is TrialState.FAIL:
                continue
            if other.number < trial.number or other.params or other.state is not TrialState.RUNNING:
                return True
        return False

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """A random value, for parameters that are not units."""
        return self._fallback.sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Reseed what is drawn for parameters that are not units; plans that run elsewhere are excluded anyway."""
        self._fallback.reseed_rng()

    def _claim(self, study: optuna.Study, trial: FrozenTrial, proposal: Proposal) -> None:
        plan = {unit: precision.value for unit, precision in proposal.plan.items()}
        attributes: dict[str, Any] = {CLAIM: plan, PROPOSED_AS: proposal.origin}
        predicted = proposal.predicted
        if predicted is not None:
            attributes[PREDICTED] = [predicted.latency, predicted.noise, predicted.drop]
        set_system_attributes(study, trial, attributes)

    def _trials(self, study: optuna.Study) -> tuple[list[Trial], list[dict[str, Precision]]]:
        """The measured plans, and those that wait or are being measured."""
        measured, busy = [], []
        for trial in study.get_trials(deepcopy=False):
            plan = self._plan(trial)
            if plan is None:
                continue
            if trial.state in _FINISHED:
                measured.append(self._trial(trial, plan))
            elif trial.state in (TrialState.RUNNING, TrialState.WAITING):
                busy.append(plan)
        return measured, busy

    def _plan(self, trial: FrozenTrial) -> dict[str, Precision] | None:
        chosen = chosen_params(trial)
        if any(unit not in chosen for unit in self._space):
            return None
        return {unit: self._fixed.get(unit) or Precision(chosen[unit]) for unit in self.problem.choices}

    def _trial(self, trial: FrozenTrial, plan: dict[str, Precision]) -> Trial:
        measured = measurement_of(trial) or self._figures(trial)
        return Trial(
            number=trial.number,
            origin=str(trial.user_attrs.get(ORIGIN) or trial.system_attrs.get(PROPOSED_AS) or ""),
            plan=plan,
            measured=measured,
            feasible=self.goal.accepts(measured.judged_drop, measured.latency_ratio),
            predicted=prediction_of(trial),
        )

    def _figures(self, trial: FrozenTrial) -> Measurement:
        """The figures of a trial in a study of the user's own, by its value, its constraints and its attributes."""
        goal, attributes = self.goal, trial.user_attrs
        value = _finite(trial.value) if trial.state is TrialState.COMPLETE else None
        latencies = [x for name, x in trial.constraints.items() if name.startswith(LATENCY)]
        drops = [x for name, x in trial.constraints.items() if not name.startswith(LATENCY)]
        if not math.isfinite(goal.max_drop):
            latencies, drops = latencies + drops, []
        bounded = goal.max_latency + max(latencies) if latencies else None
        latency = value if goal.timed else bounded if bounded is not None else _finite(attributes.get(LATENCY))
        drop = goal.max_drop + max(drops) if drops else math.nan
        if goal.objective == "accuracy":
            drop = math.inf if value is None else value
        noise = _finite(attributes.get(NOISE))
        return Measurement(
            drop=drop,
            judged_drop=drop,
            noise=math.nan if noise is None else noise,
            kl=None,
            agreement=None,
            latency_ratio=math.inf if latency is None else latency,
            bytes=value if goal.objective == "size" else _finite(attributes.get(SIZE)),
            layers_ms=attributes.get(LAYERS),
        )


def _finite(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
