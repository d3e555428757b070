"""Comparing engines, on engines whose times are made up."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from autoprec.testing import FakeEngine
from autoprec.timing import compare as timing
from autoprec.timing.compare import Timing, compare
from autoprec.timing.disturbance import Usage


class Scripted(FakeEngine):
    """Takes `milliseconds(turn)` in its turn-th call, and notes each call under its name."""

    def __init__(self, name: str, calls: list[str], milliseconds: Callable[[int], float]) -> None:
        self.name, self.calls, self.milliseconds, self.turn = name, calls, milliseconds, 0

    def time_ms(self, feed: Mapping[str, Any], runs: int) -> list[float]:
        self.calls.append(self.name)
        self.turn += 1
        return [self.milliseconds(self.turn)] * runs


def scripted(**times: Callable[[int], float]) -> tuple[dict[str, Scripted], list[str]]:
    calls: list[str] = []
    return {name: Scripted(name, calls, function) for name, function in times.items()}, calls


def test_the_ratio_of_steady_engines_is_exact_after_the_fewest_rounds() -> None:
    engines, _ = scripted(base=lambda turn: 10.0, other=lambda turn: 4.0)
    found = compare(engines, {}, rounds=(5, 25))

    assert found["other"].ratio_to(found["base"]).estimate == pytest.approx(0.4)
    assert len(found["base"].rounds_ms) == 5


@pytest.mark.parametrize(("seconds", "count"), [(1.0, 5), (12.0, 3)])
def test_rounds_that_take_long_are_half_as_many_if_their_ratio_is_known(seconds: float, count: int) -> None:
    engines, _ = scripted(base=lambda turn: 10.0, other=lambda turn: 4.0)
    ticks = itertools.count(0.0, seconds)
    found = compare(engines, {}, rounds=(5, 25), clock=lambda: next(ticks))

    assert len(found["base"].rounds_ms) == count


def test_rounds_end_after_two_minutes_however_little_is_known() -> None:
    random, ticks = np.random.default_rng(0), itertools.count(0.0, 25.0)
    engines, _ = scripted(base=lambda turn: 10.0, other=lambda turn: float(random.uniform(2, 18)))

    assert len(compare(engines, {}, rounds=(5, 12), clock=lambda: next(ticks))["base"].rounds_ms) == 5


def test_rounds_interleave_and_turn_about() -> None:
    engines, calls = scripted(a=lambda turn: 1.0, b=lambda turn: 1.0)
    compare(engines, {}, rounds=(4, 4))

    assert calls[4:] == ["a", "b", "b", "a", "a", "b", "b", "a"]


def test_a_drift_of_the_machine_hits_all_alike() -> None:
    engines, _ = scripted(base=lambda turn: 10.0 + 3 * turn, other=lambda turn: 5.0 + 1.5 * turn)
    found = compare(engines, {}, rounds=(5, 25))

    assert found["other"].ratio_to(found["base"]).estimate == pytest.approx(0.5, rel=0.05)


def test_noise_is_met_with_more_rounds_up_to_the_most() -> None:
    random = np.random.default_rng(0)
    engines, _ = scripted(base=lambda turn: 10.0, other=lambda turn: float(random.uniform(2, 18)))

    assert len(compare(engines, {}, rounds=(5, 12))["other"].rounds_ms) == 12


def test_an_outlier_round_does_not_move_the_median() -> None:
    assert Timing((1.0, 1.1, 50.0, 0.9, 1.0)).median_ms == 1.0


def test_the_error_of_a_ratio_is_that_of_the_median_of_the_rounds_ratios() -> None:
    """Simulated: rounds that share a drift, whose ratio alone is noisy by 2 %."""
    generator = np.random.default_rng(0)
    errors, ratios = [], []
    for _ in range(300):
        base = 10 * (1 + 0.3 * generator.random(15))
        plan = 0.5 * base * (1 + 0.02 * generator.normal(size=15))
        one, other = Timing(tuple(base)), Timing(tuple(plan))
        errors.append(other.error_to(one) / 0.5)
        ratios.append(float(np.median(plan / base)) / 0.5)

    assert np.mean(errors) == pytest.approx(np.std(ratios), rel=0.15)
    assert Timing((2.0, 4.0, 6.0)).error_to(Timing((4.0, 8.0, 12.0))) == 0.0


def test_a_long_run_warms_up_once_and_a_turn_costs_what_is_said() -> None:
    engines, _ = scripted(slow=lambda turn: 100.0)
    runs: list[int] = []
    time_ms = engines["slow"].time_ms
    engines["slow"].time_ms = lambda feed, count: runs.append(count) or time_ms(feed, count)  # type: ignore[func-returns-value, method-assign]
    compare(engines, {}, rounds=(3, 3), turn_ms=60.0)

    assert runs[-1] == 2
    assert timing.turn_s(100.0, 60.0) == pytest.approx(0.2)
    assert timing.turn_s(1.0, 60.0) == pytest.approx(0.062)


@pytest.mark.parametrize(("ratio", "rounds"), [(0.7, 3), (0.52, 5)])
def test_an_engine_far_slower_than_its_rival_is_dropped_after_three_rounds(ratio: float, rounds: int) -> None:
    engines, _ = scripted(base=lambda turn: 10.0, other=lambda turn: 10.0 * ratio)

    assert len(compare(engines, {}, rounds=(5, 25), rival=0.5)["other"].rounds_ms) == rounds


@pytest.mark.parametrize(("milliseconds", "runs"), [(1.0, 17), (20.0, 2)])
def test_a_turn_begins_with_two_runs_that_do_not_count_or_one_of_a_slow_engine(milliseconds: float, runs: int) -> None:
    asked: list[int] = []

    class Counting(FakeEngine):
        def __init__(self) -> None:
            pass

        def time_ms(self, feed: Mapping[str, Any], runs: int) -> list[float]:
            asked.append(runs)
            return [milliseconds] * runs

    compare({"one": Counting()}, {}, rounds=(2, 2), turn_ms=15.0)

    assert asked[-2:] == [runs, runs]


class OnCpu(Scripted):
    """Runs on the CPUs of this process."""

    runs_in_process = True


class Meter:
    """A process that uses `cpu_s` seconds of CPUs between two questions, and waits for `waited` of the time."""

    def __init__(self, cpu_s: list[float], waited: float) -> None:
        self.cpu_s, self.waited, self.asked = cpu_s, waited, 0

    def __call__(self) -> Usage:
        self.asked += 1
        total = sum(self.cpu_s[number % len(self.cpu_s)] for number in range(self.asked))
        return Usage(float(self.asked), total, self.waited * self.asked)


def on_cpu(base_ms: float, other_ms: float) -> dict[str, OnCpu]:
    return {"base": OnCpu("base", [], lambda turn: base_ms), "other": OnCpu("other", [], lambda turn: other_ms)}


def test_a_quiet_machine_is_believed() -> None:
    found = compare(on_cpu(10.0, 6.0), {}, rounds=(5, 5), meter=Meter([1.0], waited=0.01))

    assert not found["other"].disturbed
    assert found["other"].ratio_to(found["base"]).high == pytest.approx(0.6)


def test_the_interval_of_a_busy_machine_holds_what_both_clocks_say() -> None:
    """By the clock the other engine takes 0.05 of the time, by CPU time as long as the first: nothing is certain."""
    found = compare(on_cpu(0.1, 0.005), {}, rounds=(5, 5), meter=Meter([1.0], waited=0.5))
    ratio = found["other"].ratio_to(found["base"])

    assert found["other"].disturbed
    assert ratio.low < 0.05
    assert ratio.high > 1.0


def test_a_disturbed_turn_is_taken_again_until_the_machine_is_found_busy() -> None:
    calls = {}
    for waited in (0.0, 0.5):
        engines = on_cpu(10.0, 6.0)
        compare(engines, {}, rounds=(5, 5), meter=Meter([1.0], waited=waited))
        calls[waited] = sum(len(engine.calls) for engine in engines.values())

    assert calls[0.0] == 2 * (2 + 5 * 2)  # two estimates, and in each of five rounds the warm-up and the runs
    assert calls[0.5] == calls[0.0] + 3 * 2 * 2  # three turns were taken twice more


def test_nothing_is_said_of_an_engine_that_does_not_run_on_the_cpus() -> None:
    engines, _ = scripted(base=lambda turn: 10.0, other=lambda turn: 6.0)
    found = compare(engines, {}, rounds=(5, 5), meter=Meter([1.0], waited=0.5))

    assert found["other"].ratio_to(found["base"]).high == pytest.approx(0.6)
