"""A gate from end to end by figures over a data set: the F1 of classes, and mAP."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autoprec
from autoprec.backends.ort import OrtBackend
from autoprec.gate.judge import Limits, gate, record_baseline
from autoprec.gate.verdict import Check, Status
from autoprec.testing import FakeBackend, tiny_data

from ..helpers.spoilt_models import turn_classes_of

Array = np.ndarray
SAMPLES = 240


def boxes(outputs: dict[str, Array]) -> list[Array]:
    """One box for each image: the class of the largest score, which is as sure as it is far above the next."""
    found = []
    for scores in outputs["scores"]:
        second, first = np.sort(scores)[-2:]
        found.append(np.array([[scores.argmax(), 1 / (1 + np.exp(second - first)), 0, 0, 10, 10]]))
    return found


def labels_for(metric: str, classes: Array) -> Array:
    """The true classes; for mAP as one box for each image."""
    if metric == "f1":
        return classes
    rows = np.tile([0.0, 0, 0, 10, 10], (len(classes), 1, 1))
    rows[:, 0, 0] = classes
    return rows


@pytest.mark.parametrize("metric", ["f1", "map50"])
def test_the_same_model_is_fine_and_one_that_confuses_classes_is_not(metric: str, model: Path, tmp_path: Path) -> None:
    data = {"x": tiny_data(model, SAMPLES, seed=1)["x"]}
    with OrtBackend(threads=1).build(model.read_bytes()) as engine:
        classes = engine.run(data)["scores"].argmax(axis=1)
    unsure = np.random.default_rng(0).random(SAMPLES) < 0.1
    labels = labels_for(metric, np.where(unsure, (classes + 1) % 16, classes))
    decode: dict[str, Any] = {"decode": boxes} if metric == "map50" else {}
    result = autoprec.search(
        model,
        calib=tiny_data(model, 16, seed=2),
        eval={**data, "labels": labels},
        metric=metric,
        max_drop=0.5,
        trials=2,
        backend=FakeBackend(),
        out=tmp_path / "run",
        **decode,
    )
    record_baseline(result.save(), tmp_path / "baseline.json")

    def judged(path: Path) -> Check:
        report = gate(
            path,
            tmp_path / "baseline.json",
            eval={**data, "labels": labels},
            backend=FakeBackend(),
            limits=Limits(max_drop=0.25),
            **decode,
        )
        return next(check for check in report.checks if check.name == "accuracy")

    assert judged(model).status is Status.FINE
    turn_classes_of(Path(shutil.copy(model, tmp_path / "turned.onnx")))
    assert judged(tmp_path / "turned.onnx").status is Status.WORSE
