"""The model-guided sampler in plain Optuna studies, with a plain function."""

from __future__ import annotations

import copy
import itertools
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from autoprec.errors import UsageError
from autoprec.precision import Precision
from autoprec.study.goal import Goal
from autoprec.study.guide.latency import LatencyModel
from autoprec.study.guide.solve import Problem
from autoprec.study.ledger.samplers import SAMPLERS, make_sampler
from autoprec.study.sampler import ModelGuidedSampler
from autoprec.units.records import Edge, Partition, Unit

FP32, INT8 = Precision.FP32, Precision.INT8
NAMES = [f"u{number}" for number in range(10)]
BOUND = 0.05


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)


Truth = Callable[[dict[str, str]], tuple[float, float, float]]


def case() -> tuple[Problem, dict[tuple[str, Precision], float], Truth]:
    """A chain of units, a prior that is 30 % wrong, and the truth: plan -> latency, drop, noise."""
    random = np.random.default_rng(4)
    places = ["", *NAMES, ""]
    sizes = [int(size) for size in random.integers(500, 5000, len(places) - 1)]
    edges = tuple(Edge(a, b, f"{a}>{b}", s) for (a, b), s in zip(itertools.pairwise(places), sizes, strict=True))
    partition = Partition(
        units=tuple(
            Unit(name=n, kind="conv", nodes=(n,), anchors=(n,), inputs=(), outputs=(), macs=1, weights=1, key=n)
            for n in NAMES
        ),
        reasons={},
        edges=edges,
    )
    unary = {(n, FP32): float(random.uniform(0.05, 0.15)) for n in NAMES}
    unary |= {(n, INT8): unary[n, FP32] * float(random.uniform(0.2, 0.7)) for n in NAMES}
    truth = LatencyModel(unary=unary, up=5e-6, down=5e-6, cast=0.0, edge=0.005, constant=0.02)
    loss = {(n, INT8): float(np.exp(random.normal(-6, 1))) for n in NAMES}
    context = {key: value * float(np.exp(random.normal(0, 0.3))) for key, value in loss.items()}
    prior = {key: value * float(np.exp(random.normal(0, 0.3))) for key, value in unary.items()}
    problem = Problem(partition, dict.fromkeys(NAMES, (FP32, INT8)), loss, FP32)

    def measure(params: dict[str, str]) -> tuple[float, float, float]:
        plan = {name: Precision(value) for name, value in params.items()}
        noise = sum(context.get(item, 0.0) for item in plan.items())
        return truth.predict(partition, plan, FP32), 2 * noise**0.9, noise

    return problem, prior, measure


PROBLEM, PRIOR, MEASURE = case()
EVERYTHING = [
    MEASURE(dict(zip(NAMES, values, strict=True))) for values in itertools.product(("fp32", "int8"), repeat=len(NAMES))
]
OPTIMUM = min(latency for latency, drop, _ in EVERYTHING if drop <= BOUND)


def objective(trial: optuna.Trial) -> float:
    params = {name: str(trial.suggest_categorical(name, ["fp32", "int8"])) for name in NAMES}
    latency, drop, noise = MEASURE(params)
    trial.set_constraint("drop", drop - BOUND)
    trial.set_user_attr("noise", noise)
    return latency


def guided(seed: int = 0) -> ModelGuidedSampler:
    return ModelGuidedSampler(PROBLEM, PRIOR, BOUND, seed)


def once_at_most(value: float) -> Callable[[optuna.Study, FrozenTrial], None]:
    """End the study with the first plan within the bounds whose objective is at most this."""

    def stop(study: optuna.Study, trial: FrozenTrial) -> None:
        if trial.value is not None and trial.value <= value and max(trial.constraints.values()) <= 0:
            study.stop()

    return stop


def plans(study: optuna.Study) -> list[tuple[str, ...]]:
    return [tuple(trial.params[name] for name in NAMES) for trial in study.trials]


def test_the_case_is_no_gift() -> None:
    """Neither uniform plan is the answer, and few plans are within 1 % of it."""
    good = [latency for latency, drop, _ in EVERYTHING if drop <= BOUND and latency <= 1.01 * OPTIMUM]

    assert EVERYTHING[-1][1] > BOUND
    assert EVERYTHING[0][0] > 1.2 * OPTIMUM
    assert len(good) <= 10


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_the_optimum_of_a_plain_study_in_40_of_1024_plans(seed: int) -> None:
    study = optuna.create_study(sampler=guided(seed))
    study.optimize(objective, 40, callbacks=[once_at_most(1.01 * OPTIMUM)])
    best = min(t.value or 9 for t in study.trials if max(t.constraints.values()) <= 0)

    assert best <= 1.01 * OPTIMUM


