"""`autoprec front`: the front of a run, what a bound chooses there, and any plan of it built without searching."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import optuna
import pytest
from click.testing import Result

from autoprec.errors import EXIT_INFEASIBLE, EXIT_OK, EXIT_USAGE
from autoprec.files.computed_by import RELEASE
from autoprec.front.pareto import dominates
from autoprec.plan import load_plan
from autoprec.precision import Precision
from autoprec.run.study_description import read_study_description
from autoprec.study.ledger.ask_tell import Ledger
from autoprec.study.ledger.reading import stored_trials
from autoprec.study.trial import Measurement
from autoprec.testing import tiny_model

from .conftest import Invoke, contents, listed, size_without_notes, tuned

WORTHLESS = Measurement(
    drop=float("inf"),
    judged_drop=float("inf"),
    noise=float("inf"),
    kl=None,
    agreement=None,
    latency_ratio=0.01,
)
TUNE = ("tune", "tiny.onnx", "--calib", "data.npz", "--trials", "8", "--threads", "1", "--quiet")
TUNE += ("--pin", "^head$=fp32", "--max-drop", "0.1", "--out", "run")


@pytest.fixture(name="finished", scope="module")
def _finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.onnx, data.npz and the finished run directory `run`, not to be changed."""
    return tuned(tmp_path_factory.mktemp("finished"), *TUNE)


@pytest.fixture(name="run")
def _run(work: Path, finished: Path) -> Path:
    """The run directory `run` beside its model, in the current folder."""
    shutil.copytree(finished / "run", work / "run")
    shutil.copy(finished / "tiny.onnx", work / "tiny.onnx")
    change(work / "run", model=str(work / "tiny.onnx"))
    return work / "run"


def change(run: Path, **fields: Any) -> None:
    """Change fields of study.json."""
    record = json.loads((run / "study.json").read_text(encoding="utf-8"))
    (run / "study.json").write_text(json.dumps(record | fields), encoding="utf-8")


def add(run: Path, plan: dict[str, Precision], measured: Measurement) -> int:
    """Have a plan measured with this outcome; its number."""
    studied = read_study_description(run / "study.json")
    sampler = optuna.samplers.RandomSampler(seed=0)
    ledger = Ledger(run / "study.log", studied.study, studied.choices, studied.max_drop, sampler)
    ledger.enqueue({"by hand": plan})
    return ledger.tell(ledger.ask(), measured).number


def unmeasured(run: Path) -> dict[str, Precision]:
    """A plan that the run did not measure."""
    studied = read_study_description(run / "study.json")
    known = [trial.plan for trial in stored_trials(run / "study.log", studied.study, studied.choices, 0.1)]
    free = [name for name, options in studied.choices.items() if len(options) > 1]
    plans = [
        {
            name: options[number >> free.index(name) & 1] if name in free else options[0]
            for name, options in studied.choices.items()
        }
        for number in range(2 ** len(free))
    ]
    return next(plan for plan in plans if plan not in known)


def refused(result: Result, words: str) -> None:
    assert result.exit_code == EXIT_USAGE, result.output
    assert words in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.output


@pytest.mark.usefixtures("run")
def test_the_list_says_what_its_figures_are_and_which_plan_alone_was_confirmed(invoke: Invoke) -> None:
    said = invoke("front", "run").stdout
    record = listed(invoke)

    assert "all figures are from the search, on its 20 selection samples. They are not confirmed" in said
    assert f"only the run's answer, trial {record['chosen']}, was measured again: its drop of top1 on 19" in said
    assert f"* trial {record['chosen']} is the choice for a drop of at most 0.1." in said
    assert "judged by the estimate" in said


@pytest.mark.usefixtures("run")
@pytest.mark.parametrize(("objective", "cost"), [("latency", "latency_ratio"), ("size", "bytes")])
def test_the_front_is_what_no_measured_plan_beats(invoke: Invoke, objective: str, cost: str) -> None:
    front = listed(invoke, "--objective", objective)["points"]
    everything = listed(invoke, "--objective", objective, "--all")["points"]
    values = {p["trial"]: (p[cost], p["drop"]) for p in everything}

    beaten = {n for n, value in values.items() if any(dominates(other, value) for other in values.values())}
    assert {p["trial"] for p in front} == set(values) - beaten
    assert {p["trial"] for p in everything if p["on_front"]} == set(values) - beaten
    assert [p[cost] for p in front] == sorted(p[cost] for p in front)
    assert len(everything) >= len(front) >= 1


