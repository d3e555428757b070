"""`autoprec baseline`: what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from click.testing import Result

Invoke = Callable[..., Result]

TUNE = ("tune", "tiny.onnx", "--calib", "data.npz", "--trials", "2", "--threads", "1", "--max-drop", "0.2", "--quiet")


def test_a_run_becomes_one_file(work: Path, invoke: Invoke) -> None:
    invoke(*TUNE, "--out", "run")
    (work / "data.npz").unlink()  # nothing is measured again
    result = invoke("baseline", "run", "-o", "ci/baseline.json")

    assert result.exit_code == 0
    assert result.stdout.startswith("written: ci/baseline.json: top1 ")
    assert "samples (FP32 1.0)" in result.stdout
    record = json.loads((work / "ci" / "baseline.json").read_text(encoding="utf-8"))
    assert record["kind"] == "autoprec baseline"
    assert record["data"]["calib"] == "../data.npz"  # as the baseline sees it
    assert record["data"]["eval"] is None
    assert record["model"]["path"] == "../tiny.onnx"
    assert record["lowered"]["path"] == "../run/model.onnx"


def test_the_file_is_baseline_json_by_default(work: Path, invoke: Invoke) -> None:
    invoke(*TUNE, "--out", "run")
    assert invoke("baseline", "run").exit_code == 0
    assert (work / "baseline.json").is_file()


def test_what_is_no_run_is_refused(work: Path, invoke: Invoke) -> None:
    result = invoke("baseline", "absent")

    assert result.exit_code == 2
    assert "autoprec: absent is not a run directory: it has no plan.json" in result.stderr
    assert not (work / "baseline.json").exists()


def test_a_run_without_evidence_says_how_to_get_it(work: Path, invoke: Invoke) -> None:
    invoke(*TUNE, "--out", "run")
    (work / "run" / "evidence.json").unlink()
    result = invoke("baseline", "run")

    assert result.exit_code == 2
    assert "run has no evidence.json" in result.stderr
    assert "`autoprec tune` with the same options and --out run again" in result.stderr


def test_damaged_evidence_is_refused(work: Path, invoke: Invoke) -> None:
    invoke(*TUNE, "--out", "run")
    path = work / "run" / "evidence.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    del record["samples"]["plan"]
    path.write_text(json.dumps(record), encoding="utf-8")
    result = invoke("baseline", "run")

    assert result.exit_code == 2
    assert "the evidence run/evidence.json is damaged (KeyError('plan')); tune the model again" in result.stderr


def test_a_place_that_cannot_be_written_is_said(invoke: Invoke) -> None:
    invoke(*TUNE, "--out", "run")
    result = invoke("baseline", "run", "-o", "tiny.onnx/baseline.json")

    assert result.exit_code == 2
    assert "cannot write tiny.onnx/baseline.json" in result.stderr
