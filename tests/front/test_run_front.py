"""The front of a run from Python, and the study's description that it is read from."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

import autoprec
from autoprec.errors import RunDirectoryError, UsageError
from autoprec.front.run_front import RunFront
from autoprec.graph.model import to_bytes
from autoprec.precision import Precision
from autoprec.run.study_description import read_study_description
from autoprec.run.unit_reasons import fixed_reason, searched_reason
from autoprec.testing import tiny_data, tiny_model

FP32, INT8 = Precision.FP32, Precision.INT8


@pytest.fixture(name="result", scope="module")
def _result(tmp_path_factory: pytest.TempPathFactory) -> autoprec.SearchResult:
    folder = tmp_path_factory.mktemp("run")
    model = tiny_model(folder)
    return autoprec.search(
        model, calib=tiny_data(model, 48), max_drop=0.5, trials=8, threads=1, out=folder / "run", pins=("^head$=fp32",)
    )


@pytest.fixture(name="front")
def _front(result: autoprec.SearchResult) -> RunFront:
    return autoprec.load_front(result.directory)


def test_the_front_has_the_trials_of_the_search(result: autoprec.SearchResult, front: RunFront) -> None:
    assert tuple(point.trial for point in front.points) == result.trials
    assert front.answer is not None
    assert dict(front.answer.trial.plan) == result.plan.precisions()
    assert front.within().point is front.answer


def test_sizes_and_shares_are_those_of_the_lowered_models(result: autoprec.SearchResult, front: RunFront) -> None:
    lowerer, units = result.tuned.task.subject.lowerer, result.tuned.task.subject.partition.units
    for point in front.points:
        plan = point.trial.plan
        assert point.size == len(to_bytes(lowerer.lower(plan, result.tuned.ranges).ir))
        low = sum(unit.macs for unit in units if plan[unit.name] is INT8) / sum(unit.macs for unit in units)
        assert point.mac_share.get("int8", 0.0) == pytest.approx(low, abs=1e-12)


def test_a_plan_of_the_front_can_be_lowered_in_memory(result: autoprec.SearchResult, front: RunFront) -> None:
    assert front.answer is not None
    plan = front.plan(front.answer)

    assert plan.units == result.plan.units
    assert plan.fingerprints == result.plan.fingerprints
    assert plan.ranges == result.plan.ranges


def test_the_two_questions_are_twins(front: RunFront) -> None:
    """What is fastest within a drop has, among the plans as fast as it, the least drop."""
    for point in front.front():
        fastest = front.within(max(point.drop, 0.0)).point
        assert fastest is not None
        best = front.fast_enough(fastest.trial.measured.latency_ratio).point
        assert best is not None
        if fastest is not front.answer:
            assert (best.drop, best.cost("latency")) == (fastest.drop, fastest.cost("latency"))


def test_milliseconds_are_a_share_of_fp32s(front: RunFront) -> None:
    assert front.fp32_ms is not None
    for point in front.front():
        ratio = point.trial.measured.latency_ratio
        assert point.latency_ms == pytest.approx(ratio * front.fp32_ms)
        assert (
            front.fast_enough(max_ms=ratio * front.fp32_ms * (1 + 1e-9)).point
            == front.fast_enough(ratio * (1 + 1e-9)).point
        )


@pytest.mark.parametrize("limit", [0.0, -1.0, math.nan])
def test_a_limit_must_be_above_zero(front: RunFront, limit: float) -> None:
    with pytest.raises(UsageError, match="--max-latency must be more than 0"):
        front.fast_enough(limit)
    with pytest.raises(UsageError, match="--max-latency must be more than 0"):
        front.fast_enough(max_ms=limit)


def test_a_bound_without_end_comes_back(result: autoprec.SearchResult, tmp_path: Path) -> None:
    """JSON knows no infinity."""
    stored = read_study_description(result.directory / "study.json")
    for studied in (stored, replace(stored, max_drop=math.inf), replace(stored, confidence=0.95, answer=None)):
        studied.save(tmp_path / "study.json")
        assert read_study_description(tmp_path / "study.json") == studied


def test_units_that_are_found_otherwise_now_are_refused(result: autoprec.SearchResult) -> None:
    path = result.directory / "study.json"
    whole = path.read_text(encoding="utf-8")
    record = json.loads(whole)
    record["units"]["conv1"]["key"] = "0" * 16
    path.write_text(json.dumps(record), encoding="utf-8")
    try:
        with pytest.raises(RunDirectoryError, match="are not those that this autoprec finds in the model"):
            autoprec.load_front(result.directory)
    finally:
        path.write_text(whole, encoding="utf-8")


def test_reasons(result: autoprec.SearchResult) -> None:
    subject = result.tuned.task.subject

    assert fixed_reason(subject, "head") == "pinned by the user"
    assert fixed_reason(subject, "conv1") is None
    assert searched_reason({INT8: 0.012345}, FP32, "trial 3", True) == (
        "fp32 in trial 3; noise / signal that it adds alone: 0.012 in int8"
    )
    assert searched_reason({}, INT8, "uniform int8", False) == (
        "int8 in uniform int8, the best plan found, which misses the bound; its sensitivity was not measured"
    )
