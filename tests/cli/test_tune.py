"""`autoprec tune`: what it prints where, what it writes, and its exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from autoprec.errors import EXIT_INFEASIBLE, EXIT_OK
from autoprec.plan import load_plan
from autoprec.precision import Precision
from autoprec.testing import tiny_data

from ..helpers.run_files import FINISHED

Invoke = Callable[..., Result]

TUNE = ("tune", "tiny.onnx", "--trials", "4", "--threads", "1", "--out", "run")

ALWAYS_WRONG = """
import numpy as np
def m(outputs, labels):
    '''1 for FP32's very outputs, 0 for all others.'''
    return (np.abs(outputs["scores"] - np.load("fp32.npy")[labels]).max(axis=1) < 1e-6).astype(float)
m.higher_is_better = True
"""


def refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is not strict JSON")


def strict(text: str) -> Any:
    """The one JSON document that `text` is; NaN and Infinity are none."""
    return json.loads(text, parse_constant=refuse)


@pytest.fixture(name="strict_metric")
def _strict_metric(work: Path) -> None:
    """only_fp32:m, which any other precision fails, on strict.npz."""
    from autoprec.backends.ort import OrtBackend

    data = tiny_data(work / "tiny.onnx", 24)
    with OrtBackend(threads=1).build((work / "tiny.onnx").read_bytes()) as engine:
        np.save(work / "fp32.npy", engine.run({"x": data["x"]})["scores"])
    np.savez(work / "strict.npz", x=data["x"], labels=np.arange(24))
    (work / "only_fp32.py").write_text(ALWAYS_WRONG, encoding="utf-8")


def test_a_run_ends_with_a_table_and_a_reason_on_standard_output(work: Path, invoke: Invoke) -> None:
    result = invoke(*TUNE, "--calib", "data.npz")

    assert result.exit_code == EXIT_OK
    assert "uniform fp32" in result.stdout
    assert "uniform int8" in result.stdout
    assert "95 % interval" in result.stdout
    assert "written: run/plan.json, run/model.onnx" in result.stdout
    assert sorted(path.name for path in (work / "run").iterdir()) == FINISHED
    assert sorted(path.name for path in work.iterdir()) == ["data.npz", "run", "tiny.onnx"]


def test_progress_goes_to_standard_error(invoke: Invoke) -> None:
    result = invoke(*TUNE, "--calib", "data.npz")

    for stage in ("ranges", "sensitivity", "latency", "search", "confirmation"):
        begins = rf"^ *\d+\.\d s +{stage} "
        assert re.search(begins, result.stderr, re.MULTILINE)
        assert not re.search(begins, result.stdout, re.MULTILINE)


def test_quiet_leaves_standard_error_empty(invoke: Invoke) -> None:
    assert invoke(*TUNE, "--calib", "data.npz", "--quiet").stderr == ""


def test_json_is_one_strict_document(work: Path, invoke: Invoke) -> None:
    result = invoke(*TUNE, "--calib", "data.npz", "--json")
    record = strict(result.stdout)

    assert result.exit_code == EXIT_OK
    assert record["feasible"] is True
    assert record["directory"] == "run"
    assert record["candidates"]["uniform fp32"]["latency_vs_fp32"]["estimate"] == 1.0
    assert record["candidates"]["uniform fp32"]["sqnr_db"] is None  # no noise at all
    assert strict((work / "run" / "result.json").read_text(encoding="utf-8"))["chosen"] == record["chosen"]
    strict((work / "run" / "plan.json").read_text(encoding="utf-8"))


def test_a_single_data_set_is_split_and_the_split_is_said(invoke: Invoke) -> None:
    said = invoke(*TUNE, "--calib", "data.npz").stderr

    assert "data.npz (48 samples) split by seed 0 into 9 calibration, 20 selection and 19 held-out samples; no" in said


def test_evaluation_data_alone_is_split_as_well(invoke: Invoke) -> None:
    assert invoke(*TUNE, "--eval", "data.npz", "--json").exit_code == EXIT_OK


def test_samples_of_both_sets_are_warned_of(invoke: Invoke) -> None:
    said = invoke(*TUNE, "--calib", "data.npz", "--eval", "data.npz").stderr

    assert said.count("warning: 48 of the 48 calibration samples also occur in data.npz") == 1


def test_data_without_labels_is_judged_by_agreement(work: Path, invoke: Invoke) -> None:
    np.savez(work / "plain.npz", x=tiny_data(work / "tiny.onnx", 24)["x"])

    assert strict(invoke(*TUNE, "--calib", "plain.npz", "--json").stdout)["metric"] == "agreement"


@pytest.mark.parametrize("metric", ["agreement", "kl", "cosine", "sqnr"])
def test_every_metric_without_labels(invoke: Invoke, metric: str) -> None:
    result = invoke(*TUNE, "--calib", "data.npz", "--metric", metric, "--max-drop", "0.5", "--json")
    record = strict(result.stdout)

    assert record["metric"] == metric
    assert record["direction"] == ("lower is better" if metric in ("kl", "sqnr") else "higher is better")
    assert all(c["drop"]["estimate"] >= -1e-9 for c in record["candidates"].values())
    for candidate in record["candidates"].values():
        drop = candidate["estimated_drop"]
        assert drop["low"] <= drop["estimate"] <= drop["high"]
        assert drop["certified"] is (drop["high"] <= 0.5)


@pytest.mark.parametrize("metric", ["top1", "agreement", "sqnr"])
def test_each_plan_of_the_table_says_whether_it_is_certified(invoke: Invoke, metric: str) -> None:
    lines = invoke(*TUNE, "--calib", "data.npz", "--metric", metric, "--max-drop", "0.5").stdout.splitlines()
    rows = [line for line in lines if line.startswith("uniform ")]

    assert "within 0.5" in lines[1]
    assert len(rows) == 2
    assert all("certified" in row or "  no  " in row for row in rows)
    assert [line for line in lines if line.startswith(("certified: ", "not certified: "))]


@pytest.mark.parametrize("metric", ["top1", "sqnr"])
def test_fp32_kept_is_certified_and_owes_nothing_to_luck(invoke: Invoke, metric: str) -> None:
    options = ("--metric", metric, "--max-drop", "0", "--confidence", "0.95", "--pin", ".*=fp32", "--json")
    record = strict(invoke(*TUNE, "--calib", "data.npz", *options).stdout)

    assert record["chosen"] == "uniform fp32"
    assert record["verdict"] == "certified: the whole confidence interval is within 0"
    assert record["winners_curse"] is None


def test_a_limit_too_short_for_anything_still_gives_an_answer_and_says_so(work: Path, invoke: Invoke) -> None:
    result = invoke(*TUNE, "--calib", "data.npz", "--timeout", "0.01")

    assert result.exit_code in (EXIT_OK, EXIT_INFEASIBLE)
    assert re.search(r"time: [\d.]+ s of 0.01 s allowed \(", result.stdout)
    assert "for lack of time: " in result.stdout
    assert "sensitivities were not measured" in result.stdout
    assert re.search(r"\d+% over the time limit: it is too short .*; allow about \d+ s, or give less", result.stdout)
    load_plan(work / "run" / "plan.json")
    assert strict((work / "run" / "result.json").read_text())["left_out"]


def test_time_that_was_not_needed_is_said(invoke: Invoke) -> None:
    result = invoke(*TUNE, "--calib", "data.npz", "--timeout", "1000")

    assert "of 1000 s allowed" in result.stdout
    assert "the search ended before the time limit: " in result.stdout
    assert "for lack of time" not in result.stdout


def test_a_folder_of_archives(work: Path, invoke: Invoke) -> None:
    data = tiny_data(work / "tiny.onnx", 24)
    (work / "batches").mkdir()
    for number in range(3):
        np.savez(work / "batches" / f"{number}.npz", **{k: v[8 * number :][:8] for k, v in data.items()})
    record = strict(invoke(*TUNE, "--calib", "batches", "--json").stdout)

    assert record["metric"] == "top1"
    assert sum(record["samples"].values()) == 24


def test_data_and_metric_by_functions(work: Path, invoke: Invoke) -> None:
    (work / "mine_data_metric.py").write_text(
        "import numpy as np\n"
        "def data(): return dict(np.load('data.npz'))\n"
        "def loss(outputs, labels): return -np.take_along_axis(outputs['scores'], labels[:, None], 1)[:, 0]\n"
        "loss.higher_is_better = False\n",
        encoding="utf-8",
    )
    options = ("--calib", "mine_data_metric:data", "--metric", "mine_data_metric:loss", "--max-drop", "9", "--json")
    record = strict(invoke(*TUNE, *options).stdout)

    assert record["metric"] == "mine_data_metric:loss"
    assert record["direction"] == "lower is better"


def test_a_pin_is_kept_and_marked(work: Path, invoke: Invoke) -> None:
    options = ("--pin", "^conv2$=int8", "--pin", "head=fp32", "--max-drop", "1")
    assert invoke(*TUNE, "--calib", "data.npz", *options).exit_code == EXIT_OK
    plan = load_plan(work / "run" / "plan.json")

    assert plan.units["conv2"].precision is Precision.INT8
    assert plan.units["head"].precision is Precision.FP32
    assert [name for name, choice in plan.units.items() if choice.pinned] == ["conv2", "head"]
    assert plan.units["conv2"].reason == "pinned by the user"


@pytest.mark.usefixtures("strict_metric")
def test_no_plan_within_the_bound_has_its_own_exit_code(work: Path, invoke: Invoke) -> None:
    options = ("--eval", "strict.npz", "--metric", "only_fp32:m", "--max-drop", "0", "--pin", ".*=int8", "--batch", "4")
    result = invoke(*TUNE, *options)

    assert result.exit_code == EXIT_INFEASIBLE
    assert "no plan meets the bound: the smallest drop of only_fp32:m on the selection samples is" in result.stdout
    assert "0 is allowed; " in result.stdout
    assert "block it: with them in FP32, the drop is 0; allow more by --max-drop or free pinned units." in result.stdout
    plan = load_plan(work / "run" / "plan.json")
    assert {choice.precision for choice in plan.units.values()} == {Precision.INT8}
    assert plan.evidence["feasible"] is False
    assert (work / "run" / "model.onnx").is_file()


@pytest.mark.usefixtures("strict_metric")
def test_a_bound_of_zero_that_only_fp32_meets_keeps_fp32(invoke: Invoke) -> None:
    result = invoke(*TUNE, "--eval", "strict.npz", "--metric", "only_fp32:m", "--max-drop", "0", "--json")
    record = strict(result.stdout)

    assert result.exit_code == EXIT_OK
    assert record["chosen"] == "uniform fp32"
    assert record["reason"].startswith("keep FP32: ")


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_a_dry_run_says_what_would_be_done_and_writes_nothing(work: Path, invoke: Invoke, form: list[str]) -> None:
    result = invoke(*TUNE, "--calib", "data.npz", "--pin", "head=fp32", "--dry-run", *form)

    assert result.exit_code == EXIT_OK
    assert sorted(path.name for path in work.iterdir()) == ["data.npz", "tiny.onnx"]
    if form:
        record = strict(result.stdout)
        assert record["choices"]["conv1"] == ["fp32", "int8"]
        assert record["choices"]["head"] == ["fp32"]
        assert (record["directory"], record["metric"], record["max_drop"]) == ("run", "top1", 0.01)
    else:
        assert "would measure at most 4 plans with top1 on ort-cpu, allow a drop of 0.01, and write to run" in (
            result.stdout
        )


def test_a_dry_run_finds_bad_input(invoke: Invoke) -> None:
    assert invoke(*TUNE, "--calib", "absent.npz", "--dry-run").exit_code == 2


def test_precisions_that_cannot_be_timed_are_left_out_and_said(invoke: Invoke) -> None:
    result = invoke(*TUNE, "--calib", "data.npz", "--space", "tensorrt", "--dry-run")

    assert "note: fp16 is left out: simulated by rounding" in result.stderr


def test_the_run_directory_by_default_is_named_after_the_model(work: Path, invoke: Invoke) -> None:
    assert invoke(*TUNE[:-2], "--calib", "data.npz", "--quiet").exit_code == EXIT_OK
    assert (work / "autoprec-runs" / "tiny" / "plan.json").is_file()


def test_what_the_answer_owes_to_luck_is_told_figure_by_figure() -> None:
    from autoprec.cli.text.selection_bias import bias_lines
    from autoprec.run.answer.luck import SelectionBias
    from autoprec.stats.optimism import Correction

    bias = SelectionBias(
        23,
        Correction(selected=0.571, optimism=0.0046, fresh=0.574, fresh_optimism=0.0, error=0.01),
        Correction(selected=0.003, optimism=0.002, fresh=0.012, fresh_optimism=0.0, error=0.002),
    )

    assert bias_lines(None) == []
    assert bias_lines(bias) == [
        "selection bias: the best of 23 plans within the bound tends to look better than it is.",
        "  latency / FP32: 0.571 in the search, 0.576 corrected, 0.574 timed again",
        "  drop: +0.0030 in the search, +0.0050 corrected, +0.0120 on held-out samples",
        "  The new figures do not confirm the drop, so trust the new ones.",
    ]
