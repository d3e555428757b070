"""What an earlier version left on a user's disk, put where the user has it: model, data and runs in one folder."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from autoprec.backends.ort import OrtBackend
from autoprec.cli import main
from autoprec.data.splits import Splits, dealt_as
from autoprec.study.ledger.owners import own_label

DATA = Path(__file__).parent / "data"
EXAMPLE = Path(__file__).parents[2] / "examples" / "digits"
RECORDED = "/somewhere/digits"
"""The folder that recorded files name."""
SAMPLES = {"calib.npz": 60, "eval.npz": 240}
"""The runs had the first samples of the example."""
RUNS = ("finished", "killed-search", "killed-sensitivity", "modelled")

Invoke = Callable[..., Result]


@pytest.fixture(name="place")
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with digits.onnx, its data, plans/, baselines, and run directories as they were written."""
    for name in ("digits.onnx", "brier.py"):
        shutil.copy(EXAMPLE / name, tmp_path)
    for name, count in SAMPLES.items():
        with np.load(EXAMPLE / name) as arrays:
            np.savez(tmp_path / name, **{key: array[:count] for key, array in arrays.items()})
    for path in DATA.glob("baseline*.json"):
        shutil.copy(path, tmp_path)
    shutil.copytree(DATA / "plans", tmp_path / "plans")
    for name in RUNS:
        shutil.copytree(DATA / "runs" / name, tmp_path / name)
        _moved(tmp_path / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # for brier.py
    return tmp_path


def _moved(run: Path, place: Path) -> None:
    """Name this folder, and this machine where the study says who measured; all of its processes are dead."""
    for path in run.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(RECORDED, json.dumps(str(place))[1:-1]), encoding="utf-8")
    study = run / "study.log"
    if study.is_file():
        lines = [_owned_here(json.loads(line)) for line in study.read_text(encoding="utf-8").splitlines()]
        study.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines), encoding="utf-8")


def _owned_here(line: dict[str, Any]) -> dict[str, Any]:
    owner = line.get("user_attr", {}).get("owner")
    if owner is not None:
        owner |= {"host": socket.gethostname(), "space": own_label()["space"]}
    return line


@pytest.fixture(name="same_machine")
def _same_machine(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that the runs were made on, and a clock that is read no more often than it must be.

    Studies are of one kind of machine. Halves are dealt by FP32's outputs, whose last bit is the processor's own.
    """
    machine = json.loads((place / "finished" / "study.json").read_text(encoding="utf-8"))["machine"]
    halves = json.loads((place / "finished" / "search.json").read_text(encoding="utf-8"))["halves"]

    def dealt(splits: Splits, *_: Any) -> Splits:
        return replace(dealt_as(splits, halves), equally_hard=True)

    monkeypatch.setattr(OrtBackend, "describe", lambda self: dict(machine))
    monkeypatch.setattr("autoprec.backends.ort.products_are_exact", lambda: True)
    monkeypatch.setattr("autoprec.run.stages.halves.balanced", dealt)
    monkeypatch.setattr("autoprec.run.answer.side_by_side.USUAL_ROUNDS", 3)
    monkeypatch.setattr("autoprec.run.answer.side_by_side.MOST_ROUNDS", 3)
    monkeypatch.setattr("autoprec.run.answer.side_by_side.CONFIRM_TURN_MS", 1.0)
    monkeypatch.setattr("autoprec.timing.race.ROUNDS", 2)


@pytest.fixture(name="invoke")
def _invoke(place: Path) -> Invoke:
    """Run `autoprec` with the given words in the folder; errors that nobody expects come through."""

    def invoke(*words: str | os.PathLike[str]) -> Result:
        return CliRunner().invoke(main, [os.fspath(word) for word in words], catch_exceptions=False)

    return invoke


@pytest.fixture(name="printed", scope="session")
def _printed() -> dict[str, Any]:
    """Verb -> the JSON that it printed."""
    found: dict[str, Any] = json.loads((DATA / "printed.json").read_text(encoding="utf-8"))
    return found
