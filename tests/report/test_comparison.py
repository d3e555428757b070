"""Two runs, plans or engines compared unit by unit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from autoprec.errors import PlanError
from autoprec.report.comparison import comparison_of
from autoprec.report.subject import Compared, read_compared

RUNS = Path(__file__).resolve().parents[1] / "compatibility" / "data" / "runs"


def rows(one: Compared, other: Compared, section: str = "units") -> list[list[object]]:
    found: list[list[object]] = comparison_of(one, other).to_record()["sections"][section]["rows"]
    return found


def test_two_runs_are_compared_by_unit_and_as_a_whole() -> None:
    one, other = read_compared(RUNS / "finished"), read_compared(RUNS / "modelled")
    report = comparison_of(one, other)

    assert report.state == "14 of the 14 units that both plans have differ in precision."
    assert rows(one, other)[0][1:4] == ["/stem/conv/Conv", "int8", "fp16"]
    assert ["units in INT8", 14, 0, 0.0] in rows(one, other, "whole")


def test_a_plan_file_is_compared_with_the_run_that_it_is_of() -> None:
    report = comparison_of(read_compared(RUNS / "finished" / "plan.json"), read_compared(RUNS / "finished"))

    assert report.state == "0 of the 14 units that both plans have differ in precision."


def test_units_of_other_names_are_found_by_their_key_and_the_rest_is_listed(tmp_path: Path) -> None:
    text = (RUNS / "finished" / "plan.json").read_text(encoding="utf-8").replace("/stem/conv/Conv", "renamed")
    record = json.loads(text)
    record["units"]["extra"] = {**record["units"]["renamed"], "key": "another"}
    (tmp_path / "plan.json").write_text(json.dumps(record), encoding="utf-8")
    one, other = read_compared(RUNS / "finished"), read_compared(tmp_path)

    assert rows(one, other)[0][1:3] == ["/stem/conv/Conv", "renamed"]
    assert rows(one, other)[-1][1] == "only in B: extra"


def test_an_engine_is_compared_by_the_record_beside_it(tmp_path: Path) -> None:
    units = {"/head/Gemm": {"requested": "fp16", "ran": "fp32", "status": "not honoured"}}
    profile = {"units": [{"unit": "/head/Gemm", "ms": 0.5}], "engine_ms": 2.0}
    record = {"schema": 1, "kind": "autoprec engine", "engine_bytes": 10, "verification": {"units": units}}
    (tmp_path / "model.json").write_text(json.dumps(record | {"profile": profile}), encoding="utf-8")
    engine = read_compared(tmp_path / "model.engine")

    assert (engine.plan["/head/Gemm"].value, engine.ran["/head/Gemm"], engine.unit_ms["/head/Gemm"]) == (
        "fp16",
        "fp32",
        0.5,
    )
    assert comparison_of(read_compared(RUNS / "finished"), engine).state.startswith(
        "1 of the 1 units that both plans have"
    )


def test_what_is_none_of_them_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"schema": 1}', encoding="utf-8")

    with pytest.raises(PlanError, match="not a plan"):
        read_compared(tmp_path / "x.json")
    with pytest.raises(PlanError, match=r"nowhere must be a run directory, a plan file, .* but does not exist"):
        read_compared(tmp_path / "nowhere")
    (tmp_path / "lone.onnx").write_bytes(b"")
    with pytest.raises(PlanError, match="but has no record or plan beside it"):
        read_compared(tmp_path / "lone.onnx")


def test_a_model_that_a_plan_wrote_stands_for_that_plan(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    (tmp_path / "plan.json").write_bytes((RUNS / "finished" / "plan.json").read_bytes())

    assert read_compared(tmp_path / "model.onnx").plan == read_compared(RUNS / "finished" / "plan.json").plan


def test_plans_of_different_networks_or_clocks_are_said_to_be_so() -> None:
    run, modelled = read_compared(RUNS / "finished"), read_compared(RUNS / "modelled")
    stranger = replace(run, plan={"other": modelled.plan[next(iter(modelled.plan))]}, keys={})

    assert comparison_of(run, stranger).state.startswith("The two plans have no unit in common")
    assert [section.notes for section in comparison_of(run, run).sections if section.key == "whole"] == [[]]
    (notes,) = [section.notes for section in comparison_of(run, modelled).sections if section.key == "whole"]
    assert "different runtimes or machines" in notes[0]
