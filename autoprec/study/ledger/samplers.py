"""The samplers that a search may use, by name."""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Callable, Mapping

import optuna
from optuna.trial import TrialState

from autoprec.errors import UsageError
from autoprec.precision import Precision
from autoprec.study.goal import Goal
from autoprec.study.guide.solve import Problem
from autoprec.study.sampler import ModelGuidedSampler

_MOST_GRID = 5000


def make_sampler(
    name: str, problem: Problem, prior: Mapping[tuple[str, Precision], float], goal: Goal | float, seed: int
) -> optuna.samplers.BaseSampler:
    """The sampler of that name.

    Args:
        name: one of `SAMPLERS`.
        problem: what may be chosen.
        prior: (unit, precision) -> profiled share of FP32's latency.
        goal: what is minimised, and the bounds; a number is the most drop of the fastest plan.
        seed: the seed of everything that is drawn.

    Raises:
        UsageError: no such sampler, its library is missing, or a grid would be too large.
    """
    if name == "guided":
        return ModelGuidedSampler(problem, prior, goal, seed)
    if name not in _OTHERS:
        raise UsageError(f"--sampler must be one of {', '.join(SAMPLERS)}, got {name!r}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental features of Optuna say so at each use
        return _OTHERS[name](problem, seed)


class _Grid(optuna.samplers.GridSampler):
    """A grid that ends quietly: the search asks and tells, so that there is no loop to stop."""

    def after_trial(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, state: TrialState, values: object
    ) -> None:
        """Nothing."""


def _grid(problem: Problem, seed: int) -> optuna.samplers.BaseSampler:
    space = {name: [p.value for p in options] for name, options in problem.choices.items() if len(options) > 1}
    count = math.prod(map(len, space.values()))
    if count > _MOST_GRID:
        raise UsageError(
            f"a grid over {len(space)} units would have {count:.3g} plans, at most {_MOST_GRID} are allowed; "
            f"pin units with --pin, or choose another --sampler"
        )
    return _Grid(space, seed=seed)


def _gp(problem: Problem, seed: int) -> optuna.samplers.BaseSampler:
    if importlib.util.find_spec("torch") is None:
        raise UsageError("--sampler gp needs PyTorch, which is not installed; pip install torch, or choose another")
    return optuna.samplers.GPSampler(seed=seed, n_startup_trials=4)


_OTHERS: dict[str, Callable[[Problem, int], optuna.samplers.BaseSampler]] = {
    "tpe": lambda problem, seed: optuna.samplers.TPESampler(seed=seed, multivariate=True, n_startup_trials=4),
    "nsga2": lambda problem, seed: optuna.samplers.NSGAIISampler(seed=seed, population_size=10),
    "gp": _gp,
    "random": lambda problem, seed: optuna.samplers.RandomSampler(seed=seed),
    "grid": _grid,
}
SAMPLERS = ("guided", *_OTHERS)
