"""The stages together: time limits, what is taken over from an earlier run, and pins."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import autoprec
from autoprec.precision import Precision
from autoprec.run import budget
from autoprec.study.trial import Trial
from autoprec.testing import FakeBackend, tiny_data


class Listener:
    """Notes stages and trials."""

    def __init__(self) -> None:
        self.stages: dict[str, str] = {}
        self.trials: list[Trial] = []

    def stage(self, name: str, detail: str) -> None:
        self.stages[name] = detail

    def advance(self, share: float) -> None:
        """Nothing."""

    def trial(self, trial: Trial) -> None:
        self.trials.append(trial)

    @property
    def reused(self) -> list[str]:
        return [name for name, detail in self.stages.items() if "from an earlier run" in detail]


def searched(model: Path, out: Path, **options: Any) -> tuple[autoprec.SearchResult, Listener]:
    told = Listener()
    settings = {
        "calib": tiny_data(model, 36),
        "metric": "sqnr",
        "max_drop": 3e-3,
        "trials": 12,
        "backend": FakeBackend(),
    }
    return autoprec.search(model, out=out, progress=told, **{**settings, **options}), told


def test_a_run_out_of_time_stops_searching_and_still_answers(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock stands still until the uniform plans and halves are measured, then it is past the limit."""
    now = [0.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])

    class Clock(Listener):
        def trial(self, trial: Trial) -> None:
            super().trial(trial)
            now[0] += 30.0

    told = Clock()
    result = autoprec.search(
        model,
        calib=tiny_data(model, 36),
        metric="sqnr",
        max_drop=3e-3,
        backend=FakeBackend(),
        out=tmp_path,
        timeout_s=100.0,
        progress=told,
    )

    assert result.summary["stopped"] == "the time limit was reached"
    assert len(told.trials) == 4
    assert result.feasible
    assert "1 of 3 plans were not confirmed" in result.summary["left_out"]


def test_ranges_made_in_a_hurry_are_made_again_where_there_is_time(model: Path, tmp_path: Path) -> None:
    hurried, _ = searched(model, tmp_path, timeout_s=1e-3)
    again, told = searched(model, tmp_path)

    assert any(words.startswith("ranges are of ") for words in hurried.summary["left_out"])
    assert again.summary["left_out"] == []
    assert "ranges" not in told.reused
    assert "sensitivity" not in told.reused


def test_a_limit_that_is_over_at_once_ends_with_fp32_which_needs_no_measurement(model: Path, tmp_path: Path) -> None:
    result, told = searched(model, tmp_path, timeout_s=1e-3)

    assert told.stages["sensitivity"] == "left out: there is no time for it"
    assert told.stages["latency"] == "left out: there is no time for it"
    assert [trial.origin for trial in told.trials] == ["uniform fp32"]
    assert result.summary["chosen"] == "uniform fp32"


def test_a_blocked_bound_names_units_that_measured_in_fp32_let_the_rest_meet_it(model: Path, tmp_path: Path) -> None:
    result, told = searched(model, tmp_path, pins=[".*=int8"], max_drop=1e-4)
    blocking = result.summary["blocking"]

    assert not result.feasible
    assert told.trials[0].measured.judged_drop > 1e-4
    assert blocking["units"]
    assert blocking["drop"] <= 1e-4
    freed = searched(
        model, tmp_path / "freed", max_drop=1e-4, pins=[".*=int8", *(f"^{unit}$=fp32" for unit in blocking["units"])]
    )[0]
    assert freed.feasible
    assert freed.summary["blocking"] is None


def test_the_answer_is_corrected_for_having_been_chosen(model: Path, tmp_path: Path) -> None:
    result, _ = searched(model, tmp_path, max_drop=9)
    curse = result.summary["winners_curse"]
    ratio = result.summary["candidates"][result.summary["chosen"]]["latency_vs_fp32"]["estimate"]

    assert result.summary["chosen"] != "uniform fp32"
    assert curse["plans"] == sum(trial.feasible for trial in result.trials)
    for figure in ("latency", "drop"):
        assert curse[figure]["corrected"] == pytest.approx(curse[figure]["selected"] + curse[figure]["optimism"])
    assert curse["latency"]["fresh"] == ratio


def test_with_a_confidence_only_plans_whose_upper_end_meets_the_bound_are_accepted(model: Path, tmp_path: Path) -> None:
    """The bound lies between the estimates of some plans and their upper ends."""
    free, _ = searched(model, tmp_path / "free", metric="kl", max_drop=9)
    bound = 1.02 * max(trial.measured.judged_drop for trial in free.trials)
    loose, _ = searched(model, tmp_path / "loose", metric="kl", max_drop=bound)
    strict, _ = searched(model, tmp_path / "strict", metric="kl", max_drop=bound, confidence=0.95)

    assert {t.feasible for t in loose.trials if t.origin == "uniform int8"} == {True}
    [int8] = [t for t in strict.trials if t.origin == "uniform int8"]
    assert int8.measured.judged_drop > bound > int8.measured.drop
    assert not int8.feasible
    assert all(t.measured.judged_drop <= bound for t in strict.trials if t.feasible)


