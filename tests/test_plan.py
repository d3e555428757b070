"""Plan files: what goes in comes out, and a plan fits its own model only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autoprec.backends.scheme import ORT_CPU
from autoprec.errors import PlanError
from autoprec.graph.model import load_model
from autoprec.graph.topology import Topology
from autoprec.lowering.possible import usable_precisions
from autoprec.plan import Choice, Plan, check_plan_fits, load_plan
from autoprec.precision import Precision
from autoprec.units.find import find_units

from .helpers.networks import mlp, write
from .helpers.renamed_models import renamed

INT8 = Choice(Precision.INT8, "measured", False, "k1")
FP32 = Choice(Precision.FP32, "pinned by the user", True, "k2")


def plan(**units: Choice) -> Plan:
    marks = {"graph": "g", "weights": "w"}
    return Plan(
        units=units,
        carrier=Precision.FP32,
        scheme="ort-cpu",
        backend="ort-cpu",
        fingerprints=marks,
        evidence={"drop": 0.5},
        ranges=None,
    )


def test_a_plan_comes_back_as_it_was(tmp_path: Path) -> None:
    saved = plan(fc1=INT8, fc2=FP32)
    saved.save(tmp_path / "plan.json")

    assert load_plan(tmp_path / "plan.json") == saved


def test_the_file_says_schema_and_for_each_unit_precision_reason_pin_and_key(tmp_path: Path) -> None:
    plan(fc2=FP32).save(tmp_path / "plan.json")
    record = json.loads((tmp_path / "plan.json").read_text(encoding="utf-8"))

    assert record["schema"] == 1
    assert record["units"] == {
        "fc2": {"precision": "fp32", "reason": "pinned by the user", "pinned": True, "key": "k2"}
    }
    assert record["fingerprints"] == {"graph": "g", "weights": "w"}


def test_a_plan_fits_its_own_graph_and_weights_only() -> None:
    check_plan_fits(plan(), "g", "w", "model.onnx")
    with pytest.raises(PlanError, match=r"made for another model: its graph is g, that of model.onnx is h; tune this"):
        check_plan_fits(plan(), "h", "w", "model.onnx")
    with pytest.raises(PlanError, match=r"made for other weights than those of model.onnx"):
        check_plan_fits(plan(), "g", "v", "model.onnx")


def test_keys_outlive_a_re_export_that_only_renames(tmp_path: Path) -> None:
    first = find_units(load_model(write(mlp(), tmp_path)).graph)
    second = find_units(load_model(write(renamed(mlp(), "other"), tmp_path, "again.onnx")).graph)

    assert [unit.name for unit in first.units] != [unit.name for unit in second.units]
    assert [unit.key for unit in first.units] == [unit.key for unit in second.units]


def test_a_plan_must_name_exactly_the_units_of_the_model(tmp_path: Path) -> None:
    graph = load_model(write(mlp(), tmp_path)).graph
    partition, topology = find_units(graph), Topology(graph)

    assert usable_precisions(plan(fc1=INT8, fc2=FP32), partition, topology, ORT_CPU) == {
        "fc1": Precision.INT8,
        "fc2": Precision.FP32,
    }
    with pytest.raises(PlanError, match="no precision for unit 'fc2'; add it"):
        usable_precisions(plan(fc1=INT8), partition, topology, ORT_CPU)
    with pytest.raises(PlanError, match="has unit 'fc3', which the model does not"):
        usable_precisions(plan(fc1=INT8, fc2=FP32, fc3=FP32), partition, topology, ORT_CPU)
