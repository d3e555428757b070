"""The Optuna study of a run."""

from __future__ import annotations

import math
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from autoprec.errors import RunDirectoryError
from autoprec.precision import Precision
from autoprec.study.trials import Ledger, Measurement

FP32, INT8 = Precision.FP32, Precision.INT8
CHOICES = {"a": (FP32, INT8), "b": (FP32, INT8), "fixed": (INT8,)}


def ledger(path: Path | None, *, name: str = "run", max_drop: float = 0.01, seed: int = 0) -> Ledger:
    return Ledger(path, name, CHOICES, max_drop, seed)


def measurement(drop: float, ratio: float = 0.5) -> Measurement:
    return Measurement(drop, drop, 1e-3, 2e-3, 0.99, ratio)


def stored(path: Path) -> optuna.Study:
    return optuna.load_study(study_name="run", storage=JournalStorage(JournalFileBackend(str(path))))


def test_what_is_recorded_is_there_after_a_restart(tmp_path: Path) -> None:
    first = ledger(tmp_path / "log")
    told = [
        first.record({"a": FP32, "b": INT8, "fixed": INT8}, "uniform", measurement(0.0)),
        first.record({"a": INT8, "b": INT8, "fixed": INT8}, "model", measurement(0.5, 0.25)),
    ]

    assert ledger(tmp_path / "log").trials() == told
    assert [trial.feasible for trial in told] == [True, False]


def test_what_is_not_finite_comes_back(tmp_path: Path) -> None:
    worthless = Measurement(math.inf, math.inf, math.inf, None, None, 0.5)
    ledger(tmp_path / "log").record({"a": FP32, "b": INT8, "fixed": INT8}, "model", worthless)
    [trial] = ledger(tmp_path / "log").trials()

    assert trial.measured == worthless
    assert not trial.feasible


def test_the_constraint_is_set_on_the_optuna_trial(tmp_path: Path) -> None:
    book = ledger(tmp_path / "log", max_drop=0.1)
    book.record({"a": FP32, "b": INT8, "fixed": INT8}, "model", measurement(0.25))
    book.record({"a": INT8, "b": INT8, "fixed": INT8}, "model", measurement(0.05))
    over, within = stored(tmp_path / "log").trials

    assert list(over.constraints.values()) == [pytest.approx(0.15)]
    assert list(within.constraints.values()) == [pytest.approx(-0.05)]
    assert (over.value, over.params) == (0.5, {"a": "fp32", "b": "int8"})


def test_feasibility_follows_the_bound_of_today(tmp_path: Path) -> None:
    ledger(tmp_path / "log").record({"a": FP32, "b": INT8, "fixed": INT8}, "model", measurement(0.05))

    assert [t.feasible for t in ledger(tmp_path / "log", max_drop=0.01).trials()] == [False]
    assert [t.feasible for t in ledger(tmp_path / "log", max_drop=0.1).trials()] == [True]


def test_runs_of_other_inputs_lie_side_by_side(tmp_path: Path) -> None:
    ledger(tmp_path / "log").record({"a": FP32, "b": INT8, "fixed": INT8}, "model", measurement(0.05))

    assert ledger(tmp_path / "log", name="other").trials() == []
    assert len(ledger(tmp_path / "log").trials()) == 1


@pytest.mark.parametrize("state", ["waiting", "running"])
def test_what_a_killed_run_had_begun_is_closed_and_mixes_with_nothing(tmp_path: Path, state: str) -> None:
    ledger(tmp_path / "log")
    study = stored(tmp_path / "log")
    study.enqueue_trial({"a": "int8", "b": "int8"})
    if state == "running":
        study.ask()
    told = ledger(tmp_path / "log").record({"a": FP32, "b": INT8, "fixed": INT8}, "model", measurement(0.05))

    assert ledger(tmp_path / "log").trials() == [told]
    assert [trial.state for trial in stored(tmp_path / "log").trials] == [TrialState.FAIL, TrialState.COMPLETE]


def test_suggestions_are_reproducible_and_lie_in_the_space() -> None:
    drawn = []
    for _ in range(2):
        book = ledger(None, seed=3)
        for number in range(6):
            plan = {"a": FP32 if number % 2 else INT8, "b": INT8, "fixed": INT8}
            book.record(plan, "model", measurement(0.01 * number))
        drawn.append([book.suggest() for _ in range(5)])

    assert drawn[0] == drawn[1]
    assert all(plan["fixed"] is INT8 and set(plan) == set(CHOICES) for plan in drawn[0])


def test_a_suggestion_is_no_trial(tmp_path: Path) -> None:
    book = ledger(tmp_path / "log")
    book.suggest()

    assert book.trials() == []
    assert ledger(tmp_path / "log").trials() == []


@pytest.mark.parametrize(
    "garbage", [b"x\n{}\n", b'{"op_code": 99}\n', b"\x00\xff\n\n", b'{"op_code": 0}\n', b"[]\n1\n"]
)
def test_a_damaged_study_is_an_error_that_names_the_file(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "log").write_bytes(garbage)

    with pytest.raises(RunDirectoryError, match=r"log is damaged .*; delete it to search again"):
        ledger(tmp_path / "log").trials()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(RunDirectoryError, match=r"cannot keep the study in .*; choose a writable folder by --out"):
        ledger(tmp_path / "file" / "log")
