"""A case so small that every plan was measured: latency, noise and drop of each, as arrays.

Plans are numbered as the product of the free units' choices, the last unit changing fastest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler

from autoprec.precision import Precision
from autoprec.study.guide.neighbours import uniform_assignments
from autoprec.study.guide.solve import Problem
from autoprec.study.sampler import ModelGuidedSampler
from autoprec.units.records import Edge, Partition, Unit

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Table:
    """Every plan of a case.

    Attributes:
        problem: with the measured sensitivities as losses.
        prior: (unit, precision) -> profiled share of FP32's latency.
        latency: relative to FP32, float64[plans].
        drop: what is bounded, float64[plans].
        noise: of the outputs, float64[plans].
        about: model, hardware, versions, how it was measured.
    """

    problem: Problem
    prior: Mapping[tuple[str, Precision], float]
    latency: Array
    drop: Array
    noise: Array
    about: Mapping[str, Any]

    @property
    def free(self) -> dict[str, tuple[Precision, ...]]:
        return {name: tuple(options) for name, options in self.problem.choices.items() if len(options) > 1}

    def number(self, plan: Mapping[str, Precision]) -> int:
        place = 0
        for name, options in self.free.items():
            place = place * len(options) + options.index(plan[name])
        return place

    def plan(self, number: int) -> dict[str, Precision]:
        plan = {name: options[0] for name, options in self.problem.choices.items()}
        for name, options in reversed(self.free.items()):
            number, digit = divmod(number, len(options))
            plan[name] = options[digit]
        return plan

    def optimum(self, bound: float) -> float:
        return float(self.latency[self.drop <= bound].min())


def load(path: Path, drop: str = "drop") -> Table:
    with np.load(path, allow_pickle=False) as file:
        about = json.loads(str(file["about"]))
        arrays = {name: file[name].astype(np.float64) for name in ("latency", "noise", drop)}
    choices = {name: tuple(map(Precision, options)) for name, options in about["choices"].items()}
    units = tuple(
        Unit(name=n, kind="conv", nodes=(n,), anchors=(n,), inputs=(), outputs=(), macs=1, weights=1, key=n)
        for n in choices
    )
    edges = tuple(Edge(a, b, f"{a}>{b}", size) for a, b, size in about["edges"])
    losses = {(unit, Precision(p)): value for unit, p, value in about["losses"]}
    prior = {(unit, Precision(p)): value for unit, p, value in about["prior"]}
    problem = Problem(Partition(units=units, reasons={}, edges=edges), choices, losses, Precision(about["carrier"]))
    return Table(
        problem=problem,
        prior=prior,
        latency=arrays["latency"],
        drop=arrays[drop],
        noise=arrays["noise"],
        about=about,
    )


def disturbed(table: Table, seed: int, spread: float = 0.2) -> Table:
    """The table with sensitivities and profile known less well: each times a random factor of e^(+-spread)."""
    random = np.random.default_rng(seed)
    losses = {key: value * float(np.exp(random.normal(0, spread))) for key, value in table.problem.loss.items()}
    prior = {key: value * float(np.exp(random.normal(0, spread))) for key, value in table.prior.items()}
    return replace(table, problem=replace(table.problem, loss=losses), prior=prior)


def searched(
    table: Table, sampler: BaseSampler, bound: float, evaluations: int, *, stop: bool = False, enough: float = 0.0
) -> Array:
    """The least latency within the bound after each evaluation, over the optimum's; infinite before there is one.

    A plan that a sampler asks for again costs nothing, as in the tool. The search ends when it only repeats itself or
    the latency is at most `enough` times the optimum's.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=sampler)
    space: dict[str, BaseDistribution] = {
        name: CategoricalDistribution([p.value for p in options]) for name, options in table.free.items()
    }
    seen: set[int] = set()
    best: list[float] = []
    optimum, asked = table.optimum(bound), 0
    for plan in uniform_assignments(table.problem):
        study.enqueue_trial({name: plan[name].value for name in space})
    while len(seen) < evaluations and asked < 5 * evaluations:
        asked += 1
        trial = study.ask(fixed_distributions=space)
        number = table.number({name: Precision(value) for name, value in trial.params.items()})
        trial.set_constraint("drop", table.drop[number] - bound)
        trial.set_user_attr("noise", table.noise[number])
        study.tell(trial, table.latency[number])
        if number not in seen:
            seen.add(number)
            met = table.latency[number] / optimum if table.drop[number] <= bound else np.inf
            best.append(min(met, best[-1] if best else np.inf))
        if best[-1] <= enough:
            break
        if stop and isinstance(sampler, ModelGuidedSampler):
            proposal = sampler.propose(study)
            if proposal is None or not proposal.promising:
                break
    return np.array(best)


def greedy(table: Table, bound: float) -> Array:
    """As `searched`, for the usual rule: lower the least sensitive unit first, keep it where the bound still holds."""
    losses, optimum = table.problem.loss, table.optimum(bound)
    moves = sorted((losses.get((name, p), 0.0), name, p) for name, options in table.free.items() for p in options[1:])
    plan = {name: options[0] for name, options in table.free.items()}
    best: list[float] = []
    number = table.number(plan)
    best.append(float(table.latency[number]) / optimum if table.drop[number] <= bound else np.inf)
    for _, name, precision in moves:
        number = table.number({**plan, name: precision})
        if table.drop[number] <= bound:
            plan[name] = precision
            best.append(min(best[-1], float(table.latency[number]) / optimum))
        else:
            best.append(best[-1])
    return np.array(best)
