"""When rounds say slower, when fine, and when nothing; and a true race on this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.gate.baseline import load_baseline
from autoprec.gate.duel import Arena, Paired, RaceVerdict, decide, race, settled
from autoprec.gate.latency import find_rival, judge_race
from autoprec.gate.verdict import Status
from autoprec.testing import FakeBackend, tiny_data, tiny_model
from autoprec.timing.race import race_block

from .conftest import Tiny


def rounds(ratio: float, noise: float, blocks: int = 4, seed: int = 0) -> Paired:
    """Rounds of which the second engine takes `ratio` of the first one's time."""
    random = np.random.default_rng(seed)

    def times(factor: float) -> tuple[tuple[float, ...], ...]:
        return tuple(tuple(2.0 * factor * np.exp(random.normal(0, noise, 6))) for _ in range(blocks))

    return Paired(times(1.0), times(ratio))


def test_a_certain_slowdown_beyond_the_bound_is_slower() -> None:
    assert decide(rounds(1.10, 0.01), 0.05) == RaceVerdict.SLOWER


def test_a_certain_slowdown_within_the_bound_is_fine() -> None:
    assert decide(rounds(1.03, 0.005), 0.05) == RaceVerdict.FINE


def test_the_same_latency_is_fine() -> None:
    assert decide(rounds(1.0, 0.01), 0.05) == RaceVerdict.FINE
    assert decide(rounds(0.5, 0.01), 0.05) == RaceVerdict.FINE


def test_noise_that_hides_the_bound_leaves_it_open() -> None:
    assert {decide(rounds(1.0, 0.6, seed=seed), 0.05) for seed in range(20)} <= {RaceVerdict.OPEN, RaceVerdict.FINE}
    assert RaceVerdict.OPEN in {decide(rounds(1.0, 0.6, seed=seed), 0.05) for seed in range(20)}


def test_few_alarms_whatever_the_noise() -> None:
    for noise in (0.01, 0.05, 0.2, 0.5):
        alarms = sum(decide(rounds(1.0, noise, seed=seed), 0.05) == RaceVerdict.SLOWER for seed in range(200))
        assert alarms <= 2, noise


def test_a_tenth_is_always_seen_in_the_noise_of_a_busy_machine() -> None:
    """A race on two busy cores spreads by about one percent."""
    assert all(decide(rounds(1.10, 0.015, seed=seed), 0.05) == RaceVerdict.SLOWER for seed in range(100))


def test_it_goes_on_until_it_is_decided() -> None:
    assert settled(rounds(1.0, 0.005), 0.05)
    assert settled(rounds(1.10, 0.005), 0.05)
    assert not settled(rounds(1.05, 0.05), 0.05)


@pytest.mark.parametrize(
    ("ratios", "status", "raced"),
    [
        ([1.0], Status.FINE, 1),
        ([1.1, 1.1], Status.WORSE, 2),
        ([1.1, 1.0], Status.FINE, 2),
        ([None, 1.1, 1.1], Status.WORSE, 3),
        ([1.1, None, 1.1], Status.WORSE, 3),
        ([None, None], Status.CANNOT_JUDGE, 2),
        ([1.1, None, 1.0], Status.FINE, 3),
    ],
)
def test_one_race_raises_no_alarm(
    monkeypatch: pytest.MonkeyPatch, ratios: list[float | None], status: Status, raced: int
) -> None:
    """Two of at most three races must say slower; None stands for a race that noise left open."""
    left = [rounds(1.3, 0.9, seed=3) if ratio is None else rounds(ratio, 0.005) for ratio in ratios]
    assert decide(rounds(1.3, 0.9, seed=3), 0.05) == RaceVerdict.OPEN
    monkeypatch.setattr("autoprec.gate.duel.race", lambda *_: left.pop(0))
    found = judge_race(Arena(FakeBackend(), {}), b"", b"", 0.05, "here")

    assert found.status is status
    assert len(ratios) - len(left) == raced


def test_turns_alternate_and_engines_are_fresh_in_each_block() -> None:
    told: list[str] = []

    class Engine:
        def __init__(self, name: str) -> None:
            self.name = name

        def time_ms(self, _feed: object, runs: int) -> list[float]:
            told.append(self.name)
            return [9.0, 9.0, *[float(number + 1) for number in range(runs - 2)]]

        def __enter__(self) -> Engine:
            return self

        def __exit__(self, *_: object) -> None:
            told.append(f"freed {self.name}")

    class Builder(FakeBackend):
        def build(self, model: bytes, *, exact: bool = False, threads: int | None = None) -> Engine:  # type: ignore[override]
            assert threads == 3
            return Engine(model.decode())

    found = race_block(Builder(), {"one": b"1", "two": b"2"}, {}, 3, 0)
    turns = told[2:-2]

    assert found == {"one": (1.0,) * 6, "two": (1.0,) * 6}
    assert turns[:4] == ["1", "2", "2", "1"]
    assert sorted(told[-2:]) == ["freed 1", "freed 2"]
    told.clear()
    race_block(Builder(), {"one": b"1", "two": b"2"}, {}, 3, 1)
    assert told[2] == "2"


@pytest.mark.serial
def test_a_model_against_itself_is_within_a_few_percent(tmp_path: Path) -> None:
    model = tiny_model(tmp_path).read_bytes()
    feed = {"x": tiny_data(tmp_path / "tiny.onnx", 16)["x"]}
    assert race(Arena(OrtBackend(), feed), model, model, 0.25).ratio.estimate == pytest.approx(1.0, abs=0.2)


def test_a_file_in_the_recorded_place_must_be_the_recorded_one(tiny: Tiny, tmp_path: Path) -> None:
    from dataclasses import replace

    evidence = load_baseline(tiny.baseline).evidence
    found = find_rival(evidence, tiny.baseline, None, b"")
    assert found is not None
    assert found[1].endswith("run/model.onnx")

    stranger = tmp_path / "model.onnx"
    stranger.write_bytes(b"0" * evidence.lowered["bytes"])
    moved = replace(evidence, lowered={**evidence.lowered, "path": str(stranger)})
    assert find_rival(moved, tiny.baseline, None, b"") is None


def test_a_recorded_place_may_be_beside_the_baseline(tiny: Tiny) -> None:
    from dataclasses import replace

    evidence = load_baseline(tiny.baseline).evidence
    moved = replace(evidence, lowered={**evidence.lowered, "path": "run/model.onnx"})
    assert find_rival(moved, tiny.baseline, None, b"") is not None
