"""Trackers by name, each with its own library where that is installed, and without a network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from autoprec.errors import UsageError
from autoprec.run.tracking.named import tracked_run, tracker_named
from autoprec.study.trial import Trial

from ...helpers.ledgers import DONE, LOW

TRIALS = [
    Trial(number=n, origin="swap", plan=LOW, measured=replace(DONE, latency_ratio=0.9 - n / 10), feasible=True)
    for n in range(2)
]


def follow(name: str) -> None:
    with tracked_run([name], "net", {"metric": "top1"}) as progress:
        for trial in TRIALS:
            progress.trial(trial)
        progress.answer({"chosen": "trial 1", "latency_ratio": 0.8})


@pytest.mark.parametrize("text", ["tensorboard", "mlflow:", "paper:here", ""])
def test_a_name_that_is_none_is_refused_with_those_that_are(text: str) -> None:
    with pytest.raises(UsageError, match=r"^a tracker must be tensorboard:FOLDER, mlflow:URI, wandb:offline"):
        tracker_named(text)


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs its library; pip install 'autoprec\[mlflow\]'"):
        tracker_named("mlflow:sqlite:///mlflow.db")


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_the_curves(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util.tensor_util import make_ndarray

    follow(f"tensorboard:{tmp_path}")
    events = EventAccumulator(str(tmp_path / "net"))
    events.Reload()
    curve = [(e.step, round(float(make_ndarray(e.tensor_proto)), 3)) for e in events.Tensors("trials/latency_ratio")]

    assert curve == [(0, 0.9), (1, 0.8)]
    assert "answer/latency_ratio" in events.Tags()["tensors"]


@pytest.mark.filterwarnings("ignore")
def test_mlflow_reads_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # its folders need no database, and are what is quick
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    uri = (tmp_path / "mlruns").as_uri()
    follow(f"mlflow:{uri}")
    client = mlflow.MlflowClient(tracking_uri=uri)
    [run] = client.search_runs([client.get_experiment_by_name("autoprec").experiment_id])
    steps = [(m.step, round(m.value, 3)) for m in client.get_metric_history(run.info.run_id, "latency_ratio")]

    assert (run.info.run_name, run.data.params, steps) == ("net", {"metric": "top1"}, [(0, 0.9), (1, 0.8)])
    assert (run.info.status, run.data.tags["chosen"]) == ("FINISHED", "trial 1")
    assert run.data.metrics["answer_latency_ratio"] == 0.8


@pytest.mark.filterwarnings("ignore")
def test_wandb_keeps_an_offline_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    follow("wandb:offline")
    wandb.teardown()  # its service writes the file when it ends

    [kept] = tmp_path.rglob("run-*.wandb")
    assert b"latency_ratio" in kept.read_bytes()
