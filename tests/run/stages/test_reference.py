"""Where engines take long to build, FP32's is not built: the clock's unit is FP16, and builds are begun ahead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import autoprec
from autoprec.errors import OutOfTimeError
from autoprec.precision import Precision
from autoprec.run.answer.table import table_rows
from autoprec.run.context import prepare_run
from autoprec.run.directory import RunDirectory
from autoprec.run.settings import Settings
from autoprec.run.study_description import read_study_description
from autoprec.run.task import prepare_task
from autoprec.run.tune import tune
from autoprec.run.uniform import uniform_plans
from autoprec.testing import tiny_data, tiny_model

from ...helpers.slow_builds import SlowFake


@pytest.fixture(name="tuned", scope="module")
def _tuned(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A whole tune under a time limit of which it needs little, with its backend and folder."""
    folder = tmp_path_factory.mktemp("reference")
    model, backend = tiny_model(folder), SlowFake(1.0)
    result = autoprec.search(
        model,
        eval=tiny_data(model, 64),
        metric="sqnr",
        max_drop=0.02,
        trials=6,
        timeout_s=250.0,
        backend=backend,
        out=folder / "run",
    )
    result.save()
    return result, backend, folder / "run"


def test_fp32_is_never_built_and_latencies_are_shares_of_fp16(tuned: Any) -> None:
    result, _, folder = tuned
    subject = result.tuned.task.subject
    fp32 = uniform_plans(subject)["uniform fp32"]
    written = json.loads((folder / "result.json").read_text())

    assert all(dict(trial.plan) != fp32 for trial in result.trials)
    assert result.trials[0].origin == "uniform fp16"
    assert result.trials[0].measured.latency_ratio == 1.0
    assert (written["unit"], result.tuned.goal.unit) == ("uniform fp16", Precision.FP16)
    assert {row["latency_vs_fp32"] for row in written["candidates"].values()} == {None}
    assert written["candidates"]["uniform fp16"]["latency_vs_unit"]["estimate"] == 1.0
    assert "of FP16's latency" in result.reason
    assert "vs FP16" in table_rows(result.tuned)[0]
    assert read_study_description(folder / "study.json").goal.unit is Precision.FP16


def test_the_reference_outputs_are_those_of_fp32_all_the_same(tuned: Any) -> None:
    result, _, _ = tuned
    int8 = next(trial for trial in result.trials if trial.origin == "uniform int8")

    assert int8.measured.noise > 0
    assert float(result.tuned.reference_scores.mean()) == pytest.approx(result.summary["score_fp32"])


def test_what_is_begun_ahead_is_what_is_opened_and_the_units_engine_is_the_first(tuned: Any) -> None:
    result, backend, _ = tuned
    engines, ranges = result.tuned.task.subject.lowerer, result.tuned.ranges
    from autoprec.graph.model import to_bytes

    fp16 = to_bytes(engines.lower(uniform_plans(result.tuned.task.subject)["uniform fp16"], ranges).ir)
    quick = [model for model, quickly in backend.built if quickly]

    assert backend.ahead[0] == fp16, "it was begun before there were ranges"
    assert set(quick) <= set(backend.ahead)


def test_a_short_run_explores_quickly_and_builds_finalists_as_usual(tuned: Any) -> None:
    result, backend, _ = tuned
    usual = [model for model, quickly in backend.built if not quickly]

    assert sum(quickly for _, quickly in backend.built) == len(result.trials)
    assert 0 < len(usual) <= 5
    assert not any("quick" in text for text in result.tuned.time.left_out)


@pytest.mark.parametrize(("build_s", "measured"), [(500.0, 0), (100.0, 1)])
def test_a_build_that_outlasts_the_limit_is_cancelled_and_what_was_built_is_the_answer(
    tmp_path: Path, build_s: float, measured: int
) -> None:
    model, backend = tiny_model(tmp_path), SlowFake(build_s)
    settings = Settings(
        model=model, evaluate=tiny_data(model, 64), metric="sqnr", max_drop=0.02, trials=6, timeout_s=150.0
    )
    run = prepare_run(prepare_task(settings, backend), RunDirectory(tmp_path / "run"), clock=backend.clock_s)
    run.directory.prepare()
    if not measured:
        with pytest.raises(OutOfTimeError):
            tune(run)
    else:
        assert len(tune(run).found.trials) == measured

    assert backend.now <= 150.0