def test_figures_are_those_of_the_study(run: Path, invoke: Invoke) -> None:
    points = {p["trial"]: p for p in listed(invoke, "--all")["points"]}
    result = json.loads((run / "result.json").read_text(encoding="utf-8"))
    fp32 = next(p for p in points.values() if p["origin"] == "uniform fp32")

    assert len(points) == result["trials"]
    assert (fp32["latency_ratio"], fp32["drop"], fp32["mac_share"]) == (1.0, 0.0, {"fp32": 1.0})
    assert fp32["latency_ms"] == result["candidates"]["uniform fp32"]["latency_ms"]
    answer = next(p for p in points.values() if p["confirmed"])
    assert answer["mac_share"] == result["candidates"][result["chosen"]]["mac_share"]
    assert answer["bytes"] == size_without_notes(run / "model.onnx")


def test_the_runs_answer_is_built_as_the_run_wrote_it(run: Path, invoke: Invoke) -> None:
    number = listed(invoke)["chosen"]
    for point in (str(number), "best"):
        result = invoke("front", "run", "--point", point, "-o", f"built-{point}")
        built, plan = load_plan(f"built-{point}/plan.json"), load_plan(run / "plan.json")

        assert result.exit_code == EXIT_OK
        assert Path(f"built-{point}/model.onnx").read_bytes() == (run / "model.onnx").read_bytes()
        assert built.units == plan.units
        assert (built.fingerprints, built.ranges) == (plan.fingerprints, plan.ranges)
        assert (built.carrier, built.scheme, built.backend) == (plan.carrier, plan.scheme, plan.backend)
        assert built.evidence["answer"]["basis"] == "samples that chose nothing"
        assert sorted(contents(Path(f"built-{point}"))) == ["autoprec-files.json", "model.onnx", "plan.json"]


@pytest.mark.usefixtures("run")
def test_every_measured_plan_can_be_built_and_fits_its_model(invoke: Invoke) -> None:
    for point in listed(invoke, "--all")["points"]:
        folder = Path(f"built-{point['trial']}")
        result = invoke("front", "run", "--point", str(point["trial"]), "-o", folder, "--json")
        record = json.loads(result.stdout)
        again = invoke("build", folder / "plan.json", "tiny.onnx", "--out", "again.onnx")

        assert (result.exit_code, again.exit_code) == (EXIT_OK, EXIT_OK)
        assert record["point"]["trial"] == point["trial"]
        assert size_without_notes(folder / "model.onnx") == point["bytes"]
        assert Path("again.onnx").read_bytes() == (folder / "model.onnx").read_bytes()


@pytest.mark.usefixtures("run")
def test_a_plan_that_is_not_the_answer_says_where_it_comes_from_and_that_nothing_confirmed_it(invoke: Invoke) -> None:
    number = next(p["trial"] for p in listed(invoke, "--all")["points"] if not p["confirmed"])
    result = invoke("front", "run", "--point", str(number), "-o", "built")
    evidence = load_plan("built/plan.json").evidence

    assert "not confirmed on fresh samples." in result.stdout
    assert evidence["reason"].startswith(f"trial {number} of the run run: ")
    assert evidence["reason"].endswith("selection samples; not confirmed on fresh samples")
    assert (evidence["point"]["run"], evidence["point"]["trial"]) == ("run", number)
    assert "answer" not in evidence


def test_a_new_bound_chooses_the_fastest_plan_within_it(run: Path, invoke: Invoke) -> None:
    tight = add(
        run,
        unmeasured(run),
        Measurement(drop=0.2, judged_drop=0.15, noise=1e-3, kl=1e-3, agreement=0.9, latency_ratio=0.01),
    )

    assert listed(invoke, "--max-drop", "0.14")["chosen"] != tight
    assert listed(invoke, "--max-drop", "0.15")["chosen"] == tight
    lossless = [p for p in listed(invoke, "--all")["points"] if p["drop"] <= 0]  # FP32 for one
    fastest = min(lossless, key=lambda p: (p["latency_ratio"], p["drop"]))
    assert listed(invoke, "--max-drop", "0")["chosen"] == fastest["trial"]
    assert invoke("front", "run", "--max-drop", "0.15", "--point", "best", "-o", "built").exit_code == EXIT_OK
    plan = load_plan("built/plan.json")
    assert plan.evidence["point"]["trial"] == tight
    assert (plan.evidence["max_drop"], plan.evidence["feasible"]) == (0.15, True)


