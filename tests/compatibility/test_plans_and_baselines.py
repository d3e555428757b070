"""Plans and baselines of an earlier version are built and judged by as before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

import autoprec

from .conftest import Invoke
from .json_shape import lost, shape, unit_free

PLANS = {
    "finished/plan.json": "ort-cpu",
    "plans/point.json": "ort-cpu",
    "modelled/plan.json": "tensorrt-rtx",
    "plans/tensorrt.json": "tensorrt",
    "plans/tensorrt-8.json": "tensorrt-8",
    "plans/tensorrt-rtx.json": "tensorrt-rtx",
}
"""File -> how it places Q/DQ."""


@pytest.mark.parametrize("path", PLANS)
def test_a_plan_is_read_and_written_without_a_change(place: Path, path: str) -> None:
    plan = autoprec.load_plan(path)
    plan.save(place / "again.json")
    new, old = (json.loads((place / name).read_text(encoding="utf-8")) for name in ("again.json", path))

    assert plan.scheme == PLANS[path]
    assert len(plan.units) == 14
    assert new == old


@pytest.mark.parametrize("path", PLANS)
def test_a_plan_is_built(place: Path, invoke: Invoke, printed: dict[str, Any], path: str) -> None:
    done = invoke("build", path, "digits.onnx", "--out", "built.onnx", "--json")
    record = json.loads(done.stdout)
    plan = autoprec.load_plan(path)
    quantized = any(p.is_quantized for p in plan.precisions().values())
    made = {node.op_type for node in onnx.load(place / "built.onnx").graph.node}

    assert done.exit_code == 0, done.output
    assert sum(record["units"].values()) == 14
    assert lost(shape({**printed["build"], "units": record["units"]}), shape(record)) == []
    assert ("QuantizeLinear" in made) == quantized


def test_the_answer_of_a_run_is_lowered_to_the_same_graph(place: Path, invoke: Invoke) -> None:
    invoke("build", "finished/plan.json", "digits.onnx", "--out", "built.onnx")
    new, old = (onnx.load(place / path).graph for path in ("built.onnx", "finished/model.onnx"))
    for node in new.node:  # models of earlier versions do not say what was planned
        node.ClearField("metadata_props")

    assert [node.SerializeToString() for node in new.node] == [node.SerializeToString() for node in old.node]
    assert {t.name: onnx.numpy_helper.to_array(t).tobytes() for t in new.initializer} == {
        t.name: onnx.numpy_helper.to_array(t).tobytes() for t in old.initializer
    }


def test_a_profile_of_a_build_says_what_it_said(invoke: Invoke, printed: dict[str, Any]) -> None:
    words = ("--out", "built.onnx", "--json", "--backend", "ort-cpu", "--profile")
    done = invoke("build", "finished/plan.json", "digits.onnx", *words)
    record, old = json.loads(done.stdout), printed["build --profile"]

    assert done.exit_code == 0, done.output
    assert lost(shape(unit_free(old)), shape(unit_free(record))) == []


@pytest.mark.usefixtures("same_machine")
def test_a_model_is_judged_by_a_baseline(invoke: Invoke, printed: dict[str, Any]) -> None:
    done = invoke("gate", "digits.onnx", "--baseline", "baseline.json", "--json", "--quiet")
    record = json.loads(done.stdout)
    checks = {check["name"]: check["status"] for check in record["checks"]}

    assert done.exit_code == 0, done.output
    assert checks == {check["name"]: check["status"] for check in printed["gate"]["checks"]}
    assert lost(shape(printed["gate"]), shape(record)) == []


@pytest.mark.usefixtures("same_machine")
def test_a_run_is_judged_by_a_baseline(invoke: Invoke) -> None:
    done = invoke("gate", "finished", "--baseline", "baseline.json", "--json", "--quiet")

    assert done.exit_code == 0, done.output


@pytest.mark.usefixtures("same_machine")
def test_a_baseline_with_a_metric_of_ones_own_is_judged_by_where_it_is_trusted(invoke: Invoke) -> None:
    file = "baseline-own-metric.json"
    done = invoke("gate", "digits.onnx", "--baseline", file, "--trust", file, "--json", "--quiet")
    accuracy = next(check for check in json.loads(done.stdout)["checks"] if check["name"] == "accuracy")

    assert done.exit_code == 0, done.output
    assert accuracy["status"] == "fine"


def test_a_baseline_for_a_gpu_is_judged_by_without_one(invoke: Invoke) -> None:
    words = ("--baseline", "baseline-modelled.json", "--backend", "ort-cpu", "--json", "--quiet")
    checks = {c["name"]: c["status"] for c in json.loads(invoke("gate", "digits.onnx", *words).stdout)["checks"]}

    assert checks["accuracy"] == checks["size"] == "fine"
    assert checks["latency"] == "skipped"


def test_a_run_gives_the_baseline_that_it_gave(place: Path, invoke: Invoke) -> None:
    for run, file in (("finished", "baseline.json"), ("modelled", "baseline-modelled.json")):
        done = invoke("baseline", run, "-o", "new.json")

        assert done.exit_code == 0, done.output
        assert (place / "new.json").read_bytes() == (place / file).read_bytes()


def test_a_baseline_that_was_edited_is_refused_still(place: Path, invoke: Invoke) -> None:
    path = place / "baseline.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"fp32"', '"int8"', 1), encoding="utf-8")
    done = invoke("gate", "digits.onnx", "--baseline", "baseline.json")

    assert done.exit_code == 2
    assert "its checksum does not match" in done.output
