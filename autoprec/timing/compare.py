"""Comparison of engines by their latency, in interleaved rounds.

The clock rate of a machine changes within minutes. In interleaved rounds such a change affects all engines alike, so
it cancels in their ratio.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from autoprec.backends.protocol import Engine
from autoprec.precision import Array
from autoprec.stats.intervals import Interval, mad, median, ratio_of_medians

# The first runs of a turn are too slow: threads have to wake up, and the caches hold another engine's data. Two runs
# are left out, but only one where a run is long, since it contains the warm-up and a second one would cost too much.
_FIRST_RUNS, _LONG_MS = 2, 20.0
_FEWEST_ROUNDS = 3  # the number of rounds that are made however little time is left
_HOPELESS = 1.1  # an engine that is slower than this many times the rival in each of the fewest rounds is given up


@dataclass(frozen=True, slots=True)
class Timing:
    """The latencies of one engine in one comparison.

    Attributes:
        rounds_ms: the median latency of each round in milliseconds for one batch.
    """

    rounds_ms: tuple[float, ...]

    @property
    def median_ms(self) -> float:
        """The median over the rounds, in milliseconds."""
        return median(self.rounds_ms)

    def ratio_to(self, baseline: Timing, confidence: float = 0.95) -> Interval:
        """Return the latency divided by that of `baseline`, which was measured in the same rounds."""
        return ratio_of_medians(baseline.rounds_ms, self.rounds_ms, confidence)

    def error_to(self, baseline: Timing) -> float:
        """Return the standard error of the ratio to `baseline`, from the spread of the ratios of the rounds."""
        ratios = np.divide(self.rounds_ms, baseline.rounds_ms)
        # sqrt(pi / 2) = 1.2533: for normal noise the standard error of a median is so many times that of a mean.
        return 1.2533 * mad(ratios) / math.sqrt(len(ratios))


def compare(
    engines: Mapping[str, Engine],
    feed: Mapping[str, Array],
    *,
    rounds: tuple[int, int] = (5, 25),
    turn_ms: float = 15.0,
    tolerance: float = 0.02,
    rival: float | None = None,
    out_of_time: Callable[[], bool] = lambda: False,
) -> dict[str, Timing]:
    """Time engines against each other, in as many rounds as the noise of the machine demands.

    The rounds end when the ratio of each engine to the first one is known well enough. In each round every engine has
    one turn; the order is reversed from round to round.

    Args:
        engines: name -> engine; the first one is the baseline of the ratios.
        feed: the inputs of one batch by name.
        rounds: the smallest and the largest number of rounds.
        turn_ms: the least duration of a turn. With short turns, a disturbance of the machine hits all engines.
        tolerance: a ratio is known well enough if half of its 95 % interval is at most this share of the ratio.
        rival: a ratio is also known well enough if its whole interval lies above this one, since such an engine loses
            anyway. Three rounds are enough if in each of them the ratio was above 1.1 times this one. None: no limit.
        out_of_time: returns whether the time is up; then no further round begins after the first three.

    Returns:
        Name -> the latencies of that engine.
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
        if number + 1 >= _FEWEST_ROUNDS and (hopeless or out_of_time()):
            break
    return {name: Timing(tuple(rounds_ms)) for name, rounds_ms in times.items()}


def _settled(times: Mapping[str, list[float]], tolerance: float, rival: float | None) -> bool:
    """Return whether each ratio is known to within the tolerance, or lies above the rival's."""
    baseline, *others = times.values()
    for rounds_ms in others:
        ratio = ratio_of_medians(baseline, rounds_ms, resamples=200)  # this runs each round, so it must be quick
        if rival is not None and ratio.low > rival:
            continue
        if (ratio.high - ratio.low) / 2 > tolerance * ratio.estimate:
            return False
    return True


def _slower(times: Mapping[str, list[float]], ratio: float) -> bool:
    """Return whether each engine was slower than `ratio` times the first one in every round."""
    baseline, *others = times.values()
    return all(ms > ratio * base for rounds_ms in others for ms, base in zip(rounds_ms, baseline, strict=True))


def _runs(once_ms: float, turn_ms: float) -> tuple[int, int]:
    """Return how many runs of a turn do not count, and how many do."""
    return (_FIRST_RUNS if once_ms < _LONG_MS else 1), int(np.clip(turn_ms / max(once_ms, 1e-3), 1, 100))


def turn_s(once_ms: float, turn_ms: float) -> float:
    """Return how many seconds a turn takes for an engine whose run takes `once_ms` milliseconds."""
    return 1e-3 * sum(_runs(once_ms, turn_ms)) * once_ms


def _estimate(engine: Engine, feed: Mapping[str, Array]) -> float:
    """Return about how many milliseconds one run takes; the very first run allocates memory and does not count."""
    engine.time_ms(feed, 1)
    return min(engine.time_ms(feed, 2))
