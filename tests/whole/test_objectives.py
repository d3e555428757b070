"""Whole runs for each objective, on a backend whose clock has no noise."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import autoprec
from autoprec.api import search
from autoprec.errors import UsageError
from autoprec.gate.evidence import read_evidence
from autoprec.graph.model import to_bytes
from autoprec.plan import load_plan
from autoprec.precision import Precision
from autoprec.study.ledger.samplers import SAMPLERS
from autoprec.testing import FakeBackend, tiny_data

from ..helpers.cpu_kernels import needs_exact_products

FP32, INT8 = Precision.FP32, Precision.INT8


def searched(model: Path, out: Path, **options: Any) -> autoprec.SearchResult:
    settings = {"calib": tiny_data(model, 36), "metric": "sqnr", "trials": 32, "backend": FakeBackend(), "threads": 1}
    return search(model, out=out, **{**settings, **options})


def chosen(result: autoprec.SearchResult) -> dict[str, Any]:
    record: dict[str, Any] = result.summary["candidates"][result.summary["chosen"]]
    return record


@pytest.fixture(name="every", scope="module")
def _every(model: Path, tmp_path_factory: pytest.TempPathFactory) -> autoprec.SearchResult:
    """Every plan of the model, measured."""
    return searched(model, tmp_path_factory.mktemp("every"), sampler="grid", trials=40, max_drop=1.0)


@needs_exact_products
def test_the_smallest_plan_within_the_bound_is_found(model: Path, tmp_path: Path, every: autoprec.SearchResult) -> None:
    result = searched(model, tmp_path, objective="size", max_drop=1e-3)
    able = [t.measured for t in every.trials if t.measured.judged_drop <= 1e-3]

    assert chosen(result)["bytes"] <= 1.005 * min(m.bytes or math.inf for m in able)
    assert chosen(result)["bytes"] < 0.6 * result.summary["candidates"]["uniform fp32"]["bytes"]
    assert result.reason.startswith(f"the smallest within the bound, of {len(result.trials)} measured plans: ")
    assert len(result.trials) < len(every.trials)


def test_bytes_are_those_of_the_lowered_model(every: autoprec.SearchResult) -> None:
    lowerer = every.tuned.task.subject.lowerer
    for trial in every.trials[::4]:
        assert trial.measured.bytes == len(to_bytes(lowerer.lower(trial.plan, every.tuned.ranges).ir))


def test_the_most_accurate_plan_that_is_fast_enough_is_found(
    model: Path, tmp_path: Path, every: autoprec.SearchResult
) -> None:
    for limit in (0.7, 0.85):
        result = searched(model, tmp_path, max_latency=limit)
        able = [t.measured for t in every.trials if t.measured.latency_ratio <= limit]

        assert chosen(result)["latency_vs_fp32"]["estimate"] <= limit
        found = next(t for t in result.trials if dict(t.plan) == result.plan.precisions())
        assert found.measured.judged_drop <= 1.05 * min(m.judged_drop for m in able)
        assert (result.summary["objective"], result.summary["max_latency"]) == ("accuracy", {"share": limit})


def test_milliseconds_are_the_share_that_they_make(model: Path, tmp_path: Path) -> None:
    fp32_ms = searched(model, tmp_path / "first", max_latency=0.8).summary["candidates"]["uniform fp32"]["latency_ms"]
    shares = searched(model, tmp_path / "shares", max_latency=0.8)
    result = searched(model, tmp_path / "ms", max_latency_ms=0.8 * fp32_ms)

    assert result.plan.precisions() == shares.plan.precisions()
    assert result.summary["max_latency"] == {"share": pytest.approx(0.8), "ms": 0.8 * fp32_ms}
    assert f"where {0.8 * fp32_ms:g} ms is allowed" in result.reason


@needs_exact_products
def test_both_bounds_hold(model: Path, tmp_path: Path, every: autoprec.SearchResult) -> None:
    result = searched(model, tmp_path, max_latency=0.9, max_drop=2e-3)

    assert result.feasible
    assert chosen(result)["latency_vs_fp32"]["estimate"] <= 0.9
    assert all(
        t.feasible == (t.measured.judged_drop <= 2e-3 and t.measured.latency_ratio <= 0.9) for t in result.trials
    )


def test_an_unreachable_latency_gives_the_fastest_plan_and_says_so(
    model: Path, tmp_path: Path, every: autoprec.SearchResult
) -> None:
    result = searched(model, tmp_path, max_latency=0.01)
    fastest = min(t.measured.latency_ratio for t in every.trials)

    assert not result.feasible
    assert chosen(result)["latency_vs_fp32"]["estimate"] == pytest.approx(fastest)
    assert result.reason.startswith("no plan meets the bound: the fastest found takes ")
    assert "0.01 of it is allowed; allow more by --max-latency, free pinned units, or offer" in result.reason
    assert result.summary["stopped"] == "no other plan is predicted to meet the bound"


def test_throughput_is_another_quantity_than_latency(model: Path, tmp_path: Path) -> None:
    """Alone conv1 is faster in INT8, among several batches it is slower there."""
    backend = FakeBackend(busy={"conv1": (1.0, 3.0)})
    busy = searched(model, tmp_path, objective="throughput", backend=backend, max_drop=1.0)
    alone = searched(model, tmp_path, backend=backend, max_drop=1.0)

    assert busy.plan.precisions()["conv1"] is FP32
    assert alone.plan.precisions()["conv1"] is INT8
    record, fp32 = (busy.summary["candidates"][name] for name in ("uniform int8", "uniform fp32"))
    assert record["throughput_vs_fp32"]["estimate"] == pytest.approx(record["samples_per_s"] / fp32["samples_per_s"])
    assert record["latency_vs_fp32"]["estimate"] != pytest.approx(
        1 / record["throughput_vs_fp32"]["estimate"], rel=0.01
    )
    assert busy.reason.startswith(f"the highest throughput within the bound, of {len(busy.trials)} measured plans: ")


@pytest.mark.parametrize("options", [{}, {"objective": "size"}, {"objective": "throughput"}, {"max_latency": 0.95}])
def test_the_answer_is_never_worse_in_the_objective_than_the_best_uniform_plan(
    model: Path, tmp_path: Path, options: dict[str, Any]
) -> None:
    """Whatever is slow: machines with costs of their own."""
    for conv, head in ((0.3, 1.0), (1.4, 0.2)):
        backend = FakeBackend({"Conv": (1.0, conv), "Gemm": (0.5, head)}, busy={"Conv": (1.0, 1.5 - conv)})
        result = searched(model, tmp_path / f"{conv}{head}", backend=backend, max_drop=1.0, trials=6, **options)
        best, mine = result.summary["candidates"][result.summary["best_uniform"]], chosen(result)
        if not result.feasible:
            continue
        objective = result.summary["objective"]
        if objective == "accuracy":
            assert mine["sqnr_db"] >= best["sqnr_db"] - 3 or mine["drop"]["estimate"] <= best["drop"]["estimate"]
            assert mine["latency_vs_fp32"]["estimate"] <= 0.95
        key, sign = {"latency": ("latency_ms", 1), "size": ("bytes", 1), "throughput": ("samples_per_s", -1)}.get(
            objective, ("latency_ms", 0)
        )
        assert sign * mine[key] <= sign * best[key]


@pytest.mark.parametrize("sampler", [s for s in SAMPLERS if s != "gp"])
@pytest.mark.parametrize("options", [{"objective": "size", "max_drop": 1e-3}, {"max_latency": 0.9}])
def test_every_sampler_works_for_every_objective(
    model: Path, tmp_path: Path, sampler: str, options: dict[str, Any]
) -> None:
    result = searched(model, tmp_path, sampler=sampler, trials=8, **options)

    assert result.feasible
    goal = result.tuned.goal
    values = [t for t in result.trials if t.feasible]
    best = min(
        goal.cost(t.measured.judged_drop, t.measured.latency_ratio, t.measured.bytes, t.measured.noise) for t in values
    )
    found = next(t for t in result.trials if dict(t.plan) == result.plan.precisions()).measured
    mine = goal.cost(found.judged_drop, found.latency_ratio, found.bytes, found.noise)
    assert mine[0] <= 1.005 * best[0]


def test_files_say_the_objective_and_a_gate_can_read_them(model: Path, tmp_path: Path) -> None:
    """Without a bound on the drop too, which JSON cannot write as a number."""
    folder = searched(model, tmp_path, max_latency=0.9).save()
    record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    plan = load_plan(folder / "plan.json")

    assert (record["objective"], record["max_drop"], record["verdict"]) == (
        "accuracy",
        None,
        "no bound on the drop was asked for",
    )
    assert (plan.evidence["objective"], plan.evidence["max_latency"]) == ("accuracy", {"share": 0.9})
    evidence = read_evidence(folder / "evidence.json", plan)
    assert (evidence.found["objective"], evidence.metric["max_drop"]) == ("accuracy", 0.01)


def test_another_objective_goes_on_from_what_was_measured(model: Path, tmp_path: Path) -> None:
    first = searched(model, tmp_path, max_drop=1e-3)
    second = searched(model, tmp_path, objective="size", max_drop=1e-3)
    busy = searched(model, tmp_path, objective="throughput", max_drop=1e-3)

    assert [t.plan for t in second.trials[: len(first.trials)]] == [t.plan for t in first.trials]
    assert busy.trials[0].number == 0  # another clock's figures are not mixed with these


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"objective": "speed"}, "--objective must be one of latency, throughput, size, got 'speed'"),
        ({"objective": "accuracy"}, "for the most accurate plan that is fast enough give --max-latency instead"),
        (
            {"max_latency": 0.0},
            "--max-latency must be more than 0, got 0: a share of FP32's latency such as 0.5, or 5ms",
        ),
        ({"max_latency_ms": math.nan}, "--max-latency must be more than 0, got nan"),
        ({"max_latency": 0.5, "max_latency_ms": 3.0}, "a share of FP32's latency or milliseconds, got both"),
        (
            {"max_latency": 0.5, "objective": "throughput"},
            "it cannot go with --objective throughput; leave one of them",
        ),
    ],
)
def test_what_cannot_be_asked(model: Path, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as error:
        searched(model, tmp_path / "run", **options)
    assert words in str(error.value)
    assert not (tmp_path / "run").exists()
