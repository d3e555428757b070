"""The smaller verbs, and what all verbs have in common."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result

from autoprec import errors
from autoprec.cli import VERBS, main
from autoprec.plan import load_plan

Invoke = Callable[..., Result]

TUNE = ("tune", "tiny.onnx", "--calib", "data.npz", "--trials", "4", "--threads", "1", "--out", "run", "--quiet")


def test_units_lists_every_unit_and_the_reason_of_every_other_node(invoke: Invoke) -> None:
    result = invoke("units", "tiny.onnx")

    assert result.exit_code == 0
    assert re.search(r"^conv1 +conv +2 +331,776 +fp32 int8$", result.stdout, re.MULTILINE)
    assert re.search(r"^1 +moves data .* flatten$", result.stdout, re.MULTILINE)


def test_units_as_json_cover_every_node_once(work: Path, invoke: Invoke) -> None:
    record = json.loads(invoke("units", "tiny.onnx", "--json").stdout)
    nodes = [node for unit in record["units"] for node in unit["nodes"]] + list(record["reasons"])

    assert sorted(nodes) == sorted(node.name for node in onnx.load(work / "tiny.onnx").graph.node)
    assert all(record["reasons"].values())
    assert record["units"][0]["precisions"] == {"fp32": None, "int8": None}


def test_units_says_why_a_precision_is_not_possible(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    said = invoke("units", "tiny.onnx", "--space", "tensorrt-fp8").stdout

    assert re.search(r"^pool .* fp8: FP8 kernels exist for convolutions", said, re.MULTILINE)


def test_units_writes_nothing(work: Path, invoke: Invoke) -> None:
    invoke("units", "tiny.onnx")

    assert sorted(path.name for path in work.iterdir()) == ["data.npz", "tiny.onnx"]


def test_profile_lists_what_each_unit_loses_worst_first(work: Path, invoke: Invoke) -> None:
    result = invoke("profile", "tiny.onnx", "--calib", "data.npz", "--threads", "1", "--out", "run", "--json")
    record = json.loads(result.stdout)
    noise = [entry["noise"] for entry in record["entries"]]

    assert result.exit_code == 0
    assert record["direction"] == "higher is worse"
    assert noise == sorted(noise, reverse=True)
    assert {entry["precision"] for entry in record["entries"]} == {"int8"}
    assert {"conv1", "conv2", "conv3", "head"} <= {entry["unit"] for entry in record["entries"]}
    assert sorted(path.name for path in (work / "run").iterdir()) == [
        "autoprec-files.json",
        "profile.json",
        "ranges.json",
    ]


def test_profile_measures_precisions_that_cannot_be_timed_here(invoke: Invoke) -> None:
    options = ("--calib", "data.npz", "--threads", "1", "--space", "tensorrt-fp8", "--out", "run")
    result = invoke("profile", "tiny.onnx", *options)

    assert result.exit_code == 0
    for precision in ("fp16", "bf16", "fp8"):
        assert re.search(rf"^conv1 +{precision} ", result.stdout, re.MULTILINE), precision
    assert "higher is worse" in result.stdout


def test_a_profile_is_used_by_a_later_tune(invoke: Invoke) -> None:
    invoke("profile", "tiny.onnx", "--calib", "data.npz", "--threads", "1", "--out", "run")
    said = invoke(*TUNE[:-1]).stderr

    assert said.count("from an earlier run") == 2


def test_build_reproduces_the_model_of_the_run_byte_for_byte(work: Path, invoke: Invoke) -> None:
    assert invoke(*TUNE, "--pin", "conv2=int8").exit_code == 0
    result = invoke("build", "run/plan.json", "tiny.onnx", "--out", "built.onnx", "--json")
    record = json.loads(result.stdout)

    assert result.exit_code == 0
    assert (work / "built.onnx").read_bytes() == (work / "run" / "model.onnx").read_bytes()
    assert record["written"] == "built.onnx"
    assert record["units"]["int8"] >= 1
    assert sum(record["units"].values()) == len(load_plan(work / "run" / "plan.json").units)
    assert record["bytes"] == (work / "built.onnx").stat().st_size


def test_build_writes_beside_the_plan_by_default(work: Path, invoke: Invoke) -> None:
    invoke(*TUNE)
    (work / "run" / "model.onnx").unlink()
    result = invoke("build", "run/plan.json", "tiny.onnx")

    assert result.stdout.startswith("written: run/model.onnx: ")
    assert (work / "run" / "model.onnx").is_file()


def test_build_follows_a_plan_edited_by_hand(work: Path, invoke: Invoke) -> None:
    invoke(*TUNE)
    path = work / "run" / "plan.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    for unit in record["units"].values():
        unit["precision"] = "fp32"
    path.write_text(json.dumps(record), encoding="utf-8")

    assert json.loads(invoke("build", path, "tiny.onnx", "--json").stdout)["units"] == {"fp32": len(record["units"])}


def test_doctor_says_what_runs_here(invoke: Invoke) -> None:
    result = invoke("doctor")

    assert result.exit_code == 0
    assert re.search(r"^onnxruntime \d", result.stdout, re.MULTILINE)
    assert "  int8: runs natively" in result.stdout
    assert result.stdout.endswith("no problem found\n")


def test_doctor_reports_what_is_missing(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    from autoprec.cli import doctor

    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "scipy" else "1")
    result = invoke("doctor", "--json")

    assert result.exit_code == 2
    assert json.loads(result.stdout)["problems"] == ["scipy is missing: pip install scipy"]


def test_doctor_outlives_a_runtime_that_does_not_load(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    from autoprec.backends import make

    def broken(name: str) -> None:
        raise ImportError("libonnx.so: cannot open shared object file")

    monkeypatch.setattr(make, "make_backend", broken)
    result = invoke("doctor")

    assert result.exit_code == 2
    assert "problem: the backend ort-cpu cannot be loaded: libonnx.so" in result.stdout


def test_exit_codes_are_the_documented_ones() -> None:
    said = CliRunner().invoke(main, ["--help"]).output
    codes = {int(code): words for code, words in re.findall(r"(\d+) ([a-z ]+)", said.partition("Exit codes:")[2])}

    assert set(codes) == {value for name, value in vars(errors).items() if name.startswith("EXIT_")}


def test_an_unknown_verb_gets_a_hint() -> None:
    result = CliRunner().invoke(main, ["tnue"])

    assert result.exit_code == errors.EXIT_USAGE
    assert "there is no command 'tnue'; did you mean 'tune'?" in result.stderr


def test_every_verb_is_listed_with_its_sentence() -> None:
    said = CliRunner().invoke(main, ["--help"]).output

    for verb, sentence in VERBS.items():
        assert re.search(rf"^  {verb} +{re.escape(sentence)}", said, re.MULTILINE)


def test_the_version() -> None:
    assert re.fullmatch(r"autoprec \d+\.\d+\.\d+\S*\n", CliRunner().invoke(main, ["--version"]).output)


def test_an_interrupted_run_says_how_to_go_on(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    from autoprec import api

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "run", stop)
    result = invoke(*TUNE)

    assert result.exit_code == errors.EXIT_INTERRUPTED
    assert result.stderr == "autoprec: stopped; the same command goes on where it was\n"
