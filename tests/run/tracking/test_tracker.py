"""What trackers are told, and that one that fails ends no run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from autoprec.run.tracking.named import tracked_run
from autoprec.run.tracking.tracker import Tracked, figures_of
from autoprec.study.trial import Trial

from ...helpers.ledgers import DONE, LOW

TRIAL = Trial(number=3, origin="swap", plan=LOW, measured=replace(DONE, bytes=70.0), feasible=True)


class Noting:
    def __init__(self, fails: bool = False) -> None:
        self.told: list[object] = []
        self._fails = fails

    def begin(self, tracked: Tracked) -> None:
        self.told.append(tracked.name)

    def trial(self, trial: Trial) -> None:
        if self._fails:
            raise ConnectionError("no route")
        self.told.append(trial.number)

    def end(self, answer: Mapping[str, float | str]) -> None:
        self.told.append(dict(answer))


def test_a_tracker_is_told_the_run_each_plan_and_the_answer() -> None:
    tracker = Noting()
    with tracked_run([tracker], "net") as progress:
        progress.trial(TRIAL)
        progress.answer({"chosen": "trial 3"})

    assert tracker.told == ["net", 3, {"chosen": "trial 3"}]


def test_a_tracker_that_fails_is_left_out_and_the_run_goes_on() -> None:
    failing, other = Noting(fails=True), Noting()
    with tracked_run([failing, other], "net") as progress:
        with pytest.warns(UserWarning, match=r"Noting takes no more figures \(no route\); the run goes on without it"):
            progress.trial(TRIAL)
        progress.trial(TRIAL)

    assert (failing.told, other.told) == (["net"], ["net", 3, 3, {}])


def test_a_run_that_fails_ends_without_an_answer() -> None:
    tracker = Noting()
    with pytest.raises(ZeroDivisionError), tracked_run([tracker], "net"):
        raise ZeroDivisionError

    assert tracker.told == ["net", {}]


def test_figures_that_are_not_known_are_left_out() -> None:
    untimed = replace(TRIAL, measured=replace(DONE, latency_ratio=float("inf")), feasible=False)

    assert figures_of(TRIAL) == {
        "latency_ratio": 0.5,
        "drop": 0.0,
        "size_bytes": 70.0,
        "noise": 1e-3,
        "within_bounds": 1.0,
    }
    assert figures_of(untimed) == {"drop": 0.0, "noise": 1e-3, "within_bounds": 0.0}
