"""Comparing engines by the clock: interleaved rounds, so that drift of the machine hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from autoprec.backends.protocol import Engine
from autoprec.precision import Array
from autoprec.stats import Interval, median, ratio_of_medians

_FIRST_RUNS = 2  # allocation, page faults and sleeping threads spoil the first runs of a turn


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

    def ratio_to(self, baseline: Timing) -> Interval:
        """Latency against `baseline`, measured in the same rounds, with a 95 % interval."""
        return ratio_of_medians(baseline.rounds_ms, self.rounds_ms)


def compare(
    engines: Mapping[str, Engine],
    feed: Mapping[str, Array],
    *,
    rounds: int = 7,
    turn_ms: float = 40.0,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Timing]:
    """Time engines against each other.

    Args:
        engines: name -> engine.
        feed: one batch.
        rounds: each engine has one turn in each, in alternating order.
        turn_ms: the least time of a turn; at least 3 runs are made.
        progress: called after each turn.
    """
    times: dict[str, list[float]] = {name: [] for name in engines}
    once = {name: _estimate(engine, feed) for name, engine in engines.items()}
    for number in range(rounds):
        order = list(engines) if number % 2 == 0 else list(reversed(engines))
        for name in order:
            runs = int(np.clip(turn_ms / max(once[name], 1e-3), 3, 200))
            samples = engines[name].time_ms(feed, _FIRST_RUNS + runs)[_FIRST_RUNS:]
            times[name].append(median(samples))
            progress()
    return {name: Timing(tuple(rounds_ms)) for name, rounds_ms in times.items()}


def _estimate(engine: Engine, feed: Mapping[str, Array]) -> float:
    engine.time_ms(feed, 1)
    return min(engine.time_ms(feed, 2))


class Deadline:
    """How much of a time budget is left."""

    def __init__(self, seconds: float | None) -> None:
        self._start = time.monotonic()
        self._seconds = seconds

    @property
    def elapsed_s(self) -> float:
        """Seconds since the budget began."""
        return time.monotonic() - self._start

    @property
    def left_s(self) -> float:
        """Seconds left; infinite without a limit."""
        return float("inf") if self._seconds is None else self._seconds - self.elapsed_s

    def spent(self, share: float = 1.0) -> bool:
        """Whether `share` of the budget is used up."""
        return self._seconds is not None and self.elapsed_s >= share * self._seconds
