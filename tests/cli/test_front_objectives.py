"""`autoprec tune` and `autoprec front` with other objectives: what they say, and what they refuse."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from autoprec.errors import EXIT_INFEASIBLE, EXIT_OK, EXIT_USAGE
from autoprec.front.pareto import dominates
from autoprec.plan import load_plan
from autoprec.testing import tiny_data

from ..helpers.cpu_kernels import needs_exact_products
from .conftest import Invoke, listed, size_without_notes, tuned

TUNE = ("tune", "tiny.onnx", "--calib", "data.npz", "--trials", "4", "--threads", "1", "--out", "run", "--quiet")


@pytest.fixture(name="finished", scope="module")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.onnx, data.npz and the run directory `run` of a few plans only, not to be changed."""
    return tuned(tmp_path_factory.mktemp("finished"), *TUNE, "--metric", "sqnr", "--max-drop", "0.002")


@pytest.fixture(name="run")
def _run(work: Path, finished: Path) -> Path:
    """The same in the current folder."""
    for name in ("run", "tiny.onnx", "data.npz"):
        source, target = finished / name, work / name
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    record = json.loads((work / "run" / "study.json").read_text(encoding="utf-8"))
    record["asked"]["calib"] = str(work / "data.npz")
    record["model"] = str(work / "tiny.onnx")
    (work / "run" / "study.json").write_text(json.dumps(record), encoding="utf-8")
    return work / "run"


@needs_exact_products
@pytest.mark.usefixtures("work")
def test_the_smallest_plan_is_reported_with_its_bytes_and_latency(invoke: Invoke) -> None:
    result = invoke(*TUNE, "--metric", "sqnr", "--objective", "size", "--max-drop", "0.002")
    record = json.loads(Path("run/result.json").read_text(encoding="utf-8"))

    assert result.exit_code == EXIT_OK, result.output
    assert result.stdout.splitlines()[1].split()[-2:] == ["bytes", "MACs"]
    assert "the smallest within the bound, of " in result.stdout
    assert "of its latency." in result.stdout
    assert record["objective"] == "size"
    assert record["candidates"][record["chosen"]]["bytes"] == size_without_notes(Path("run/model.onnx"))
    assert load_plan("run/plan.json").evidence["objective"] == "size"


@pytest.mark.usefixtures("work")
def test_throughput_is_shown_beside_the_latency(invoke: Invoke) -> None:
    result = invoke(*TUNE, "--objective", "throughput", "--max-drop", "0.5")

    assert result.exit_code == EXIT_OK, result.output
    assert "samples/s" in result.stdout.splitlines()[1]
    assert "vs FP32" in result.stdout.splitlines()[1]
    listing = invoke("front", "run")
    assert "times are for each of several batches in flight: the inverse of the throughput" in listing.stdout
    refused = invoke("front", "run", "--max-latency", "0.5")
    assert refused.exit_code == EXIT_USAGE
    assert "measured throughput, so no latency of its plans is known" in refused.stderr


@pytest.mark.usefixtures("work")
def test_a_latency_that_cannot_be_reached_is_infeasible(invoke: Invoke) -> None:
    result = invoke(*TUNE, "--max-latency", "0.001ms")

    assert result.exit_code == EXIT_INFEASIBLE, result.output
    assert "no plan meets the bound: the fastest found takes " in result.stdout
    assert "0.001 ms is allowed; allow more by --max-latency" in result.stdout
    assert "no bound on the drop was asked for" in result.stdout
    assert "within the bound: " not in result.stdout
    assert Path("run/plan.json").is_file()
    near = invoke("front", "run")
    assert near.exit_code == EXIT_INFEASIBLE
    assert "no measured plan has a latency of at most " in near.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--objective", "speed"], "'speed' is not one of 'latency', 'throughput', 'size'"),
        (["--objective", "accuracy"], "'accuracy' is not one of 'latency', 'throughput', 'size'"),
        (["--max-latency", "0"], "--max-latency must be more than 0, got 0: a share of FP32's latency such as 0.5, or"),
        (["--max-latency", "0ms"], "--max-latency must be more than 0, got 0"),
        (["--max-latency", "5"], "must say what 5 is: 5ms for milliseconds, 5x for times FP32's"),
        (["--max-latency", "fast"], "must be a share of FP32's latency such as 0.5 or 50%, or 5ms, got 'fast'"),
        (["--max-latency", "0.5", "--objective", "throughput"], "it cannot go with --objective throughput"),
        (["--max-latency", "0.5", "--max-drop", "-1"], "--max-drop must be 0 or more, got -1"),
    ],
)
def test_what_cannot_be_asked(work: Path, invoke: Invoke, options: list[str], words: str) -> None:
    result = invoke(*TUNE, *options)

    assert result.exit_code == EXIT_USAGE
    assert words in " ".join(result.stderr.replace("│", " ").split())
    assert "Traceback" not in result.output
    assert not (work / "run").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "allow a drop of 0.01, and write"),
        (["--max-latency", "60%"], "allow 0.6 of FP32's latency, and write"),
        (["--max-latency", "5ms", "--max-drop", "0.1"], "allow a drop of 0.1, allow 5 ms, and write"),
        (["--objective", "size"], "allow a drop of 0.01, look for the smallest, and write"),
    ],
)
@pytest.mark.usefixtures("work")
def test_a_dry_run_says_the_bounds(invoke: Invoke, options: list[str], words: str) -> None:
    assert words in invoke(*TUNE, "--dry-run", *options).stdout