def test_a_limit_of_latency_chooses_the_least_drop(run: Path, invoke: Invoke) -> None:
    fast = add(
        run,
        unmeasured(run),
        Measurement(drop=0.2, judged_drop=0.15, noise=1e-3, kl=1e-3, agreement=0.9, latency_ratio=0.01),
    )
    points = listed(invoke, "--all", "--max-latency", "90%")["points"]
    able = [p for p in points if p["latency_ratio"] <= 0.9]
    fp32_ms = next(p["latency_ms"] for p in points if p["origin"] == "uniform fp32")

    assert (
        listed(invoke, "--max-latency", "90%")["chosen"]
        == min(able, key=lambda p: (p["drop"], p["latency_ratio"]))["trial"]
    )
    for limit in ("0.02", "2%", f"{0.02 * fp32_ms:.9f}ms", f"{0.02 * fp32_ms:.9f} ms"):
        assert listed(invoke, "--max-latency", limit)["chosen"] == fast


@pytest.mark.usefixtures("run")
def test_the_smallest_plan_within_the_bound(invoke: Invoke) -> None:
    points = listed(invoke, "--all")["points"]
    able = [p for p in points if p["drop"] <= 0.1]

    assert listed(invoke, "--objective", "size")["chosen"] == min(able, key=lambda p: (p["bytes"], p["drop"]))["trial"]


def test_a_bound_that_no_plan_meets_names_the_nearest_and_writes_nothing(run: Path, invoke: Invoke) -> None:
    near = listed(invoke, "--max-latency", "0.001", code=EXIT_INFEASIBLE)
    told = invoke("front", "run", "--max-latency", "0.001", "--point", "best", "-o", "built")
    fastest = min(listed(invoke, "--all")["points"], key=lambda p: p["latency_ratio"])

    assert (near["chosen"], near["nearest"]) == (None, fastest["trial"])
    assert told.exit_code == EXIT_INFEASIBLE
    assert "no measured plan has a latency of at most 0.001 of FP32's; the nearest is trial" in told.stderr
    assert f"trial {fastest['trial']}: " in told.stderr
    assert "nothing was written" in told.stderr
    assert not Path("built").exists()


def test_plans_that_were_not_timed_or_are_worthless_are_listed_and_never_chosen(run: Path, invoke: Invoke) -> None:
    untimed = add(
        run,
        unmeasured(run),
        Measurement(
            drop=0.2, judged_drop=0.2, noise=1e-3, kl=None, agreement=None, latency_ratio=float("inf"), samples=5
        ),
    )
    worthless = add(run, unmeasured(run), WORTHLESS)
    record = listed(invoke, "--max-drop", "0.9", "--all")
    points = {p["trial"]: p for p in record["points"]}

    assert (points[untimed]["latency_ratio"], points[untimed]["samples"]) == (None, 5)
    assert points[worthless]["drop"] is None
    assert record["chosen"] not in (untimed, worthless)
    assert not points[untimed]["on_front"]
    assert not points[worthless]["on_front"]
    assert record["not_timed"] == 1
    assert "not timed" in invoke("front", "run", "--all").stdout
    assert listed(invoke, "--max-latency", "0.02", code=EXIT_INFEASIBLE)["chosen"] is None


def test_nothing_in_the_run_directory_changes(run: Path, invoke: Invoke) -> None:
    before = contents(run)
    invoke("front", "run", "--all")
    invoke("front", "run", "--point", "best", "-o", "built")

    assert contents(run) == before


def test_a_run_that_did_not_end_has_a_front_without_milliseconds_or_answer(run: Path, invoke: Invoke) -> None:
    change(run, answer=None)
    record = listed(invoke)

    assert record["answer"] is None
    assert {p["latency_ms"] for p in record["points"]} == {None}
    assert "the run has not ended, so it has no answer yet." in invoke("front", "run").stdout
    refused(invoke("front", "run", "--max-latency", "5ms"), "did not end and left no milliseconds")


def test_the_model_may_have_moved(run: Path, work: Path, invoke: Invoke) -> None:
    (work / "tiny.onnx").rename(work / "moved.onnx")

    refused(invoke("front", "run"), "which is not there; say where it is by --model")
    assert invoke("front", "run", "--model", "moved.onnx").exit_code == EXIT_OK


