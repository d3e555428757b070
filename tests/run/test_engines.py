"""Runtimes that refuse plans, compute something else, or disobey: what a search makes of each."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autoprec
from autoprec.backends.protocol import Backend
from autoprec.data.dataset import Dataset
from autoprec.errors import BackendError
from autoprec.precision import Precision
from autoprec.run.engines import Engines, timing_feed
from autoprec.run.settings import Settings
from autoprec.run.task import Task, prepare_task
from autoprec.run.uniform import uniform_plans
from autoprec.study.participant import MOST_REFUSED
from autoprec.testing import FakeBackend, tiny_data

from ..helpers.bad_backends import Disobedient, Miscalculating, Refusing

CONVOLUTIONS = {"conv1", "conv2", "conv3"}


def searched(model: Path, out: Path, backend: Backend, **options: Any) -> autoprec.SearchResult:
    settings = {"calib": tiny_data(model, 36), "max_drop": 0.5, "trials": 12, "metric": "agreement", "recipe": "minmax"}
    return autoprec.search(model, out=out, backend=backend, **{**settings, **options})


# --- plans that the runtime refuses ----------------------------------------------------------------------


def test_a_refused_plan_costs_that_plan_and_not_the_run(model: Path, tmp_path: Path) -> None:
    """Of all plans, only the one with every convolution in INT8 cannot be built."""
    backend = Refusing(lambda codes: codes == CONVOLUTIONS)
    result = searched(model, tmp_path, backend)

    assert result.feasible
    assert len(result.trials) >= 3
    assert result.summary["refused_plans"][0] == (
        "uniform int8: no kernel computes conv1, conv2, conv3 in int8; choose another precision"
    )
    chosen = {unit for unit in CONVOLUTIONS if result.plan.units[unit].precision is Precision.INT8}
    assert chosen < CONVOLUTIONS
    assert "uniform int8" not in result.summary["candidates"]
    assert not any(all(t.plan[unit] is Precision.INT8 for unit in CONVOLUTIONS) for t in result.trials)


def test_the_next_best_plan_is_found_beside_refused_ones(model: Path, tmp_path: Path) -> None:
    backend = Refusing(lambda codes: codes == CONVOLUTIONS)
    result = searched(model, tmp_path, backend, trials=16)

    assert result.summary["candidates"][result.summary["chosen"]]["latency_vs_fp32"]["estimate"] < 0.9


def test_no_plan_is_tried_again_once_it_was_refused(model: Path, tmp_path: Path) -> None:
    """But for the uniform plan, whose place in the report is tried once more."""
    backend = Refusing(lambda codes: "conv2" in codes)
    result = searched(model, tmp_path, backend)
    words = result.summary["refused_plans"]

    assert 1 <= len(words) <= MOST_REFUSED
    assert all("conv2" in line for line in words)
    assert backend.refusals == len(words) + 1
    assert all(trial.plan["conv2"] is Precision.FP32 for trial in result.trials)


def test_a_runtime_that_refuses_every_convolution_is_not_asked_for_ever(model: Path, tmp_path: Path) -> None:
    """What was measured is kept: convolutions stay in FP32, and all refusals are told."""
    backend = Refusing(bool)
    result = searched(model, tmp_path, backend, trials=40)

    assert {result.plan.units[unit].precision for unit in CONVOLUTIONS} == {Precision.FP32}
    assert len(result.summary["refused_plans"]) <= MOST_REFUSED + 1 == 9
    assert result.summary["stopped"].startswith(("the runtime refused", "no other plan"))


def test_a_runtime_that_refuses_the_model_itself_is_told_at_once(model: Path, tmp_path: Path) -> None:
    backend = Refusing(lambda _: True)
    with pytest.raises(BackendError, match="no kernel computes no convolution in int8"):
        searched(model, tmp_path, backend)


# --- engines that compute something else -----------------------------------------------------------------


def test_an_engine_that_computes_what_the_model_says_does_not_differ(model: Path, tmp_path: Path) -> None:
    simulation = searched(model, tmp_path, Miscalculating(wrong=False)).summary["simulation"]

    assert simulation is not None
    assert simulation["differs"] is False
    assert simulation["engine_minus"]["low"] <= 0 <= simulation["engine_minus"]["high"]


def test_an_engine_that_computes_something_else_is_found_out(model: Path, tmp_path: Path) -> None:
    """All outputs with the wrong sign: no decision is FP32's, where exact arithmetic has nearly all."""
    summary = searched(model, tmp_path, Miscalculating(), max_drop=1).summary
    chosen = summary["candidates"][summary["chosen"]]

    assert summary["simulation"]["differs"] is True
    assert summary["simulation"]["score"] > 0.8
    assert chosen["score"] < 0.2
    assert summary["simulation"]["engine_minus"]["low"] > 0.5