def test_it_ends_the_study_itself_when_nothing_promises_to_be_faster() -> None:
    sampler = guided()
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, 200, callbacks=[sampler.stop])

    assert len(study.trials) < 80
    best = min(t.value or 9 for t in study.trials if max(t.constraints.values()) <= 0)
    assert best <= 1.03 * OPTIMUM


def test_without_a_bound_it_finds_the_fastest_plan() -> None:
    def unbounded(trial: optuna.Trial) -> float:
        return MEASURE({name: str(trial.suggest_categorical(name, ["fp32", "int8"])) for name in NAMES})[0]

    study = optuna.create_study(sampler=guided())
    study.optimize(unbounded, 25)

    assert study.best_value <= 1.01 * min(latency for latency, _, _ in EVERYTHING)


def test_equal_seeds_give_equal_studies() -> None:
    runs = []
    for _ in range(2):
        study = optuna.create_study(sampler=guided(3))
        study.optimize(objective, 12)
        runs.append(plans(study))

    assert runs[0] == runs[1]


def test_running_plans_are_not_proposed_again() -> None:
    study = optuna.create_study(sampler=guided())
    study.optimize(objective, 8)
    space = {name: optuna.distributions.CategoricalDistribution(["fp32", "int8"]) for name in NAMES}
    asked = [study.ask(fixed_distributions=space) for _ in range(6)]

    assert len({tuple(trial.params.values()) for trial in asked} | set(plans(study)[:8])) == 14


def test_a_sampler_can_be_copied_to_another_process() -> None:
    study = optuna.create_study(sampler=copy.deepcopy(guided()))
    study.optimize(objective, 3)

    assert len(study.trials) == 3


def test_threads_measure_no_plan_twice() -> None:
    study = optuna.create_study(sampler=guided())
    study.optimize(objective, 24, n_jobs=3)

    assert len(set(plans(study))) == 24


WORKER = """
import sys
from pathlib import Path
import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
sys.path.insert(0, sys.argv[1])
import test_sampler as here
optuna.logging.set_verbosity(optuna.logging.ERROR)
storage = JournalStorage(JournalFileBackend(sys.argv[2]))
study = optuna.load_study(study_name="s", storage=storage, sampler=here.guided())
study.optimize(here.objective, 8)
"""


def test_processes_share_a_study_and_measure_no_plan_twice(tmp_path: Path) -> None:
    storage = JournalStorage(JournalFileBackend(str(tmp_path / "log")))
    optuna.create_study(study_name="s", storage=storage)
    command = [sys.executable, "-c", WORKER, str(Path(__file__).parent), str(tmp_path / "log")]
    workers = [subprocess.Popen(command) for _ in range(2)]
    codes = [worker.wait(timeout=600) for worker in workers]
    study = optuna.load_study(study_name="s", storage=storage)

    assert codes == [0, 0]
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 16
    assert len(set(plans(study))) == 16


def test_units_without_a_choice_are_no_parameters_and_hold_in_every_plan() -> None:
    choices = {**PROBLEM.choices, "u3": (INT8,)}
    sampler = ModelGuidedSampler(replace(PROBLEM, choices=choices), PRIOR, BOUND, 0)
    study = optuna.create_study(sampler=sampler)

    def pinned(trial: optuna.Trial) -> float:
        params = {n: str(trial.suggest_categorical(n, ["fp32", "int8"])) for n in NAMES if n != "u3"}
        latency, drop, _ = MEASURE({**params, "u3": "int8"})
        trial.set_constraint("drop", drop - BOUND)
        return latency

    study.optimize(pinned, 12)
    proposal = sampler.propose(study)

    assert all("u3" not in trial.params for trial in study.trials)
    assert proposal is not None
    assert proposal.plan["u3"] is INT8


def test_other_parameters_of_a_study_are_drawn() -> None:
    def both(trial: optuna.Trial) -> float:
        return objective(trial) + 0.1 * trial.suggest_float("beside", 0, 1)

    study = optuna.create_study(sampler=guided())
    study.optimize(both, 6)

    assert len({trial.params["beside"] for trial in study.trials}) == 6


def test_what_is_predicted_is_compared_with_what_is_measured_of_26_different_plans() -> None:
    sampler = guided()
    study = optuna.create_study(sampler=sampler)
    study.optimize(objective, 26)
    models = sampler.fidelities(study)

    assert models.latency.plans >= 20
    assert (models.latency.rank or 0) > 0.8
    assert (models.latency.error or 9) < 0.05
    assert (models.noise.rank or 0) > 0.9
    assert models.drop.trusted
    assert len(set(plans(study))) == 26, "a plan was measured twice"


