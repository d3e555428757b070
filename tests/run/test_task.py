"""What the user asked for, checked and resolved before anything runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprec.errors import DataError, UsageError
from autoprec.precision import Precision
from autoprec.run.settings import Settings
from autoprec.run.task import Subject, Task, prepare_subject, prepare_task
from autoprec.testing import FakeBackend, tiny_data

from ..helpers.networks import write
from ..helpers.onnx_builder import Builder

FP32, FP16, INT8, FP8 = Precision.FP32, Precision.FP16, Precision.INT8, Precision.FP8


def subject(model: Path, *, timed: bool = True, **options: Any) -> Subject:
    return prepare_subject(Settings(model=model, **options), FakeBackend(), timed=timed)


def task(model: Path, **options: Any) -> Task:
    return prepare_task(Settings(model=model, **{"calib": tiny_data(model, 30), **options}), FakeBackend())


def test_without_a_space_the_backend_decides(model: Path) -> None:
    found = subject(model)

    assert found.space.name == "cpu"
    assert set(found.choices.values()) == {(FP32, INT8)}
    assert found.notes == ()


def test_precisions_that_cannot_be_timed_are_no_choices_and_are_noted(model: Path) -> None:
    found = subject(model, space="tensorrt")

    assert set(found.choices.values()) == {(FP32, INT8)}
    assert found.notes == ("fp16 is left out: the fake backend has no costs for it, so it cannot be timed",)


def test_untimed_precisions_are_choices_where_nothing_is_timed(model: Path) -> None:
    found = subject(model, space="tensorrt-fp8", timed=False)

    assert FP8 in found.choices["conv1"]
    assert FP16 in found.choices["pool"]
    assert found.lowerer.scheme.name == "tensorrt"


def test_a_pin_leaves_one_choice_and_a_later_pin_wins(model: Path) -> None:
    found = subject(model, pins=["conv.*=fp32", "^conv2$=int8"])

    assert [found.choices[name] for name in ("conv1", "conv2", "conv3")] == [(FP32,), (INT8,), (FP32,)]
    assert dict(found.pinned) == {"conv1": FP32, "conv2": INT8, "conv3": FP32}


def test_a_pin_may_name_a_node_within_a_unit(model: Path) -> None:
    assert set(subject(model, pins=["^relu2$=fp32"]).pinned) == {"conv2"}


def test_a_wide_pin_takes_only_the_units_that_can(model: Path) -> None:
    found = subject(model, pins=[".*=int8"], space="tensorrt", timed=False)

    assert found.pinned
    assert all(found.possible[unit][INT8] is None for unit in found.pinned)


def test_a_misspelt_pin_gets_a_hint(model: Path) -> None:
    with pytest.raises(UsageError, match="'covn1' fits no unit; did you mean conv1"):
        subject(model, pins=["covn1=fp32"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_drop": -1e-9}, "--max-drop must be 0 or more"),
        ({"batch": 0}, "--batch must be at least 1, got 0"),
        ({"trials": 0}, "--trials must be at least 1, got 0"),
        ({"timeout_s": 0.0}, "--timeout must be more than 0 seconds"),
    ],
)
def test_numbers_out_of_range(model: Path, options: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        task(model, **options)


def test_no_data_is_an_error(model: Path) -> None:
    with pytest.raises(DataError, match="give --calib and --eval, or one of them to be split"):
        task(model, calib=None)


def test_the_metric_follows_the_labels(model: Path) -> None:
    data = tiny_data(model, 30)

    assert task(model).metric.name == "top1"
    assert task(model, calib={"x": data["x"]}).metric.name == "agreement"


def test_labels_of_the_calibration_data_are_not_needed(model: Path) -> None:
    data, other = tiny_data(model, 30), tiny_data(model, 10, seed=5)

    assert task(model, calib={"x": other["x"]}, evaluate=data).metric.name == "top1"
    assert task(model, calib=data, evaluate={"x": other["x"]}).metric.name == "agreement"


@pytest.mark.parametrize(("length", "left"), [(10, False), (32, True)])
def test_a_unit_that_is_too_small_in_the_shapes_of_the_data_is_offered_no_8_bits(
    tmp_path: Path, length: int, left: bool
) -> None:
    b = Builder()
    x = b.input("x", ["N", "T", 32])
    keys = b.node("Transpose", "keys", [b.node("Tanh", "tanh", [x])], perm=[0, 2, 1])
    b.output(b.node("MatMul", "scores", [x, keys]), ["N", "T", "T"])
    data = {"x": np.random.default_rng(0).normal(size=(30, length, 32)).astype(np.float32)}
    settings = Settings(model=write(b.model(), tmp_path), calib=data, space="tensorrt")
    found = prepare_task(settings, FakeBackend(), timed=False).subject

    assert (INT8 in found.choices["scores"]) == left
    assert ("at least 16" in str(found.possible["scores"][INT8])) != left
    if not left:
        with pytest.raises(UsageError, match="'scores' cannot be pinned to int8: too small"):
            prepare_task(replace(settings, pins=("scores=int8",)), FakeBackend(), timed=False)
