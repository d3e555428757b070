"""`units` and `profile` take what `tune` takes: a function that makes the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Invoke = Callable[..., Result]


@pytest.fixture(autouse=True)
def _made_by_a_function(work: Path) -> None:
    (work / "maker_of_tiny.py").write_text("import onnx\n\ndef build():\n    return onnx.load('tiny.onnx')\n")


def test_units_of_a_model_that_a_function_makes(invoke: Invoke, work: Path) -> None:
    named, made = invoke("units", "tiny.onnx", "--json"), invoke("units", "maker_of_tiny:build", "--json")

    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["units"] == json.loads(named.stdout)["units"]
    assert not (work / "autoprec-runs").exists()


def test_a_profile_of_it_keeps_the_model_in_the_run_directory(invoke: Invoke, work: Path) -> None:
    result = invoke(
        "profile", "maker_of_tiny:build", "--calib", "data.npz", "--metric", "sqnr", "--out", "run", "--json"
    )

    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["entries"]
    assert {"exported.onnx", "profile.json"} <= {path.name for path in (work / "run").iterdir()}
