"""The Optuna study of a run."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from autoprec.errors import RunDirectoryError
from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.study.guide.solve import Problem
from autoprec.study.ledger.ask_tell import Ledger
from autoprec.study.ledger.claims import OWNER
from autoprec.study.ledger.owners import own_label
from autoprec.study.ledger.reading import stored_trials
from autoprec.study.sampler import ModelGuidedSampler
from autoprec.study.trial import Measurement, Trial
from autoprec.units.records import Partition

FP32, INT8 = Precision.FP32, Precision.INT8
CHOICES = {"a": (FP32, INT8), "b": (FP32, INT8), "fixed": (INT8,)}
LOW: Assignment = {"a": FP32, "b": INT8, "fixed": INT8}
LOWEST: Assignment = {"a": INT8, "b": INT8, "fixed": INT8}


def ledger(path: Path | None, *, name: str = "run", max_drop: float = 0.01, seed: int = 0) -> Ledger:
    return Ledger(path, name, CHOICES, max_drop, optuna.samplers.RandomSampler(seed=seed))


def measurement(drop: float, ratio: float = 0.5) -> Measurement:
    return Measurement(drop=drop, judged_drop=drop, noise=1e-3, kl=2e-3, agreement=0.99, latency_ratio=ratio)


def stored(path: Path) -> optuna.Study:
    return optuna.load_study(study_name="run", storage=JournalStorage(JournalFileBackend(str(path))))


def told(book: Ledger, plan: Assignment, measured: Measurement, origin: str = "uniform") -> Trial:
    book.enqueue({origin: plan})
    asked = book.ask()
    assert (asked.plan, asked.origin) == (plan, origin)
    return book.tell(asked, measured)


def test_what_is_told_is_there_after_a_restart(tmp_path: Path) -> None:
    first = ledger(tmp_path / "log")
    trials = [told(first, LOW, measurement(0.0)), told(first, LOWEST, measurement(0.5, 0.25), "half")]

    assert ledger(tmp_path / "log").trials() == trials
    assert [trial.feasible for trial in trials] == [True, False]


def test_what_is_not_finite_comes_back(tmp_path: Path) -> None:
    worthless = Measurement(
        drop=math.inf, judged_drop=math.inf, noise=math.inf, kl=None, agreement=None, latency_ratio=0.5
    )
    told(ledger(tmp_path / "log"), LOW, worthless)
    [trial] = ledger(tmp_path / "log").trials()

    assert trial.measured == worthless
    assert not trial.feasible


def test_profiles_of_layers_come_back_and_reach_the_sampler(tmp_path: Path) -> None:
    layers = {"a": 0.25, "b": 0.5}
    told(ledger(tmp_path / "log"), LOW, replace(measurement(0.0), layers_ms=layers))
    again = ledger(tmp_path / "log")
    problem = Problem(Partition(units=(), reasons={}, edges=()), CHOICES, {}, FP32)
    [seen] = ModelGuidedSampler(problem, {}, 0.01).trials(again.study)

    assert again.trials()[0].measured.layers_ms == seen.measured.layers_ms == layers


def test_the_constraint_is_set_on_the_optuna_trial(tmp_path: Path) -> None:
    book = ledger(tmp_path / "log", max_drop=0.1)
    told(book, LOW, measurement(0.25))
    told(book, LOWEST, measurement(0.05), "half")
    over, within = stored(tmp_path / "log").trials

    assert list(over.constraints.values()) == [pytest.approx(0.15)]
    assert list(within.constraints.values()) == [pytest.approx(-0.05)]
    assert (over.value, over.params) == (0.5, {"a": "fp32", "b": "int8"})


def test_a_plan_that_was_not_timed_is_pruned_and_keeps_its_constraint(tmp_path: Path) -> None:
    untimed = Measurement(
        drop=0.3, judged_drop=0.3, noise=1e-3, kl=None, agreement=None, latency_ratio=math.inf, samples=50
    )
    trial = told(ledger(tmp_path / "log"), LOW, untimed)
    [record] = stored(tmp_path / "log").trials

    assert record.state is TrialState.PRUNED
    assert list(record.constraints.values()) == [pytest.approx(0.29)]
    assert ledger(tmp_path / "log").trials() == [trial]
    assert not trial.measured.timed


def test_feasibility_follows_the_bound_of_today(tmp_path: Path) -> None:
    told(ledger(tmp_path / "log"), LOW, measurement(0.05))

    assert [t.feasible for t in ledger(tmp_path / "log", max_drop=0.01).trials()] == [False]
    assert [t.feasible for t in ledger(tmp_path / "log", max_drop=0.1).trials()] == [True]


def test_runs_of_other_inputs_lie_side_by_side(tmp_path: Path) -> None:
    told(ledger(tmp_path / "log"), LOW, measurement(0.05))

    assert ledger(tmp_path / "log", name="other").trials() == []
    assert len(ledger(tmp_path / "log").trials()) == 1


def test_a_plan_runs_while_it_is_measured(tmp_path: Path) -> None:
    book = ledger(tmp_path / "log")
    book.enqueue({"uniform": LOW})
    asked = book.ask()
    [record] = stored(tmp_path / "log").trials

    assert record.state is TrialState.RUNNING
    assert record.user_attrs[OWNER] == own_label()
    assert record.params == {"a": "fp32", "b": "int8"}
    book.tell(asked, measurement(0.0))
    assert stored(tmp_path / "log").trials[0].state is TrialState.COMPLETE


def test_what_a_process_that_lives_has_begun_stays(tmp_path: Path) -> None:
    first = ledger(tmp_path / "log")
    first.enqueue({"uniform": LOW})
    asked = first.ask()
    second = ledger(tmp_path / "log")
    second.enqueue({"uniform": LOW})

    assert not second.queue().waiting  # it is not measured twice
    trial = first.tell(asked, measurement(0.0))
    assert second.trials() == [trial]


DIE = """
import os, signal, sys
from pathlib import Path
import optuna
from autoprec.precision import Precision
from autoprec.study.ledger.ask_tell import Ledger
choices = {"a": (Precision.FP32, Precision.INT8), "b": (Precision.FP32, Precision.INT8), "fixed": (Precision.INT8,)}
book = Ledger(Path(sys.argv[1]), "run", choices, 0.01, optuna.samplers.RandomSampler(seed=0))
book.enqueue({"uniform": {"a": Precision.FP32, "b": Precision.INT8, "fixed": Precision.INT8}})
book.ask()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_had_begun_is_failed_and_measured_anew(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", DIE, str(tmp_path / "log")], check=False, timeout=600)
    [begun] = stored(tmp_path / "log").trials
    assert begun.state is TrialState.RUNNING
    trial = told(ledger(tmp_path / "log"), LOW, measurement(0.05))

    assert ledger(tmp_path / "log").trials() == [trial]
    assert [record.state for record in stored(tmp_path / "log").trials] == [TrialState.FAIL, TrialState.COMPLETE]


def test_what_waited_for_a_killed_run_is_measured_by_the_next(tmp_path: Path) -> None:
    ledger(tmp_path / "log").enqueue({"uniform": LOW})
    book = ledger(tmp_path / "log")
    book.enqueue({"uniform": LOW, "half": LOWEST})
    plans = []
    while book.queue().waiting:
        asked = book.ask()
        plans.append((asked.origin, asked.plan))
        book.tell(asked, measurement(0.0))

    assert plans == [("uniform", LOW), ("half", LOWEST)]


def test_known_plans_are_not_enqueued_again(tmp_path: Path) -> None:
    told(ledger(tmp_path / "log"), LOW, measurement(0.05))
    book = ledger(tmp_path / "log")
    book.enqueue({"uniform": LOW})

    assert not book.queue().waiting


def test_a_refused_plan_is_no_trial(tmp_path: Path) -> None:
    book = ledger(tmp_path / "log")
    book.enqueue({"uniform": LOW})
    book.fail(book.ask(), "no such kernel")

    assert book.trials() == []
    assert stored(tmp_path / "log").trials[0].user_attrs["refused"] == "no such kernel"


def test_what_is_asked_again_is_told_to_the_sampler_and_is_no_trial() -> None:
    book = ledger(None)
    trial = told(book, LOW, measurement(0.0))
    again = book.ask()
    book.repeat(again, trial.measured)

    assert book.trials() == [trial]
    assert [record.value for record in book.study.trials] == [0.5, 0.5]


@pytest.mark.parametrize(
    "garbage", [b"x\n{}\n", b'{"op_code": 99}\n', b"\x00\xff\n\n", b'{"op_code": 0}\n', b"[]\n1\n"]
)
def test_a_damaged_study_is_an_error_that_names_the_file(tmp_path: Path, garbage: bytes) -> None:
    (tmp_path / "log").write_bytes(garbage)

    with pytest.raises(RunDirectoryError, match=r"log is damaged\b.*; delete it to search again"):
        ledger(tmp_path / "log").trials()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(RunDirectoryError, match=r"cannot keep the study in .*; choose a writable folder by --out"):
        ledger(tmp_path / "file" / "log")


def test_the_mark_of_this_process_says_that_it_lives() -> None:
    from datetime import datetime, timedelta

    from autoprec.study.ledger.owners import abandoned

    mine, now = own_label(), datetime.now()
    assert not abandoned(mine, now - timedelta(days=1))
    assert abandoned({**mine, "began": "0"}, now)  # the process id belongs to another process now
    assert abandoned({**mine, "pid": 2**22 + 1}, now)
    assert not abandoned({**mine, "host": "elsewhere"}, now - timedelta(minutes=5))
    assert abandoned({**mine, "host": "elsewhere"}, now - timedelta(hours=2))
    assert not abandoned(None, now)
    assert abandoned(None, now - timedelta(minutes=5))
    assert os.getpid() == mine["pid"]


def test_reading_gives_the_same_trials_and_leaves_the_journal_and_running_trials_alone(tmp_path: Path) -> None:
    path = tmp_path / "log"
    book = ledger(path)
    told(book, LOW, measurement(0.0))
    told(book, LOWEST, measurement(0.02, math.inf), "half")
    book.enqueue({"next": {"a": FP32, "b": FP32, "fixed": INT8}})
    book.ask()
    before = path.read_bytes()

    assert stored_trials(path, "run", CHOICES, 0.01) == tuple(book.trials())
    assert [trial.feasible for trial in stored_trials(path, "run", CHOICES, 0.02)] == [True, True]
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


def test_reading_an_absent_study_makes_none(tmp_path: Path) -> None:
    with pytest.raises(RunDirectoryError, match=r"there is no study .*log, so no plan was measured; run `autoprec"):
        stored_trials(tmp_path / "log", "run", CHOICES, 0.01)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["garbage\nand more\n", "{}\n{}\n"])
def test_a_damaged_study_is_refused_in_one_sentence(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "log"
    told(ledger(path), LOW, measurement(0.0))
    path.write_text(damage + path.read_text(encoding="utf-8"), encoding="utf-8")

    with pytest.raises(RunDirectoryError, match=r"the study .*log is damaged .*; delete it and run `autoprec tune`"):
        stored_trials(path, "run", CHOICES, 0.01)


def test_another_studys_name_is_not_in_the_file(tmp_path: Path) -> None:
    told(ledger(tmp_path / "log"), LOW, measurement(0.0))

    with pytest.raises(RunDirectoryError, match="is damaged"):
        stored_trials(tmp_path / "log", "other", CHOICES, 0.01)
