"""What a builder chooses where precisions are left to it is a plan of the search, and its engine may be the answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

import autoprec
from autoprec.build import deliver
from autoprec.gate.baseline import load_baseline
from autoprec.gate.judge import record_baseline
from autoprec.gate.rebuild import rebuild_plan
from autoprec.plan import load_plan
from autoprec.precision import LIMITS_KEY
from autoprec.run.context import prepare_run
from autoprec.run.directory import RunDirectory
from autoprec.run.settings import Settings
from autoprec.run.stages.builders_choice import begin_free_build, with_finalist
from autoprec.run.task import prepare_task
from autoprec.study.origin import Origin
from autoprec.testing import tiny_data, tiny_model

from ...helpers.slow_builds import SlowFake


@pytest.fixture(name="tuned", scope="module")
def _tuned(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A whole tune where the builder's own choice takes half the time of the same model as it is written."""
    folder = tmp_path_factory.mktemp("choice")
    model = tiny_model(folder)
    result = autoprec.search(
        model,
        eval=tiny_data(model, 64),
        metric="sqnr",
        max_drop=0.02,
        trials=6,
        backend=SlowFake(1.0, free_share=0.3),
        out=folder / "run",
    )
    result.save()
    return result, folder / "run", model


def test_the_faster_engine_of_the_builder_is_the_answer(tuned: Any) -> None:
    result, _, _ = tuned

    assert result.tuned.chosen == Origin.BUILDER.value
    assert result.tuned.answer.timing.median_ms < 0.5 * result.tuned.unit.timing.median_ms
    assert result.tuned.answer.outcome.finite
    assert "builder" in result.reason


def test_what_it_ran_is_offered_to_the_search_as_a_plan(tuned: Any) -> None:
    result, _, _ = tuned
    offered = [dict(trial.plan) for trial in result.trials]

    assert dict(result.tuned.answer.plan) in offered


def test_its_plan_file_builds_the_same_model_again(tuned: Any) -> None:
    _, folder, model = tuned
    plan, written = load_plan(folder / "plan.json"), folder / "model.onnx"
    limits = {e.key: e.value for e in onnx.load(written).metadata_props}[LIMITS_KEY]
    again = deliver(folder / "plan.json", model, folder.parent / "again.onnx")

    assert plan.left_to_builder
    assert all(limit > 0 for limit in json.loads(limits).values())
    assert again.model.read_bytes() == written.read_bytes()
    assert not any(node.op_type == "QuantizeLinear" for node in onnx.load(written).graph.node)


def test_a_gate_judges_the_same_model(tuned: Any, tmp_path: Path) -> None:
    result, folder, model = tuned
    record_baseline(folder, tmp_path / "baseline")
    rebuilt = rebuild_plan(model, load_baseline(tmp_path / "baseline"))

    assert rebuilt.lowered == result.lowered_model()


def test_an_engine_over_the_bound_is_no_finalist(tuned: Any) -> None:
    result, _, _ = tuned
    found = result.tuned.found
    trial = next(t for t in found.finalists if t.origin == Origin.BUILDER.value)
    missed = replace(trial, feasible=False)

    assert with_finalist(found, missed, result.tuned.goal) is found


def test_only_a_run_with_time_begins_the_builders_choice_before_the_search(tuned: Any, tmp_path: Path) -> None:
    """Other builds take up to four times as long beside it."""
    result, _, model = tuned
    for timeout_s, begun in ((None, 1), (120.0, 0)):
        backend = SlowFake(1.0, free_share=0.3)
        settings = Settings(model=model, evaluate=tiny_data(model, 64), metric="sqnr", timeout_s=timeout_s)
        directory = RunDirectory(tmp_path / str(begun))
        directory.prepare()
        run = prepare_run(prepare_task(settings, backend), directory)
        choice = begin_free_build(run, result.tuned.ranges)

        assert (choice is not None) == bool(begun)
        assert sum(LIMITS_KEY.encode() in model for model in backend.ahead) == begun
