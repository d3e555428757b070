"""`autoprec gate`: its table, its files, and an exit code for each verdict."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner, Result

from autoprec.cli import main
from autoprec.testing import tiny_data, tiny_model

from ..helpers.spoilt_models import turn_classes_of

Invoke = Callable[..., Result]

PATIENT = ("--max-slowdown", "900%")  # no noise reaches that


@pytest.fixture(name="made", scope="module")
def _made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.onnx, eval.npz, calib.npz, run/ and baseline.json, by the commands themselves."""
    folder = tmp_path_factory.mktemp("made")
    model = tiny_model(folder)
    np.savez(folder / "eval.npz", **tiny_data(model, 300, seed=1))
    np.savez(folder / "calib.npz", **tiny_data(model, 32, seed=2))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = "tune tiny.onnx --calib calib.npz --eval eval.npz --max-drop 0.1 --trials 2 --threads 1 --out run"
        CliRunner().invoke(main, words.split(), catch_exceptions=False)
        assert CliRunner().invoke(main, ["baseline", "run"], catch_exceptions=False).exit_code == 0
    return folder


@pytest.fixture(name="team")
def _team(made: Path, work: Path) -> Path:
    """The current folder, with all of that."""
    shutil.copytree(made, work, dirs_exist_ok=True)
    return work


def test_a_model_that_a_function_makes_is_judged_as_its_file_is(invoke: Invoke, team: Path) -> None:
    (team / "maker_of_gated.py").write_text("import onnx\n\ndef build():\n    return onnx.load('tiny.onnx')\n")
    result = invoke("gate", "maker_of_gated:build", *PATIENT, "--json")

    assert result.exit_code == 0, result.output
    assert {check["status"] for check in json.loads(result.stdout)["checks"]} == {"fine"}


@pytest.mark.usefixtures("team")
def test_an_unchanged_model_exits_with_0_and_a_table(invoke: Invoke) -> None:
    result = invoke("gate", "tiny.onnx", *PATIENT)

    assert result.exit_code == 0
    assert result.stdout.startswith("fine: accuracy, precision, latency, size, ranges\n")
    lines = result.stdout.splitlines()
    assert max(map(len, lines[3:])) <= 80
    assert [line.split()[0] for line in lines[5:] if line[:1].strip()][:5] == [
        "accuracy",
        "precision",
        "latency",
        "size",
        "ranges",
    ]
    assert "timed in turns with the baseline's model" in result.stderr


@pytest.mark.usefixtures("team")
def test_a_run_directory_is_taken_too(invoke: Invoke) -> None:
    assert invoke("gate", "run", *PATIENT, "--quiet").exit_code == 0


def test_a_worse_model_exits_with_1_and_says_why(team: Path, invoke: Invoke) -> None:
    turn_classes_of(team / "tiny.onnx")
    result = invoke("gate", "tiny.onnx", *PATIENT, "--quiet")

    assert result.exit_code == 1
    assert result.stdout.startswith("worse than allowed: accuracy (")
    assert "more than the 0.05 allowed" in result.stdout
    assert result.stderr == ""


def test_no_baseline_exits_with_3(team: Path, invoke: Invoke) -> None:
    (team / "baseline.json").unlink()
    result = invoke("gate", "tiny.onnx")

    assert result.exit_code == 3
    assert "autoprec: there is no baseline baseline.json; make one with `autoprec baseline RUN" in result.stderr


@pytest.mark.usefixtures("team")
def test_too_few_samples_exit_with_3(invoke: Invoke) -> None:
    result = invoke("gate", "tiny.onnx", *PATIENT, "--max-drop", "0.001", "--quiet")

    assert result.exit_code == 3
    assert "150 samples are too few to see a drop of 0.001; give about 600" in result.stdout


@pytest.mark.parametrize("content", ["", "{}", '{"kind": "autoprec baseline", "schema": 99}', "not JSON", "[[[["])
def test_an_unreadable_baseline_exits_with_2(team: Path, invoke: Invoke, content: str) -> None:
    (team / "baseline.json").write_text(content, encoding="utf-8")
    result = invoke("gate", "tiny.onnx")

    assert result.exit_code == 2
    assert "baseline.json" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["gate", "absent.onnx"], "no such file: absent.onnx"),
        (["gate", "tiny.onnx", "--eval", "absent.npz"], "no such file or folder: 'absent.npz'"),
        (["gate", "tiny.onnx", "--calib", "absent.npz"], "no such file or folder: 'absent.npz'"),
        (["gate", "tiny.onnx", "--backend", "cuda"], "a backend must be one of"),
        (["gate", "tiny.onnx", "--max-drop", "-1"], "--max-drop must be a number from 0 on, got -1.0"),
        (["gate", "tiny.onnx", "--max-drop", "nan"], "--max-drop must be a number from 0 on, got nan"),
        (["gate", "tiny.onnx", "--max-slowdown", "fast"], "must be a share such as 5% or 0.05, got 'fast'"),
        (["gate", "tiny.onnx", "--max-size", "10"], "must be a share such as 10%, or a size such as 40MB, got '10'"),
        (["gate", "tiny.onnx", "--max-size", "big"], "must be a share such as 10%, or a size such as 40MB, got 'big'"),
        (["gate", "tiny.onnx", "--baseline-model", "tiny.onnx"], "is not the lowered model of the baseline"),
        (["gate", "."], ". is not a run directory: it has no plan.json; give the folder that `autoprec tune` wrote"),
        (["gate"], "Missing argument"),
    ],
)
@pytest.mark.usefixtures("team")
def test_bad_input_exits_with_2_in_words(invoke: Invoke, words: list[str], said: str) -> None:
    result = invoke(*words)

    assert result.exit_code == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.usefixtures("team")
def test_json_is_one_document(invoke: Invoke) -> None:
    result = invoke("gate", "tiny.onnx", *PATIENT, "--json")
    record = json.loads(result.stdout)

    assert record["status"] == "fine"
    assert record["exit_code"] == 0
    assert record["checks"][0]["name"] == "accuracy"


def test_reports_are_written_whatever_the_verdict(team: Path, invoke: Invoke) -> None:
    turn_classes_of(team / "tiny.onnx")
    (team / "summary.md").write_text("before\n", encoding="utf-8")
    result = invoke("gate", "tiny.onnx", *PATIENT, "--quiet", "--junit", "out/gate.xml", "--markdown", "summary.md")

    assert result.exit_code == 1
    suite = ElementTree.parse(team / "out" / "gate.xml").getroot()
    assert suite.find(".//failure") is not None
    text = (team / "summary.md").read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert "accuracy" in text


def test_annotations_are_for_github(team: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    turn_classes_of(team / "tiny.onnx")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    assert "::error" not in invoke("gate", "tiny.onnx", *PATIENT, "--quiet").stdout
    assert "::error" in invoke("gate", "tiny.onnx", *PATIENT, "--quiet", "--annotations").stdout
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    assert "::error" in invoke("gate", "tiny.onnx", *PATIENT, "--quiet").stdout
    assert "::error" in invoke("gate", "tiny.onnx", *PATIENT, "--quiet", "--json").stderr


@pytest.mark.usefixtures("team")
@pytest.mark.parametrize(("size", "code"), [("10%", 0), ("0.1", 0), ("1kB", 1), ("1MiB", 0)])
def test_a_size_is_a_share_or_bytes(invoke: Invoke, size: str, code: int) -> None:
    assert invoke("gate", "tiny.onnx", *PATIENT, "--max-size", size, "--quiet").exit_code == code
