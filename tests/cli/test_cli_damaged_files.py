"""A damaged, foreign or missing file of a run directory: one line says what to do, and the exit code is 2."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from ..helpers.spoilt_models import scale_weight
from .conftest import Invoke, refused

TUNE = ("tune", "tiny.onnx", "--calib", "data.npz", "--trials", "4", "--threads", "1", "--out", "run", "--quiet")


@pytest.fixture(name="finished", scope="module")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.onnx, data.npz and the finished run directory "run"."""
    from autoprec.api import search
    from autoprec.testing import tiny_data, tiny_model

    folder = tmp_path_factory.mktemp("finished")
    model = tiny_model(folder)
    np.savez(folder / "data.npz", **tiny_data(model, 48))
    search(model, calib=folder / "data.npz", trials=4, threads=1, pins=["conv2=int8"], out=folder / "run").save()
    return folder


@pytest.fixture(name="copied")
def _copied(work: Path, finished: Path) -> Path:
    shutil.copytree(finished / "run", work / "run")
    return work


@pytest.mark.parametrize("name", ["ranges.json", "profile.json", "latency.json", "study.log"])
@pytest.mark.parametrize(
    "garbage", [b"", b"\x00\xff", b"{", b"[]", b"{}\n", b'{"schema": 99}\n', b'{"schema": 1}\n{"op_code": 77}\n']
)
def test_a_damaged_file_of_the_run_directory(copied: Path, invoke: Invoke, name: str, garbage: bytes) -> None:
    """Either it is made again, or the error says which file to delete."""
    (copied / "run" / name).write_bytes(garbage)
    result = invoke(*TUNE)

    if result.exit_code:
        refused(result, rf"run/{name} .*(delete it|upgrade autoprec)")


def test_a_damaged_field_of_the_run_directory(copied: Path, invoke: Invoke) -> None:
    for name in ("ranges", "profile", "latency"):
        path = copied / "run" / f"{name}.json"
        whole = path.read_text(encoding="utf-8")
        record = json.loads(whole)
        for key in record:
            if key in ("schema", "fingerprint"):
                continue
            path.write_text(json.dumps({**record, key: "?"}), encoding="utf-8")
            result = invoke(*TUNE)
            if result.exit_code:
                refused(result, rf"run/{name}.json .*delete")
        path.write_text(whole, encoding="utf-8")


def changed(copied: Path, **changes: Any) -> None:
    path = copied / "run" / "plan.json"
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), **changes}), encoding="utf-8")


def test_a_plan_for_another_model(copied: Path, invoke: Invoke) -> None:
    ir.save(_renamed_axis(ir.load(copied / "tiny.onnx")), copied / "other.onnx")

    refused(invoke("build", "run/plan.json", "other.onnx"), "the plan was made for another model: .*; tune this model,")


def _renamed_axis(model: ir.Model) -> ir.Model:
    """The same network without its first activation function."""
    relu = next(node for node in model.graph if node.name == "relu1")
    assert relu.inputs[0] is not None
    relu.outputs[0].replace_all_uses_with(relu.inputs[0])
    model.graph.remove(relu, safe=True)
    return model


def test_a_plan_for_other_weights(copied: Path, invoke: Invoke) -> None:
    model = onnx.load(copied / "tiny.onnx")
    scale_weight(model, "conv1.weight", 0.5)
    onnx.save(model, copied / "tiny.onnx")

    refused(invoke("build", "run/plan.json", "tiny.onnx"), "other weights than those of tiny.onnx: .*; tune again")


