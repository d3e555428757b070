"""The study for people, read as Optuna Dashboard reads it: with Optuna alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from autoprec.study.ledger.shown import Shown, show_trials
from autoprec.study.ledger.storages import journal_location
from autoprec.study.trial import Trial

from ...helpers.ledgers import CHOICES, DONE, LOW, LOWEST

SHOWN = Shown("resnet50", "top1", "FP32")
TRIALS = [
    Trial(number=0, origin="uniform int8", plan=LOWEST, measured=replace(DONE, bytes=70.0), feasible=True),
    Trial(number=2, origin="swap", plan=LOW, measured=replace(DONE, drop=0.02, judged_drop=0.02), feasible=False),
    Trial(number=3, origin="swap", plan=LOW, measured=replace(DONE, latency_ratio=float("inf")), feasible=False),
]


@pytest.fixture(name="journal")
def _journal(tmp_path: Path) -> Path:
    return tmp_path / "study.log"


def read(journal: Path) -> optuna.Study:
    storage = JournalStorage(JournalFileBackend(str(journal)))
    [name] = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=name, storage=storage)


def test_it_is_named_after_the_model_and_has_three_named_values(journal: Path) -> None:
    show_trials(journal_location(journal), "0123456789abcdef", SHOWN, CHOICES, TRIALS)
    study = read(journal)

    assert study.study_name == "resnet50 01234567"
    assert study.metric_names == ["latency / FP32", "drop of top1", "size, bytes"]
    assert [trial.values for trial in study.trials] == [[0.5, 0.0, 70.0], [0.5, 0.02, 0.0]]
    assert study.trials[1].params == {"a": "fp32", "b": "int8"}
    assert study.trials[0].user_attrs == {"trial": 0, "proposed by": "uniform int8", "within the bounds": True}


def test_a_run_that_goes_on_adds_what_is_new(journal: Path) -> None:
    for count in (1, 2, 2):
        show_trials(journal_location(journal), "0123456789abcdef", SHOWN, CHOICES, TRIALS[:count])

    assert [trial.user_attrs["trial"] for trial in read(journal).trials] == [0, 2]
