"""A whole search through TensorRT-RTX for a GPU that is not here, with the latency model for a clock."""

from __future__ import annotations

import gc
import json
from pathlib import Path
from typing import Any

import pytest

import autoprec
from autoprec.errors import EXIT_OK, UsageError
from autoprec.precision import Precision
from autoprec.run.answer.table import table_rows
from autoprec.testing import tiny_data, tiny_model

pytest.importorskip("tensorrt_rtx", reason="the real builder needs tensorrt-rtx: pip install tensorrt-rtx")

BATCH = 512
"""Large enough that arithmetic and memory outweigh the launches of kernels, so that INT8 pays."""


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("modelled")


def searched(folder: Path, out: str, **options: Any) -> autoprec.SearchResult:
    model = tiny_model(folder)
    settings = {
        "calib": tiny_data(model, 36),
        "metric": "sqnr",
        "max_drop": 0.05,
        "trials": 8,
        "batch": BATCH,
        "threads": 1,
        "backend": "tensorrt-rtx",
        "targets": ("sm89",),
    }
    result = autoprec.search(model, out=folder / out, **{**settings, **options})
    gc.collect()
    return result


@pytest.fixture(name="result", scope="module")
def _result(folder: Path) -> autoprec.SearchResult:
    return searched(folder, "run")


def test_every_figure_of_time_says_that_it_is_modelled(result: autoprec.SearchResult) -> None:
    assert result.summary["clock"] == "modelled for L4"
    assert result.summary["machine"]["clock"] == "modelled for L4"
    assert result.summary["machine"]["hardware"] == "sm89"
    assert "ms, modelled" in table_rows(result.tuned)[0]


def test_accuracy_is_simulated_and_so_nothing_is_said_of_engine_against_simulation(
    result: autoprec.SearchResult,
) -> None:
    assert result.summary["simulation"] is None
    assert result.summary["candidates"]["uniform int8"]["drop"]["estimate"] > 0


def test_every_unit_of_the_answer_is_verified(result: autoprec.SearchResult) -> None:
    verification = result.summary["verification"]

    assert sum(verification["counts"].values()) == len(result.plan.units) == 5
    assert verification["counts"]["honoured"] >= 4  # the three convolutions and the classifier
    assert verification["refused"] == verification["unproven"] == []
    assert result.summary["complaint"] is None
    for name, unit in verification["units"].items():
        assert unit["requested"] == result.plan.units[name].precision.value
        assert unit["layer"]


def test_the_answer_is_within_the_bound_and_not_slower_than_the_best_uniform_plan(
    result: autoprec.SearchResult,
) -> None:
    candidates = result.summary["candidates"]

    assert result.feasible
    assert result.summary["latency_vs_best_uniform"]["estimate"] <= 1
    chosen, best = candidates[result.summary["chosen"]], candidates[result.summary["best_uniform"]]
    assert chosen["latency_ms"] <= best["latency_ms"]
    assert chosen["latency_vs_fp32"]["estimate"] < 0.9
    assert {"uniform fp32", "uniform fp16", "uniform int8"} <= set(candidates)


def test_a_modelled_clock_has_no_noise(result: autoprec.SearchResult) -> None:
    for candidate in result.summary["candidates"].values():
        versus = candidate["latency_vs_fp32"]
        assert versus["low"] == versus["estimate"] == versus["high"]


def test_the_same_search_again_measures_nothing_and_builds_nothing(folder: Path, result: autoprec.SearchResult) -> None:
    engines = {path: path.stat().st_mtime_ns for path in (folder / "run" / "engines").glob("*.engine")}
    again = searched(folder, "run")

    assert again.plan == result.plan
    assert again.trials == result.trials
    assert {path: path.stat().st_mtime_ns for path in (folder / "run" / "engines").glob("*.engine")} == engines
    assert engines


def test_plans_measured_for_another_gpu_do_not_count(folder: Path, result: autoprec.SearchResult) -> None:
    """L4's figures and A100's are never in one comparison."""
    other = searched(folder, "run", targets=("sm80",), trials=5)

    assert other.summary["clock"] == "modelled for A100 (SXM, 80 GB)"
    assert other.summary["candidates"]["uniform fp32"]["latency_ms"] != pytest.approx(
        result.summary["candidates"]["uniform fp32"]["latency_ms"], rel=0.05
    )
    assert all(trial.number < 5 for trial in other.trials)


def test_fp8_is_left_out_where_a_target_lacks_it_and_that_is_said(folder: Path) -> None:
    result = searched(folder, "ampere", targets=("sm89", "sm80"), space="tensorrt-fp8", trials=5)

    assert "fp8 is left out: FP8 needs compute capability 8.9 or more, this is 8.0" in result.summary["notes"]
    assert Precision.FP8 not in {p for trial in result.trials for p in trial.plan.values()}


def test_a_target_without_figures_is_refused_before_any_work(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"the latency of an engine for sm121 cannot be modelled: .* choose one of"):
        searched(folder, "spark", targets=("sm121",))

    assert not list((folder / "spark").glob("*"))


def test_targets_are_for_rtx(folder: Path) -> None:
    with pytest.raises(UsageError, match="--target is for the backend tensorrt-rtx, got it with 'ort-cpu'; leave"):
        searched(folder, "refused", backend="ort-cpu")

    assert not (folder / "refused").exists()


def test_the_command_says_what_was_modelled_and_how_units_ran(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np
    from click.testing import CliRunner

    from autoprec.cli import main

    model = tiny_model(folder)
    np.savez(folder / "data.npz", **tiny_data(model, 48))
    monkeypatch.chdir(folder)
    words = [
        "tune",
        "tiny.onnx",
        "--calib",
        "data.npz",
        "--metric",
        "sqnr",
        "--max-drop",
        "0.05",
        "--trials",
        "4",
        "--backend",
        "tensorrt-rtx",
        "--target",
        "sm89",
        "--threads",
        "1",
        "--out",
        "cli",
        "--quiet",
    ]
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    gc.collect()

    assert result.exit_code == EXIT_OK, result.output
    assert "; latency modelled for L4.\n" in result.stdout
    assert "units as they ran: " in result.stdout
    assert "warning" not in result.output
    record = json.loads((folder / "cli" / "result.json").read_text(encoding="utf-8"))
    assert record["clock"] == "modelled for L4"
