"""The same plans are chosen from the same measurements: searches that an earlier version made are run again.

Each recording holds what a search was given and every measurement in order. A search over it asks a lookup instead of
a machine, so that nothing but the code decides.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autoprec.errors import BackendError
from autoprec.precision import Precision
from autoprec.run.answer.confirm import choose_answer
from autoprec.run.answer.side_by_side import SideBySide, finalists
from autoprec.run.settings import Settings
from autoprec.run.uniform import seed_plans, uniform_plans
from autoprec.study.goal import Goal
from autoprec.study.guide.solve import Problem
from autoprec.study.ledger.ask_tell import Ledger
from autoprec.study.ledger.samplers import make_sampler
from autoprec.study.loop import Search
from autoprec.study.outcome import SearchOutcome
from autoprec.study.participant import Wanted
from autoprec.study.trial import Measurement
from autoprec.timing.compare import Timing
from autoprec.units.records import Edge, Partition, Unit

STUDIES = sorted((Path(__file__).parent / "data" / "studies").glob("*.json.gz"))
SLOW = ("kwt1", "mobilenet_v1_075", "etinynet", "stories260k")
"""Networks of many units, whose programs take the solver longest."""


def name_of(path: Path) -> str:
    return path.name.removesuffix(".json.gz")


CASES = [
    pytest.param(path, id=name_of(path), marks=[pytest.mark.slow] if name_of(path) in SLOW else []) for path in STUDIES
]


def recording(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(gzip.decompress(path.read_bytes()))
    return found


def precisions(plan: Mapping[str, str]) -> dict[str, Precision]:
    return {unit: Precision(word) for unit, word in plan.items()}


def words(plan: Mapping[str, Precision]) -> dict[str, str]:
    return {unit: precision.value for unit, precision in plan.items()}


def goal_of(kept: Mapping[str, Any]) -> Goal:
    objective, max_drop, max_latency = kept["goal"]
    return Goal(objective, *(math.inf if bound is None else bound for bound in (max_drop, max_latency)))


def problem_of(kept: Mapping[str, Any]) -> Problem:
    partition = kept["partition"]
    units = tuple(
        Unit(**{key: tuple(value) if isinstance(value, list) else value for key, value in unit.items()})
        for unit in partition["units"]
    )
    edges = tuple(Edge(**edge) for edge in partition["edges"])
    choices = {unit: tuple(map(Precision, options)) for unit, options in kept["choices"].items()}
    return Problem(
        Partition(units=units, reasons=partition["reasons"], edges=edges),
        choices,
        table(kept["loss"]),
        Precision(kept["carrier"]),
    )


def table(rows: list[tuple[str, str, float]]) -> dict[tuple[str, Precision], float]:
    return {(unit, Precision(word)): value for unit, word, value in rows}


def subject_of(problem: Problem) -> Any:
    """As much of a model as seeds and names of plans need."""
    return SimpleNamespace(
        partition=problem.partition, choices=problem.choices, space=SimpleNamespace(carrier=problem.carrier)
    )


class Replay:
    """A search that measures by looking it up; what it asks for is kept."""

    def __init__(self, kept: Mapping[str, Any]) -> None:
        problem, goal = problem_of(kept), goal_of(kept)
        self.asked: list[dict[str, Any]] = []
        self._rows = {str(row["plan"]): row for row in kept["measured"]}
        sampler = make_sampler(kept["sampler"], problem, table(kept["prior"]), goal, kept["seed"])
        seeds = {name: precisions(plan) for name, plan in kept["seeds"].items()}
        self.search = Search(
            seeds, Ledger(None, kept["name"], problem.choices, goal, sampler), self.measure, limit=kept["limit"]
        )

    def measure(self, plan: Mapping[str, Precision], wanted: Wanted) -> Measurement:
        rival = wanted.rival if math.isfinite(wanted.rival) else None
        self.asked.append({"plan": words(plan), "rival": rival, "everything": wanted.everything})
        row = self._rows.get(str(words(plan)))
        assert row is not None, f"plan {len(self.asked)} was not asked for when the study was recorded: {words(plan)}"
        if "refused" in row:
            raise BackendError(row["refused"])
        stored = row["measurement"]
        never_none = ("drop", "judged_drop", "noise", "latency_ratio")
        return Measurement(**{k: math.inf if v is None and k in never_none else v for k, v in stored.items()})


def chosen_by(kept: Mapping[str, Any], found: SearchOutcome) -> tuple[str, SearchOutcome, tuple[str, ...]]:
    """The answer by the recorded rounds, and which finalists were set aside."""
    goal = goal_of(kept)
    settings = Settings(
        model="recorded.onnx",
        max_drop=goal.max_drop,
        seed=kept["seed"],
        objective=None if goal.objective == "accuracy" else goal.objective,
        max_latency=goal.max_latency if math.isfinite(goal.max_latency) else None,
    )
    uniform = uniform_plans(subject_of(problem_of(kept)))
    timings = {name: Timing(tuple(rounds)) for name, rounds in kept["timings"].items()}
    trials = {name: trial for name, trial in finalists(found, uniform).items() if name in timings}
    side = SideBySide(trials=trials, timings=timings, sizes=kept["sizes"], uniform=uniform)
    return choose_answer(settings, side, goal, found)


def test_there_are_recordings_of_the_example_and_of_networks_of_the_zoo() -> None:
    assert {name_of(path) for path in STUDIES} >= {"digits", "digits-size", "digits-max-latency", "resnet20_cifar10"}


@pytest.mark.parametrize("path", CASES)
def test_a_recorded_study_is_searched_and_answered_in_the_same_way(path: Path) -> None:
    kept = recording(path)
    replay = Replay(kept)
    found = replay.search.run()
    wanted = [{key: row[key] for key in ("plan", "rival", "everything")} for row in kept["measured"]]

    assert replay.asked == wanted
    assert [trial.origin for trial in found.trials] == kept["origins"]
    assert [t.measured.to_record() for t in found.trials] == [
        row["measurement"] for row in kept["measured"] if "measurement" in row
    ]
    stopped = kept["stopped"].replace("no plan promises", "no other plan is predicted")  # the words have changed since

    assert (found.feasible, found.stop.text, found.best.number) == (kept["feasible"], stopped, kept["best"])
    assert [trial.number for trial in found.finalists] == kept["finalists"]

    chosen, confirmed, set_aside = chosen_by(kept, found)

    assert (confirmed.feasible, chosen, list(set_aside)) == (kept["met"], kept["chosen"], kept["set_aside"])
    plans = {f"trial {trial.number}": trial.plan for trial in found.trials} | uniform_plans(
        subject_of(problem_of(kept))
    )
    assert words(plans[chosen]) == kept["answer"]


@pytest.mark.parametrize("path", CASES)
def test_a_recorded_study_would_begin_with_the_same_plans(path: Path) -> None:
    kept = recording(path)
    seeds = seed_plans(subject_of(problem_of(kept)))

    assert {name: words(plan) for name, plan in seeds.items()} == kept["seeds"]
    assert list(seeds) == list(kept["seeds"])
