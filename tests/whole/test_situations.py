"""Plans are timed in each situation that is asked for, and the search goes by the one that counts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import autoprec
from autoprec.errors import UsageError
from autoprec.precision import Precision
from autoprec.report.answer import answer_section
from autoprec.report.read import read_run
from autoprec.run.answer.table import table_rows
from autoprec.testing import FakeBackend, tiny_data


class ByBatch(FakeBackend):
    """Convolutions on codes are fast with many samples, and slow with few."""

    def for_run(self, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> FakeBackend:
        samples = shapes["x"][0]
        return ByBatch({"Conv": (0.1 * samples, 0.04 * samples if samples > 4 else 0.3 * samples)})


@pytest.fixture(name="found", scope="module")
def _found(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, autoprec.SearchResult]:
    """A run for each situation that may count, both timed in both."""
    return {
        counted: autoprec.search(
            model,
            calib=tiny_data(model, 36),
            metric="sqnr",
            max_drop=1.0,
            backend=ByBatch(),
            situations=["one:batch=1", "many:batch=8"],
            objective=f"latency:{counted}",
            trials=6,
            out=tmp_path_factory.mktemp(counted) / "run",
        )
        for counted in ("one", "many")
    }


def test_the_situation_that_counts_decides_the_plan(found: dict[str, autoprec.SearchResult]) -> None:
    convolutions = {
        counted: {p for unit, p in result.plan.precisions().items() if "conv" in unit}
        for counted, result in found.items()
    }

    assert convolutions["one"] == {Precision.FP32}
    assert Precision.INT8 in convolutions["many"]


def test_answer_and_rivals_are_timed_in_every_situation(found: dict[str, autoprec.SearchResult]) -> None:
    for counted, result in found.items():
        rows: dict[str, Any] = result.summary["candidates"]
        assert result.summary["situations"]["counted"].startswith(f"{counted}:")
        for row in rows.values():
            assert set(row["situations"]) == {"one", "many"}
        ratios = {name: row["situations"] for name, row in rows.items()}
        assert ratios["uniform int8"]["one"]["latency_vs_unit"]["estimate"] > 1
        assert ratios["uniform int8"]["many"]["latency_vs_unit"]["estimate"] < 1
        assert math.isclose(
            rows["uniform fp32"]["situations"][counted]["latency_ms"], rows["uniform fp32"]["latency_ms"]
        )


def test_the_table_and_the_report_have_a_column_for_each(found: dict[str, autoprec.SearchResult]) -> None:
    result = found["many"]
    header, rows = table_rows(result.tuned)
    assert {"ms, many, modelled", "ms, one"} <= set(header)
    assert all(len(row) == len(header) for row in rows)

    result.save()
    table = answer_section(read_run(result.directory)).table
    assert table is not None
    titles = [column.title for column in table.columns]
    assert [title for title in titles if title.startswith(("latency", "one"))] == [
        "latency, many",
        "latency / FP32",
        "one",
        "one / FP32",
    ]
    assert all(len(row) == len(titles) for row in table.rows)


def test_an_objective_for_a_situation_that_is_not_given_is_refused(model: Path) -> None:
    with pytest.raises(UsageError, match=r"names the situation .decode., which must be one of those given .*: one"):
        autoprec.search(model, calib=tiny_data(model, 8), situations=["one:batch=1"], objective="latency:decode")