def test_without_a_limit_it_is_not_the_time_that_stops_it(model: Path, tmp_path: Path) -> None:
    result, told = searched(model, tmp_path)

    assert result.summary["stopped"] != "the time limit was reached"
    assert len(told.trials) > 4


def test_trials_are_at_most_as_many_as_asked_beyond_the_seeds(model: Path, tmp_path: Path) -> None:
    assert len(searched(model, tmp_path, trials=5)[0].trials) <= 5


def test_the_same_arguments_again_measure_nothing(model: Path, tmp_path: Path) -> None:
    first, _ = searched(model, tmp_path)
    second, told = searched(model, tmp_path)

    assert told.reused == ["ranges", "sensitivity", "latency"]
    assert told.trials == []
    assert second.plan == first.plan
    assert second.trials == first.trials


@pytest.mark.parametrize(
    ("changed", "reused"),
    [
        ({"max_drop": 0.5}, ["ranges", "sensitivity", "latency"]),
        ({"trials": 14}, ["ranges", "sensitivity", "latency"]),
        ({"metric": "kl"}, ["ranges", "latency"]),
        ({"batch": 4}, ["ranges", "sensitivity"]),
        ({"backend": FakeBackend({"conv1": (5.0, 1.0)})}, ["ranges", "sensitivity"]),
        ({"pins": ["conv1=fp32"]}, ["ranges", "sensitivity"]),
        ({"recipe": "minmax"}, []),
        ({"seed": 1}, []),
    ],
)
def test_what_is_redone_is_what_the_change_reaches(
    model: Path, tmp_path: Path, changed: dict[str, Any], reused: list[str]
) -> None:
    searched(model, tmp_path)

    assert searched(model, tmp_path, **changed)[1].reused == reused


def test_measured_plans_count_again_only_for_the_clock_and_data_that_measured_them(model: Path, tmp_path: Path) -> None:
    first, _ = searched(model, tmp_path)

    assert searched(model, tmp_path, max_drop=3.1e-3)[0].trials[: len(first.trials)] != ()
    assert len(searched(model, tmp_path, batch=4)[1].trials) >= 4
    assert len(searched(model, tmp_path, backend=FakeBackend({"conv1": (5.0, 1.0)}))[1].trials) >= 4


def test_pins_hold_in_every_trial_and_in_the_answer(model: Path, tmp_path: Path) -> None:
    result, _ = searched(model, tmp_path, pins=["conv2=fp32", "head=int8"])

    for plan in [*(trial.plan for trial in result.trials), result.plan.precisions()]:
        assert plan["conv2"] is Precision.FP32
        assert plan["head"] is Precision.INT8


def test_with_pins_the_reference_is_fp32_and_never_the_answer(model: Path, tmp_path: Path) -> None:
    """INT8 is slow, so that FP32 would be fastest; the pinned unit keeps it from being allowed."""
    slow = FakeBackend(dict.fromkeys(("conv1", "conv2", "conv3", "head", "pool"), (1.0, 3.0)))
    result, _ = searched(model, tmp_path, backend=slow, max_drop=9, pins=["head=int8"])
    candidates, pinned = result.summary["candidates"], "uniform fp32 but for pins"

    assert candidates["uniform fp32"]["mac_share"] == {"fp32": 1.0}
    assert candidates["uniform fp32"]["sqnr_db"] == math.inf  # no noise at all
    assert result.summary["chosen"] == result.summary["best_uniform"] == pinned
    assert candidates[pinned]["latency_vs_fp32"]["estimate"] > 1.2
    assert candidates[pinned]["sqnr_db"] < 100
    assert result.reason.startswith("keep FP32 but for pins: ")
    assert result.summary["latency_vs_best_uniform"]["estimate"] == 1
    precisions = result.plan.precisions()
    assert precisions.pop("head") is Precision.INT8
    assert set(precisions.values()) == {Precision.FP32}


def test_where_int8_is_slower_float_is_kept_and_the_reason_says_so(model: Path, tmp_path: Path) -> None:
    slow = FakeBackend(dict.fromkeys(("conv1", "conv2", "conv3", "head", "pool"), (1.0, 3.0)))
    result, _ = searched(model, tmp_path, backend=slow, max_drop=9)

    assert set(result.plan.precisions().values()) == {Precision.FP32}
    assert result.reason.startswith("keep FP32: ")


def test_a_plan_that_beats_all_uniform_ones_is_found(model: Path, tmp_path: Path) -> None:
    """One unit is slow in INT8, and boundaries cost nothing: all but that unit in INT8 is best."""
    free = {"QuantizeLinear": (1e-6, 1e-6), "DequantizeLinear": (1e-6, 1e-6)}
    backend = FakeBackend({**free, "conv2": (1.0, 9.0), "pool": (0.1, 0.1)})
    result, _ = searched(model, tmp_path, backend=backend, max_drop=9, trials=20)
    plan = result.plan.precisions()

    assert plan["conv2"] is Precision.FP32
    assert {plan["conv1"], plan["conv3"], plan["head"]} == {Precision.INT8}
    assert result.summary["latency_vs_best_uniform"]["estimate"] < 1
