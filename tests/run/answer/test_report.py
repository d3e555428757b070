"""What a run says of itself."""

from __future__ import annotations

import pytest

import autoprec
from autoprec.files.json import as_json
from autoprec.precision import Precision
from autoprec.run.answer.plan_file import plan_of
from autoprec.run.answer.report import summary
from autoprec.run.answer.table import table_rows
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
    assert "int8 adds noise" in units["conv1"].reason


def test_the_plan_carries_fingerprints_of_all_it_depends_on(result: autoprec.SearchResult) -> None:
    marks = plan_of(result.tuned).fingerprints

    assert {"graph", "weights", "calibration", "selection", "metric", "ranges", "machine"} == set(marks)
    assert all(marks.values())
