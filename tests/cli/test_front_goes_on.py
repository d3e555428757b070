"""The front of a run that was stopped, goes on under another bound, or met no bound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from autoprec.errors import EXIT_INFEASIBLE, EXIT_OK
from autoprec.plan import load_plan
from autoprec.run.study_description import read_study_description

from ..helpers.run_files import FINISHED
from .conftest import Invoke, contents, listed

pytestmark = pytest.mark.slow  # most of these are several whole runs

TUNE = ("tune", "tiny.onnx", "--calib", "data.npz", "--trials", "8", "--threads", "1", "--quiet")
TUNE += ("--pin", "^head$=fp32", "--max-drop", "0.1", "--out", "run")


def test_a_search_that_was_stopped_has_a_front_and_goes_on(work: Path, invoke: Invoke) -> None:
    """Also where a longer run with other settings had left its answer there."""
    assert invoke(*TUNE).exit_code == EXIT_OK
    first = read_study_description(work / "run" / "study.json")
    other = ("--confidence", "0.95")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autoprec.cli.screen.Screen.trial", _stop_at(3))
        assert invoke(*TUNE, *other).exit_code == 130
    record, second = listed(invoke, "--all"), read_study_description(work / "run" / "study.json")

    assert len(record["points"]) == 3
    assert record["answer"] is None
    assert record["judged"] == "the upper end of its 95 % confidence interval"
    assert second.study != first.study  # drops were judged otherwise
    assert invoke(*TUNE, *other).exit_code in (EXIT_OK, EXIT_INFEASIBLE)
    after = listed(invoke, "--all")
    assert after["points"][:3] == [
        {**p, "latency_ms": q["latency_ms"], "confirmed": q["confirmed"], "on_front": q["on_front"]}
        for p, q in zip(record["points"], after["points"], strict=False)
    ]
    assert after["answer"] is not None


def test_a_tune_with_another_bound_goes_on_from_what_the_front_lists(work: Path, invoke: Invoke) -> None:
    assert invoke(*TUNE).exit_code == EXIT_OK
    before = listed(invoke, "--all")["points"]
    assert invoke(*TUNE, "--max-drop", "0.2").exit_code == EXIT_OK
    after = listed(invoke, "--all")

    figures = ("trial", "latency_ratio", "drop", "bytes")
    assert [[p[f] for f in figures] for p in before] == [
        [p[f] for f in figures] for p in after["points"][: len(before)]
    ]
    assert after["max_drop"] == 0.2
    assert contents(work / "run").keys() == set(FINISHED)


def test_an_infeasible_runs_best_plan_is_built_as_the_run_wrote_it(work: Path, invoke: Invoke) -> None:
    impossible = ("--metric", "kl", "--max-drop", "0", "--pin", "^conv1$=int8")
    assert invoke(*TUNE, *impossible).exit_code == EXIT_INFEASIBLE
    assert invoke("front", "run", "--point", "best", "-o", "built").exit_code == EXIT_INFEASIBLE
    number = listed(invoke, code=EXIT_INFEASIBLE)["nearest"]
    assert invoke("front", "run", "--point", str(number), "-o", "built").exit_code == EXIT_OK
    built = load_plan("built/plan.json")

    assert built.units == load_plan(work / "run" / "plan.json").units
    assert built.units["conv1"].reason == "pinned by the user"
    assert built.evidence["feasible"] is False


def _stop_at(count: int) -> Callable[..., None]:
    seen = []

    def trial(_screen: object, trial: object) -> None:
        seen.append(trial)
        if len(seen) == count:
            raise KeyboardInterrupt

    return trial
