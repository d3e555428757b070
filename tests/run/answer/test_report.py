"""What a run says of itself."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import autoprec
from autoprec.files.json import as_json
from autoprec.precision import Precision
from autoprec.run.answer.plan_file import plan_of
from autoprec.run.answer.reasons import passed_over
from autoprec.run.answer.report import summary
from autoprec.run.answer.result import TuneResult
from autoprec.run.answer.table import table_rows
from autoprec.stats.drop import Drop
from autoprec.testing import FakeBackend, tiny_data, tiny_model
from autoprec.units.shares import mac_share


@pytest.fixture(name="result", scope="module")
def _result(tmp_path_factory: pytest.TempPathFactory) -> autoprec.SearchResult:
    folder = tmp_path_factory.mktemp("report")
    model = tiny_model(folder)
    return autoprec.search(
        model,
        calib=tiny_data(model, 36),
        max_drop=0.5,
        trials=6,
        backend=FakeBackend(),
        out=folder / "run",
        pins=["head=fp32"],
    )


def test_the_summary_is_complete_and_strict_json(result: autoprec.SearchResult) -> None:
    record = summary(result.tuned)

    assert "Infinity" not in as_json(record)
    assert "NaN" not in as_json(record)
    assert {"chosen", "reason", "candidates", "splits", "seconds", "machine", "best_uniform"} <= set(record)
    assert record["trials"] == len(result.trials)
    assert record["samples"] == {"calibrate": 7, "select": 15, "report": 14}


def test_every_candidate_is_measured_against_fp32_in_the_same_rounds(result: autoprec.SearchResult) -> None:
    rows = summary(result.tuned)["candidates"]
    base = rows["uniform fp32"]["latency_ms"]

    assert result.summary["chosen"] in rows
    for row in rows.values():
        assert row["latency_vs_fp32"]["estimate"] == pytest.approx(row["latency_ms"] / base)
        assert row["drop"]["low"] <= row["drop"]["estimate"] <= row["drop"]["high"]


def test_shares_of_macs_add_up_to_one(result: autoprec.SearchResult) -> None:
    partition = result.tuned.task.subject.partition
    plan = dict.fromkeys((unit.name for unit in partition.units), Precision.FP32)

    assert mac_share(partition, plan) == {"fp32": 1.0}
    shares = mac_share(partition, {**plan, "conv1": Precision.INT8})
    total = sum(unit.macs for unit in partition.units)
    assert shares == {
        "fp32": pytest.approx(1 - partition.unit("conv1").macs / total),
        "int8": pytest.approx(partition.unit("conv1").macs / total),
    }


def test_the_table_marks_the_answer_and_has_a_cell_for_each_heading(result: autoprec.SearchResult) -> None:
    header, rows = table_rows(result.tuned)

    assert all(len(row) == len(header) for row in rows)
    assert [row[0] for row in rows if row[0].endswith("*")] == [f"{result.tuned.chosen} *"]


def test_every_unit_of_the_plan_has_its_own_reason(result: autoprec.SearchResult) -> None:
    units = plan_of(result.tuned).units

    assert units["head"].reason == "pinned by the user"
    assert units["head"].pinned
    assert "noise / signal that it adds alone: " in units["conv1"].reason


def test_the_plan_carries_fingerprints_of_all_it_depends_on(result: autoprec.SearchResult) -> None:
    marks = plan_of(result.tuned).fingerprints

    assert {"graph", "weights", "calibration", "selection", "metric", "ranges", "machine"} == set(marks)
    assert all(marks.values())


def with_uniform(result: autoprec.SearchResult, *, drop: float, judged: float) -> TuneResult:
    """The result as if FP32 had been kept, INT8 were certified and faster, and had dropped by `judged` before."""
    tuned = result.tuned
    fp32 = tuned.unit
    int8 = dict.fromkeys(fp32.plan, Precision.INT8)
    certified = Drop(estimate=drop, low=drop, high=drop, samples=14, method="counted")
    faster = replace(fp32.timing, rounds_ms=tuple(0.5 * ms for ms in fp32.timing.rounds_ms))
    rival = replace(fp32, name="uniform int8", plan=int8, drop=certified, timing=faster, uniform=True)
    trial = tuned.found.trials[0]
    measured = replace(trial.measured, judged_drop=judged, latency_ratio=0.5)
    found = replace(tuned.found, trials=(trial, replace(trial, plan=int8, feasible=False, measured=measured)))
    return replace(tuned, found=found, chosen=fp32.name, candidates={fp32.name: fp32, rival.name: rival})


def test_a_certified_uniform_plan_that_missed_the_bound_in_the_search_is_named_with_the_reason(
    result: autoprec.SearchResult,
) -> None:
    assert passed_over(with_uniform(result, drop=0.1, judged=0.7)) == [
        (
            "uniform int8 is faster and certified on the held-out samples, but could not be the answer: on the 15 "
            "selection samples its drop was 0.7, and 0.5 is allowed"
        )
    ]
    assert passed_over(with_uniform(result, drop=0.6, judged=0.7)) == []


def test_an_answer_with_outputs_of_nan_is_refused_in_words(result: autoprec.SearchResult) -> None:
    tuned = result.tuned
    answer = tuned.answer
    worthless = replace(
        answer,
        outcome=replace(answer.outcome, finite=False, scores=np.full(14, np.nan)),
        drop=Drop(estimate=math.inf, low=math.inf, high=math.inf, samples=14, method="counted"),
    )
    broken = replace(
        tuned,
        candidates={**tuned.candidates, answer.name: worthless},
        found=replace(tuned.found, feasible=False),
    )
    row = next(row for row in table_rows(broken)[1] if row[0] == f"{answer.name} *")
    record = summary(broken)

    assert row[1:5] == ["NaN", "infinite", "-", "no: NaN or infinity"]
    assert "outputs on the held-out samples hold NaN or infinity" in record["reason"]
    assert record["verdict"].startswith("not certified: the outputs hold NaN or infinity")
    assert record["candidates"][answer.name]["finite"] is False


@pytest.mark.parametrize(("apart", "matters"), [(0.001, False), (0.2, True)])
def test_a_difference_from_exact_arithmetic_is_one_only_where_it_matters_for_the_bound(
    result: autoprec.SearchResult, apart: float, matters: bool
) -> None:
    """It is certain in both cases, since all samples differ by the same."""
    tuned = result.tuned
    exact = replace(tuned.answer.outcome, scores=tuned.answer.outcome.scores + apart)

    assert replace(tuned, simulated=exact).differs_from_exact is matters