def test_every_plan_measured_leaves_nothing_to_propose() -> None:
    small = Problem(
        Partition(units=PROBLEM.partition.units[:2], reasons={}, edges=()),
        {"u0": (FP32, INT8), "u1": (FP32, INT8)},
        PROBLEM.loss,
        FP32,
    )
    sampler = ModelGuidedSampler(small, PRIOR, BOUND, 0)
    study = optuna.create_study(sampler=sampler)

    def tiny(trial: optuna.Trial) -> float:
        values = [trial.suggest_categorical(name, ["fp32", "int8"]) for name in NAMES[:2]]
        trial.set_constraint("drop", -1.0)
        return 1.0 - 0.1 * values.count("int8")

    study.optimize(tiny, 4)

    assert len({tuple(trial.params.values()) for trial in study.trials}) == 4
    assert sampler.propose(study) is None
    study.optimize(tiny, 1)  # and a fifth trial is no error


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "gp"])
def test_every_sampler_can_be_asked_and_told(name: str) -> None:
    study = optuna.create_study(sampler=make_sampler(name, PROBLEM, PRIOR, BOUND, 0))
    study.optimize(objective, 6)

    assert len(study.trials) == 6


def test_a_grid_that_is_too_large_is_refused_with_its_size() -> None:
    large = {f"u{number}": (FP32, INT8) for number in range(20)}
    with pytest.raises(UsageError, match=r"a grid over 20 units would have 1.05e\+06 plans, at most 5000 are allowed"):
        make_sampler("grid", replace(PROBLEM, choices=large), PRIOR, BOUND, 0)


def test_a_sampler_without_its_library_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="--sampler gp needs PyTorch, which is not installed; pip install torch"):
        make_sampler("gp", PROBLEM, PRIOR, BOUND, 0)


def test_an_unknown_sampler_is_a_usage_error_that_lists_them() -> None:
    with pytest.raises(UsageError, match="--sampler must be one of guided, tpe, nsga2, gp, random, grid, got 'best'"):
        make_sampler("best", PROBLEM, PRIOR, BOUND, 0)


BYTES = {(name, p): (place + 1) * (400 if p is FP32 else 110) for place, name in enumerate(NAMES) for p in (FP32, INT8)}


def size(params: dict[str, str]) -> int:
    return 900 + sum(BYTES[name, Precision(value)] for name, value in params.items())


@pytest.mark.parametrize("times", [1.1, 1.4])
def test_the_twin_problem_in_a_plain_study(times: float) -> None:
    """The drop is minimised, and the latency is the constraint: some times the least that there is."""
    limit = times * min(latency for latency, _, _ in EVERYTHING)

    def accurate(trial: optuna.Trial) -> float:
        params = {name: str(trial.suggest_categorical(name, ["fp32", "int8"])) for name in NAMES}
        latency, drop, noise = MEASURE(params)
        trial.set_constraint("latency", latency - limit)
        trial.set_user_attr("noise", noise)
        return drop

    study = optuna.create_study(sampler=ModelGuidedSampler(PROBLEM, PRIOR, Goal("accuracy", max_latency=limit)))
    least = min(drop for latency, drop, _ in EVERYTHING if latency <= limit)
    study.optimize(accurate, 40, callbacks=[once_at_most(1.05 * least)])
    best = min(t.value or 0.0 for t in study.trials if max(t.constraints.values()) <= 0)

    assert best <= 1.05 * least


def test_the_smallest_plan_within_a_bound_in_a_plain_study() -> None:
    def small(trial: optuna.Trial) -> float:
        params = {name: str(trial.suggest_categorical(name, ["fp32", "int8"])) for name in NAMES}
        latency, drop, _ = MEASURE(params)
        trial.set_constraint("drop", drop - BOUND)
        trial.set_user_attr("latency", latency)
        return size(params)

    weighted = [replace(u, weights=100 * (place + 1)) for place, u in enumerate(PROBLEM.partition.units)]
    problem = replace(PROBLEM, partition=Partition(units=tuple(weighted), reasons={}, edges=PROBLEM.partition.edges))
    study = optuna.create_study(sampler=ModelGuidedSampler(problem, PRIOR, Goal("size", BOUND)))
    study.optimize(small, 40)
    rows = [dict(zip(NAMES, row, strict=True)) for row in itertools.product(("fp32", "int8"), repeat=len(NAMES))]
    least = min(size(params) for params in rows if MEASURE(params)[1] <= BOUND)

    assert min(t.value or 0.0 for t in study.trials if max(t.constraints.values()) <= 0) <= 1.01 * least