def test_another_model_in_its_place_is_refused(run: Path, work: Path, invoke: Invoke) -> None:
    (work / "tiny.onnx").unlink()
    tiny_model(work, seed=7)

    refused(invoke("front", "run"), "the fingerprint of its weights is")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--point", "99", "-o", "built"], "a point must be the number of a measured plan, one of 0, 1, "),
        (["--point", "fast", "-o", "built"], "must be the number of a measured plan, or best, got 'fast'"),
        (["--point", "0"], "--point must come with -o FOLDER"),
        (["-o", "built"], "-o must come with --point N or --point best"),
        (["--point", "0", "-o", "run"], "is a run directory, whose files belong to its answer"),
        (["--point", "0", "-o", "tiny.onnx"], "choose another by --out"),
        (["--point", "0", "-o", "built", "--max-drop", "1"], "give them with --point best, or leave them out"),
        (["--point", "0", "-o", "built", "--all"], "--all is for lists"),
        (["--max-drop", "0.1", "--max-latency", "0.5"], "are two questions: give one of them"),
        (["--max-latency", "0.5", "--objective", "size"], "leave --objective out"),
        (["--max-drop", "-1"], "--max-drop must be 0 or more, got -1"),
        (["--max-drop", "nan"], "--max-drop must be 0 or more, got nan"),
        (["--max-latency", "5s"], "must be a share of FP32's latency such as 0.5 or 50%, or 5ms, got '5s'"),
        (["--max-latency", "0"], "--max-latency must be more than 0"),
        (["--model", "absent.onnx"], "absent.onnx, which is not there; say where it is by --model"),
        (["--model", "data.npz"], "data.npz"),
    ],
)
@pytest.mark.usefixtures("run")
def test_what_cannot_be_asked(invoke: Invoke, options: list[str], words: str) -> None:
    refused(invoke("front", "run", *options), words)
    assert not Path("built").exists()


@pytest.mark.parametrize(("place", "words"), [("nowhere", "is not there"), ("data.npz", "is a file"), (".", "has no")])
def test_what_is_no_run_directory(invoke: Invoke, place: str, words: str) -> None:
    refused(invoke("front", place), words)


@pytest.mark.parametrize("name", ["study.json", "study.log", "ranges.json"])
@pytest.mark.parametrize("garbage", [None, b"", b"\x00\xff", b"{", b"[]\n", b'{"schema": 99}\n', b'{"schema": 1}\n'])
def test_a_damaged_or_missing_file_of_the_run(run: Path, invoke: Invoke, name: str, garbage: bytes | None) -> None:
    (run / name).unlink()
    if garbage is not None:
        (run / name).write_bytes(garbage)

    refused(invoke("front", "run"), name)


def test_a_run_without_sensitivities_lists_and_builds_what_it_measured(run: Path, invoke: Invoke) -> None:
    (run / "profile.json").unlink()
    said = invoke("front", "run", "--all")

    assert said.exit_code == EXIT_OK
    assert re.search(r"uniform\s+fp32", said.stdout)
    assert invoke("front", "run", "--point", "0", "-o", "built").exit_code == EXIT_OK


def test_a_damaged_profile_writes_nothing(run: Path, invoke: Invoke) -> None:
    (run / "profile.json").write_bytes(b"{")

    refused(invoke("front", "run", "--point", "0", "-o", "built"), "run/profile.json")
    assert not Path("built").exists()


def test_a_damaged_field_of_the_study(run: Path, invoke: Invoke) -> None:
    whole = (run / "study.json").read_text(encoding="utf-8")
    for field in json.loads(whole):
        if field in (
            "kind",
            "model",
            "backend",
            "metric",
            "splits",
            "study",
            "confidence",
            "max_drop",
            "answer",
            "max_latency",
            RELEASE,
        ):
            continue  # any text or none will do there, or is another study's
        change(run, **{field: None})
        refused(invoke("front", "run"), "study" if field != "scheme" else "there is no scheme 'None'")
        (run / "study.json").write_text(whole, encoding="utf-8")


def test_ranges_of_another_calibration_are_refused(run: Path, invoke: Invoke) -> None:
    record = json.loads((run / "ranges.json").read_text(encoding="utf-8"))
    (run / "ranges.json").write_text(json.dumps(record | {"fingerprint": "0" * 16}), encoding="utf-8")

    refused(invoke("front", "run"), "has other ranges than the plans were measured with")


def test_that_another_release_computed_the_figures_is_said(run: Path, invoke: Invoke) -> None:
    own = invoke("front", "run")
    change(run, **{RELEASE: "0.0.1"})
    other = invoke("front", "run")

    assert "computed by" not in own.stdout
    assert "these figures were computed by autoprec 0.0.1; this is autoprec" in other.stdout
    assert listed(invoke)["computed_by"] == "autoprec 0.0.1"
