"""One process leads a study; a second tune that would lead it at the same time is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import optuna
import pytest

from autoprec.errors import UsageError
from autoprec.precision import Precision
from autoprec.study.ledger.ask_tell import Ledger
from autoprec.study.ledger.owners import own_label

ELSEWHERE = {"host": "elsewhere", "pid": 1, "began": "1", "space": None}


def ledger(folder: Path, process: dict[str, Any] | None = None) -> Ledger:
    choices = {"unit": (Precision.FP32, Precision.INT8)}
    sampler = optuna.samplers.RandomSampler(seed=0)
    return Ledger(folder / "study.log", "study", choices, 1.0, sampler, process=process)


def test_a_second_leader_is_refused_while_the_first_is_alive(tmp_path: Path) -> None:
    ledger(tmp_path).begin()
    second = ledger(tmp_path, ELSEWHERE)
    with pytest.raises(UsageError, match=rf"another tune \(process {os.getpid()} on .*\) leads this very search"):
        second.begin()


def test_a_second_leader_may_follow_the_first(tmp_path: Path) -> None:
    first = ledger(tmp_path)
    first.begin()
    first.end("over")
    ledger(tmp_path, ELSEWHERE).begin()


def test_a_second_leader_may_take_over_from_one_that_was_killed(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    ledger(tmp_path, {**own_label(), "pid": process.pid}).begin()
    ledger(tmp_path).begin()


def test_the_same_process_may_begin_again(tmp_path: Path) -> None:
    ledger(tmp_path).begin()
    ledger(tmp_path).begin()