PLANS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a newer schema": (lambda p: {**p, "schema": 7}, "has schema 7, this autoprec reads up to 1; upgrade autoprec"),
    "no plan": (lambda p: {"schema": 1}, "is not a plan of autoprec; give the plan.json of a run directory"),
    "a list": (lambda p: [p], "must be a JSON object with an integer 'schema'"),
    "no units": (lambda p: {k: v for k, v in p.items() if k != "units"}, "is damaged: .*; tune the model again"),
    "units as a list": (lambda p: {**p, "units": []}, "is damaged: .*; tune the model again"),
    "an unknown precision": (
        lambda p: {**p, "units": {**p["units"], "conv1": {**p["units"]["conv1"], "precision": "int4"}}},
        "is damaged: .*int4.*; tune the model again",
    ),
    "an impossible precision": (
        lambda p: {**p, "units": {**p["units"], "conv1": {**p["units"]["conv1"], "precision": "fp8"}}},
        "unit 'conv1' cannot run in fp8: ONNX Runtime has no FP8 kernels on a CPU; change the plan",
    ),
    "an unknown unit": (
        lambda p: {**p, "units": {**p["units"], "conv9": p["units"]["conv1"]}},
        "has unit 'conv9', which the model does not; `autoprec units` lists them",
    ),
    "a missing unit": (
        lambda p: {**p, "units": {k: v for k, v in p["units"].items() if k != "conv1"}},
        "no precision for unit 'conv1'; add it, or tune the model again",
    ),
    "an INT8 carrier": (lambda p: {**p, "carrier": "int8"}, "must be a float type, got int8; tune the model again"),
    "an unknown scheme": (
        lambda p: {**p, "scheme": "tvm"},
        "a scheme must be one of tensorrt, tensorrt-8, tensorrt-rtx, ort-cpu, ort-cpu-7bit, got 'tvm'",
    ),
    "no ranges": (lambda p: {**p, "ranges": None}, "INT8 or FP8 units needs calibrated ranges"),
    "half the ranges": (
        lambda p: {**p, "ranges": {**p["ranges"], "ranges": {}}},
        "must be quantised but was not calibrated; run the calibration again",
    ),
    "broken ranges": (lambda p: {**p, "ranges": {"method": "mse"}}, "the ranges in the plan are damaged"),
    "a range upside down": (
        lambda p: {**p, "ranges": {**p["ranges"], "ranges": {k: [2, -2, 2, -2] for k in p["ranges"]["ranges"]}}},
        "the ranges in the plan are damaged",
    ),
    "ranges that are no numbers": (
        lambda p: {**p, "ranges": {**p["ranges"], "ranges": {k: [None] * 4 for k in p["ranges"]["ranges"]}}},
        "the ranges in the plan are damaged",
    ),
    "fingerprints as text": (lambda p: {**p, "fingerprints": "abc"}, "is damaged"),
}


@pytest.mark.parametrize("case", PLANS)
def test_a_bad_plan(copied: Path, invoke: Invoke, case: str) -> None:
    change, words = PLANS[case]
    path = copied / "run" / "plan.json"
    path.write_text(json.dumps(change(json.loads(path.read_text(encoding="utf-8")))), encoding="utf-8")

    refused(invoke("build", "run/plan.json", "tiny.onnx", "--out", "built.onnx"), words)
    assert not (copied / "built.onnx").exists()


@pytest.mark.parametrize(("text", "words"), [("", "is not JSON"), ("{", "is not JSON"), ("\x00", "is not JSON")])
def test_a_plan_that_is_no_json(copied: Path, invoke: Invoke, text: str, words: str) -> None:
    (copied / "run" / "plan.json").write_text(text, encoding="utf-8")

    refused(invoke("build", "run/plan.json", "tiny.onnx"), words)


def test_a_plan_that_is_missing(work: Path, invoke: Invoke) -> None:
    refused(invoke("build", "plan.json", "tiny.onnx"), "cannot read the plan plan.json: No such file or directory")


@pytest.mark.parametrize("name", ["evidence.json", "study.log"])
def test_build_does_not_overwrite_the_records_of_a_run(copied: Path, invoke: Invoke, name: str) -> None:
    before = (copied / "run" / name).read_bytes()

    refused(
        invoke("build", "run/plan.json", "tiny.onnx", "--out", f"run/{name}"), "must leave the records of a run alone"
    )
    assert (copied / "run" / name).read_bytes() == before


def test_build_does_not_overwrite_the_model(copied: Path, invoke: Invoke) -> None:
    before = (copied / "tiny.onnx").read_bytes()

    refused(
        invoke("build", "run/plan.json", "tiny.onnx", "--out", "./run/../tiny.onnx"),
        "tiny.onnx, which you gave as input; choose another by --out",
    )
    assert (copied / "tiny.onnx").read_bytes() == before