@pytest.mark.usefixtures("run")
def test_the_joint_front_is_what_no_plan_beats_in_all_three(invoke: Invoke) -> None:
    record, everything = listed(invoke), listed(invoke, "--all")["points"]
    costs = {p["trial"]: (p["latency_ratio"], p["drop"], p["bytes"]) for p in everything}
    able = {n: c for n, c in costs.items() if None not in c}

    assert record["front_of"] == ["latency", "drop", "bytes"]
    assert {p["trial"] for p in record["points"]} == {
        n for n, c in able.items() if not any(dominates(other, c) for other in able.values())
    }


@pytest.mark.usefixtures("run")
def test_a_new_bound_is_solved_in_seconds_and_what_it_promises_is_marked(invoke: Invoke) -> None:
    began = time.process_time()
    record = listed(invoke, "--objective", "size", "--max-drop", "0.004")
    said = invoke("front", "run", "--objective", "size", "--max-drop", "0.004").stdout
    measured = [p for p in listed(invoke, "--all")["points"] if p["drop"] <= 0.004]

    assert time.process_time() - began < 30
    assert record["predicted"], "the run measured so few plans that a better one is left"
    best = min(p["bytes"] for p in measured)
    for one in record["predicted"]:
        assert one["basis"] == "predicted, not measured"
        assert one["bytes"]["estimate"] < best
        assert one["likely"] >= 0.5
        assert all(one[name]["deviation"] > 0 for name in ("latency_ratio", "drop", "bytes"))
    assert "predicted, not measured; plus or minus one standard deviation:" in said
    assert "add --measure to the same command to measure them" in said


@pytest.mark.usefixtures("run")
def test_what_is_predicted_can_be_measured_and_then_built(invoke: Invoke) -> None:
    before = listed(invoke, "--all")["points"]
    promised = listed(invoke, "--objective", "size", "--max-drop", "0.004")["predicted"]
    words = ("--objective", "size", "--max-drop", "0.004", "--measure")
    result = invoke("front", "run", *words, "--point", "best", "-o", "built")
    after = listed(invoke, "--all")["points"]
    added = after[len(before) :]

    assert result.exit_code == EXIT_OK, result.output
    changing = {"on_front"}  # a new plan may be better than an old one
    measured = [
        [{k: v for k, v in point.items() if k not in changing} for point in points] for points in (before, after)
    ]
    assert measured[1][: len(before)] == measured[0]
    assert len(added) == len(promised)
    assert all(p["origin"].startswith("promised: ") and not p["confirmed"] for p in added)
    for one, point in zip(promised, added, strict=True):
        assert abs(one["bytes"]["estimate"] / point["bytes"] - 1) < 0.2
    evidence = load_plan("built/plan.json").evidence
    able = [p for p in after if p["drop"] <= 0.004]
    assert evidence["point"]["bytes"] == min(p["bytes"] for p in able)
    assert "not confirmed on fresh samples" in evidence["reason"]


def test_predicted_plans_are_measured_on_the_runs_own_data_only(run: Path, work: Path, invoke: Invoke) -> None:
    np.savez(work / "other.npz", **tiny_data(work / "tiny.onnx", 48, seed=9))
    words = ("front", "run", "--objective", "size", "--max-drop", "0.004", "--measure")
    before = (run / "study.log").read_bytes()
    other = invoke(*words, "--calib", "other.npz")

    assert other.exit_code == EXIT_USAGE
    assert "is not the data that the run was begun with" in other.stderr
    (work / "data.npz").rename(work / "moved.npz")
    assert invoke(*words).exit_code == EXIT_USAGE
    assert (run / "study.log").read_bytes() == before
    assert invoke(*words, "--calib", "moved.npz").exit_code == EXIT_OK


def test_data_that_was_in_memory_must_be_given(run: Path, invoke: Invoke) -> None:
    record = json.loads((run / "study.json").read_text(encoding="utf-8"))
    record["asked"] |= {"calib": None, "memory": ["calib"]}
    (run / "study.json").write_text(json.dumps(record), encoding="utf-8")
    result = invoke("front", "run", "--objective", "size", "--max-drop", "0.004", "--measure")

    assert result.exit_code == EXIT_USAGE
    assert "store it in a file and give it by --calib" in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--calib", "data.npz"], "--calib and --eval are for plans that are measured: give them with --measure"),
        (["--measure", "--point", "0", "-o", "x"], "--measure finds plans for a bound: give it with --point best"),
    ],
)
@pytest.mark.usefixtures("run")
def test_options_of_measuring(invoke: Invoke, options: list[str], words: str) -> None:
    result = invoke("front", "run", *options)

    assert result.exit_code == EXIT_USAGE
    assert words in result.stderr


def test_a_run_of_an_older_autoprec_foretells_nothing_and_says_why(run: Path, invoke: Invoke) -> None:
    record = json.loads((run / "study.json").read_text(encoding="utf-8"))
    for name in ("objective", "max_latency", "prior", "asked"):
        del record[name]
    (run / "study.json").write_text(json.dumps(record), encoding="utf-8")

    assert "predicted to be better: an older version of autoprec made this run" in invoke("front", "run").stdout