def test_fp32_has_no_simulation(model: Path, tmp_path: Path) -> None:
    """It is the very model."""
    result = searched(model, tmp_path, FakeBackend(), pins=[".*=fp32"], trials=2)

    assert result.summary["chosen"] == "uniform fp32"
    assert result.summary["simulation"] is None


# --- engines that disobey --------------------------------------------------------------------------------


def test_a_heavy_unit_in_another_precision_is_a_complaint(model: Path, tmp_path: Path) -> None:
    summary = searched(model, tmp_path, Disobedient("conv1"), pins=["conv1=int8"]).summary

    assert summary["verification"]["refused"] == ["conv1"]
    assert summary["verification"]["units"]["conv1"]["status"] == "not honoured"
    assert "conv1 was asked for in int8 but runs in a float type" in summary["complaint"]


def test_a_light_unit_in_another_precision_is_none(model: Path, tmp_path: Path) -> None:
    summary = searched(model, tmp_path, Disobedient("pool"), pins=[".*=int8"], max_drop=1).summary

    assert summary["verification"]["units"]["pool"]["status"] == "not honoured"
    assert summary["complaint"] is None


# --- the engines of one task -----------------------------------------------------------------------------


class Elsewhere(FakeBackend):
    """As engines for another machine: they have a clock and cannot run."""

    runs_here = False


def tasked(model: Path, backend: Backend, samples: int = 36, **options: Any) -> Task:
    return prepare_task(Settings(model=model, calib=tiny_data(model, samples), metric="agreement", **options), backend)


def ranges_of(task: Task) -> Any:
    from autoprec.calibrate.choose import calibrate_model
    from autoprec.calibrate.job import CalibrationJob

    subject = task.subject
    return calibrate_model(
        CalibrationJob(
            lowerer=subject.lowerer,
            possible=subject.possible,
            backend=task.backend,
            dataset=task.splits.calibrate,
            recipe=task.recipe,
        )
    )


def test_engines_that_run_here_compute_what_is_timed(model: Path) -> None:
    task = tasked(model, FakeBackend())
    with ExitStack() as stack:
        opened = Engines(task, task.backend).open(uniform_plans(task.subject)["uniform int8"], ranges_of(task), stack)

        assert opened.timed is opened.computing


def test_engines_for_elsewhere_are_simulated(model: Path) -> None:
    task = tasked(model, Elsewhere())
    plan, ranges, engines = uniform_plans(task.subject)["uniform int8"], ranges_of(task), Engines(task, task.backend)
    feed = timing_feed(task, task.splits.select)
    with ExitStack() as stack:
        opened = engines.open(plan, ranges, stack)
        expected = engines.simulated(plan, ranges, stack).run(feed)["scores"]

        assert opened.timed is not opened.computing
        np.testing.assert_array_equal(opened.computing.run(feed)["scores"], expected)


def test_time_in_units_is_the_profile_of_their_nodes(model: Path) -> None:
    task = tasked(model, FakeBackend({"conv1": (7.0, 3.0), "relu1": (0.5, 0.5)}))
    plans, ranges, engines = uniform_plans(task.subject), ranges_of(task), Engines(task, task.backend)
    feed = timing_feed(task, task.splits.select)

    assert engines.unit_ms(plans["uniform fp32"], ranges, feed)["conv1"] == pytest.approx(7.5)
    assert engines.unit_ms(plans["uniform int8"], ranges, feed)["conv1"] == pytest.approx(3.5)
    assert set(engines.unit_ms(plans["uniform fp32"], ranges, feed)) == {
        unit.name for unit in task.subject.partition.units
    }


def test_a_batch_for_timing_is_filled_up_by_repetition(model: Path) -> None:
    task = tasked(model, FakeBackend(), batch=10)
    few = Dataset.from_arrays({"x": tiny_data(model, 3)["x"]})
    feed = timing_feed(task, few)

    assert feed["x"].shape == (10, 24, 8, 8)
    np.testing.assert_array_equal(feed["x"][3:6], feed["x"][:3])
    assert feed["x"].flags.c_contiguous
