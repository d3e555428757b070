"""Comparing engines by the clock: interleaved rounds, so that drift of the machine hits all alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from autoprec.backends.protocol import Engine
from autoprec.precision import Array
from autoprec.stats.intervals import Interval, mad, median, ratio_of_medians

_FIRST_RUNS, _LONG_MS = 2, 20.0
"""Sleeping threads and caches full of another engine's data spoil the first runs of a turn, or one that is long."""
_FEWEST_ROUNDS = 3  # however little time there is
_HOPELESS = 1.1
"""An engine that is slower than this many times the rival in each of the fewest rounds needs no closer look."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Latencies of one engine in one comparison.

    Attributes:
        rounds_ms: the median of each round, milliseconds for one batch.
    """

    rounds_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """The median over rounds."""
        return median(self.rounds_ms)

    def ratio_to(self, baseline: Timing, confidence: float = 0.95) -> Interval:
        """Latency against `baseline`, measured in the same rounds, with its interval."""
        return ratio_of_medians(baseline.rounds_ms, self.rounds_ms, confidence)

    def error_to(self, baseline: Timing) -> float:
        """The standard error of the ratio to `baseline`, by the spread of the rounds' own ratios.

        That of a median is 1.2533 times that of a mean, for normal noise.
        """
        ratios = np.divide(self.rounds_ms, baseline.rounds_ms)
        return 1.2533 * mad(ratios) / math.sqrt(len(ratios))


def compare(
    engines: Mapping[str, Engine],
    feed: Mapping[str, Array],
    *,
    rounds: tuple[int, int] = (5, 25),
    turn_ms: float = 15.0,
    tolerance: float = 0.02,
    rival: float | None = None,
    hurry: Callable[[], bool] = lambda: False,
) -> dict[str, Timing]:
    """Time engines against each other, for as many rounds as the noise of the machine demands.

    Args:
        engines: name -> engine; ratios are judged against the first.
        feed: one batch.
        rounds: the fewest and the most; each engine has one turn in each, in alternating order.
        turn_ms: the least time of a turn. Short turns share a disturbance among all engines.
        tolerance: enough rounds were made when every ratio's 95 % interval is within this share of it.
        rival: or when each such interval lies above this ratio: how much slower does not matter then. Far above it,
            the first three rounds do.
        hurry: whether the time is up; no further round begins then, after the first three.
    """
    times: dict[str, list[float]] = {name: [] for name in engines}
    once = {name: _estimate(engine, feed) for name, engine in engines.items()}
    fewest, most = rounds
    for number in range(most):
        order = list(engines) if number % 2 == 0 else list(engines)[::-1]
        for name in order:
            first, runs = _runs(once[name], turn_ms)
            samples = engines[name].time_ms(feed, first + runs)[first:]
            times[name].append(median(samples))
        if number + 1 >= fewest and (number + 1 == most or _settled(times, tolerance, rival)):
            break
        hopeless = rival is not None and _slower(times, _HOPELESS * rival)
        if number + 1 >= _FEWEST_ROUNDS and (hopeless or hurry()):
            break
    return {name: Timing(tuple(rounds_ms)) for name, rounds_ms in times.items()}


def _settled(times: Mapping[str, list[float]], tolerance: float, rival: float | None) -> bool:
    baseline, *others = times.values()
    for rounds_ms in others:
        ratio = ratio_of_medians(baseline, rounds_ms, resamples=200)
        if rival is not None and ratio.low > rival:
            continue
        if (ratio.high - ratio.low) / 2 > tolerance * ratio.estimate:
            return False
    return True


def _slower(times: Mapping[str, list[float]], ratio: float) -> bool:
    """Whether each engine was slower than `ratio` times the first one in every round."""
    baseline, *others = times.values()
    return all(ms > ratio * base for rounds_ms in others for ms, base in zip(rounds_ms, baseline, strict=True))


def _runs(once_ms: float, turn_ms: float) -> tuple[int, int]:
    """How many runs of a turn do not count, and how many do."""
    return (_FIRST_RUNS if once_ms < _LONG_MS else 1), int(np.clip(turn_ms / max(once_ms, 1e-3), 1, 100))


def turn_s(once_ms: float, turn_ms: float) -> float:
    """How long a turn takes of an engine whose run takes `once_ms`."""
    return 1e-3 * sum(_runs(once_ms, turn_ms)) * once_ms


def _estimate(engine: Engine, feed: Mapping[str, Array]) -> float:
    engine.time_ms(feed, 1)
    return min(engine.time_ms(feed, 2))
