"""Run directories of an earlier version are read and gone on with, and what they hold is not measured again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import autoprec
from autoprec.api import work
from autoprec.errors import SearchOverError
from autoprec.run.measure import PlanMeasurer

from .conftest import Invoke
from .json_shape import lost, shape, unit_free

TUNE = (
    "tune",
    "digits.onnx",
    "--calib",
    "calib.npz",
    "--eval",
    "eval.npz",
    "--metric",
    "top1",
    "--max-drop",
    "0.01",
    "--seed",
    "0",
    "--threads",
    "1",
)


def contents(run: Path, *names: str) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in names}


def measurements(run: Path) -> list[dict[str, Any]]:
    """What the journal holds of each measured plan, in order."""
    rows = map(json.loads, (run / "study.log").read_text(encoding="utf-8").splitlines())
    return [row["user_attr"]["measurement"] for row in rows if "measurement" in row.get("user_attr", {})]


def stages_kept(done: Result) -> list[str]:
    return re.findall(r"s +(\w+) .*from an earlier run", done.stderr)


def plans_measured(done: Result) -> list[int]:
    return [int(number) for number in re.findall(r" trial (\d+) ", done.stderr)]


@pytest.mark.usefixtures("same_machine")
def test_a_finished_run_is_answered_again_without_measuring_a_plan(
    place: Path, invoke: Invoke, printed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a plan was measured that the run had measured already")

    monkeypatch.setattr(PlanMeasurer, "__call__", refuse)
    run = place / "finished"
    kept = contents(run, "ranges.json", "profile.json", "latency.json")
    study, old = (run / "study.log").read_bytes(), measurements(run)
    done = invoke(*TUNE, "--trials", "6", "--out", "finished", "--json")
    record = json.loads(done.stdout)

    assert done.exit_code == 0, done.output
    assert stages_kept(done) == ["ranges", "sensitivity", "latency"]
    assert plans_measured(done) == []
    assert contents(run, *kept) == kept
    assert (run / "study.log").read_bytes().startswith(study)
    assert measurements(run) == old
    assert (record["trials"], record["stopped"]) == (6, "all 6 trials were used")
    assert "120 selection and 120 held-out samples, equally hard for FP32" in record["splits"]
    old_shape, new_shape = (
        {**shape(unit_free(r)), "candidates": shape(r["candidates"]["uniform int8"]), "measured_by": None}
        for r in (printed["tune"], record)
    )
    assert lost(old_shape, new_shape) == []


@pytest.mark.usefixtures("same_machine")
def test_a_run_that_was_killed_in_its_search_keeps_what_was_measured(place: Path, invoke: Invoke) -> None:
    run = place / "killed-search"
    kept = contents(run, "ranges.json", "profile.json", "latency.json")
    study, old = (run / "study.log").read_bytes(), measurements(run)
    done = invoke(*TUNE, "--trials", "5", "--out", "killed-search")

    assert done.exit_code == 0, done.output
    assert stages_kept(done) == ["ranges", "sensitivity", "latency"]
    assert contents(run, *kept) == kept
    assert len(old) == 3
    assert len(plans_measured(done)) == 2  # of five; the fourth was being measured at the kill
    assert min(plans_measured(done)) > 2
    assert " last half int8" in done.stderr
    assert (run / "study.log").read_bytes().startswith(study)
    assert measurements(run)[:3] == old
    assert len(measurements(run)) == 5


@pytest.mark.usefixtures("same_machine")
def test_a_run_that_was_killed_in_its_sensitivities_keeps_what_was_measured(place: Path, invoke: Invoke) -> None:
    run, unit = place / "killed-sensitivity", "/stem/conv/Conv"
    journal = run / "profile.partial.jsonl"
    rows = [json.loads(line) for line in journal.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        row["noise"] += 1e6 * (row["unit"] == unit)  # what no measurement would give
    journal.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ranges = contents(run, "ranges.json")
    done = invoke(*TUNE, "--trials", "2", "--out", "killed-sensitivity")
    entries = json.loads((run / "profile.json").read_text(encoding="utf-8"))["entries"]
    noises = {entry["unit"]: entry["noise"] for entry in entries}

    assert done.exit_code == 0, done.output
    assert stages_kept(done) == ["ranges"]
    assert contents(run, *ranges) == ranges
    assert len({row["chunk"] for row in rows}) > 1
    assert noises[unit] > 1
    assert max(noise for name, noise in noises.items() if name != unit) < 0.1
    assert not journal.exists()


@pytest.mark.usefixtures("same_machine")
def test_a_worker_joins_a_search_that_was_killed(place: Path) -> None:
    old = measurements(place / "killed-search")
    worked = work("killed-search")

    assert worked.measured == 2
    assert worked.stopped == "all 5 trials were used"
    assert measurements(place / "killed-search")[:3] == old


@pytest.mark.usefixtures("same_machine")
def test_a_worker_is_told_that_a_finished_search_has_ended(place: Path) -> None:
    assert (place / "finished").is_dir()
    with pytest.raises(SearchOverError, match=r"has ended \(all 6 trials were used\)"):
        work("finished")


def test_the_front_of_a_run_is_as_it_was(place: Path, invoke: Invoke, printed: dict[str, Any]) -> None:
    for name, words in (("front", ["--all"]), ("front of another bound", ["--max-latency", "0.9"])):
        done = invoke("front", "finished", "--json", *words)
        record = json.loads(done.stdout)
        old = {**printed[name], "model": str(place / "digits.onnx")}

        assert done.exit_code == 0
        assert shape(record.pop("predicted")) == shape(old.pop("predicted"))
        assert {key: record[key] for key in old} == old


def test_a_point_of_a_run_is_built_as_it_was(place: Path, invoke: Invoke) -> None:
    done = invoke("front", "finished", "--point", "2", "-o", "point")
    new, old = (
        json.loads((place / path).read_text(encoding="utf-8")) for path in ("point/plan.json", "plans/point.json")
    )

    assert done.exit_code == 0, done.output
    for plan in (new, old):  # the words of reasons may change
        assert all(unit.pop("reason") for unit in plan["units"].values())
    assert new == old
    assert (place / "point" / "model.onnx").is_file()


def test_the_front_of_a_run_with_a_modelled_clock_is_read(place: Path) -> None:
    front = autoprec.load_front("modelled")
    record = json.loads((place / "modelled" / "result.json").read_text(encoding="utf-8"))

    assert [point.trial.number for point in front.points] == [0, 1, 2, 3, 4]
    assert front.answer is not None
    assert front.answer.trial.origin == record["chosen"]
    assert front.studied.scheme == "tensorrt-rtx"


def test_a_run_that_was_stopped_has_a_front(place: Path) -> None:
    front = autoprec.load_front(place / "killed-search")

    assert len(front.points) == 3
    assert front.answer is None
    assert front.within(0.01).point is not None


def test_the_dry_run_and_the_units_are_as_they_were(invoke: Invoke, printed: dict[str, Any]) -> None:
    units = json.loads(invoke("units", "digits.onnx", "--json").stdout)
    planned = json.loads(invoke(*TUNE, "--out", "other", "--dry-run", "--json").stdout)
    old = printed["tune --dry-run"]

    assert {key: units[key] for key in printed["units"]} == printed["units"]
    words = {key: old[key] for key in ("machine", "splits")}
    assert {**{key: planned[key] for key in old}, **words} == old


def test_profiles_say_what_they_said(invoke: Invoke, printed: dict[str, Any]) -> None:
    words = (
        "--calib",
        "calib.npz",
        "--eval",
        "eval.npz",
        "--metric",
        "top1",
        "--recipe",
        "minmax",
        "--quiet",
        "--json",
    )
    record = json.loads(invoke("profile", "digits.onnx", *words, "--out", "profiled").stdout)
    old, new = ({(e["unit"], e["precision"]) for e in r["entries"]} for r in (printed["profile"], record))

    assert lost(shape(printed["profile"]), shape(record)) == []
    assert new == old
