"""Comparison of engines by their latency, in interleaved rounds.

The clock rate of a machine changes within minutes. In interleaved rounds such a change affects all engines alike, so
it cancels in their ratio. Where other programs take the CPU from the engines, turns are taken again. Where that does
not help, the least disturbed run of each turn and the CPU time replace the median, and the interval is wider.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from autoprec.backends.protocol import Engine, RunsInProcess
from autoprec.precision import Array
from autoprec.stats.intervals import Interval, mad, median, ratio_of_medians
from autoprec.timing.disturbance import DISTURBED_SHARE, Usage, stolen_s, usage

# The first runs of a turn are too slow: threads have to wake up, and the caches hold another engine's data. Two runs
# are left out, but only one where a run is long, since it contains the warm-up and a second one would cost too much.
_FIRST_RUNS, _LONG_MS = 2, 20.0
BUSY_FACTOR = 1.25
"""How far from the truth a ratio may lie that was measured on a busy machine, even in runs that nothing interrupted.

Programs on the other CPUs share caches, memory and often the very core. With 20 busy processes on two cores, the ratio
of two chains of convolutions was 1.73 in the fastest of 300 runs of each, and 1.52 on the quiet machine; see
tests/benchmarks/busy_clock.py.
"""
_NORMAL_95 = 1.96  # half of a 95 % interval in standard errors, for normal noise
_FEWEST_ROUNDS = 3  # the number of rounds that are made however little time is left
_LONG_S, _TOO_LONG_S = 30.0, 120.0
"""After so many seconds half of the rounds are enough if ratios are known well: long runs average what disturbs them.

After the second number they are enough in any case. The intervals then show what is not known.
"""
_HOPELESS = 1.1  # an engine that is slower than this many times the rival in each of the fewest rounds is given up
_RETAKEN = 2  # how often a disturbed turn is taken again
_HOPEFUL = 3  # after so many turns that stayed disturbed, the machine is busy, and no turn is taken again


@dataclass(frozen=True, slots=True)
class Timing:
    """The latencies of one engine in one comparison.

    Attributes:
        rounds_ms: the median latency of each round in milliseconds for one batch.
        least_ms: the fastest run of each round, or the CPU time of a run where that was shorter; empty where the engine
            does not run on the CPUs of this process.
        cpu_ms: the milliseconds of all CPUs together for one batch, round by round; empty as above.
        disturbed: whether other programs took the CPU from the engine, so that its time on the clock says little.
    """

    rounds_ms: tuple[float, ...]
    least_ms: tuple[float, ...] = ()
    cpu_ms: tuple[float, ...] = ()
    disturbed: bool = False

    @property
    def median_ms(self) -> float:
        """The median over the rounds, in milliseconds."""
        return median(self.rounds_ms)

    def ratio_to(self, baseline: Timing, confidence: float = 0.95) -> Interval:
        """Return the latency divided by that of `baseline`, which was measured in the same rounds.

        Where the machine was busy, what others used is left out as far as that is possible, and the interval is wider
        by `BUSY_FACTOR` at both ends.
        """
        if self is baseline or not (self.disturbed or baseline.disturbed) or not (self.least_ms and baseline.least_ms):
            return ratio_of_medians(baseline.rounds_ms, self.rounds_ms, confidence)
        least = ratio_of_medians(baseline.least_ms, self.least_ms, confidence)
        cpu = ratio_of_medians(baseline.cpu_ms, self.cpu_ms, confidence)
        low, high = min(least.low, cpu.low) / BUSY_FACTOR, max(least.high, cpu.high) * BUSY_FACTOR
        return Interval(least.estimate, low, high)

    def error_to(self, baseline: Timing) -> float:
        """Return the standard error of the ratio to `baseline`, from the spread of the ratios of the rounds."""
        if self is not baseline and (self.disturbed or baseline.disturbed):
            ratio = self.ratio_to(baseline)
            return (ratio.high - ratio.low) / (2 * _NORMAL_95)
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
    meter: Callable[[], Usage] = usage,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Timing]:
    """Time engines against each other, in as many rounds as the noise of the machine demands.

    The rounds end when the ratio of each engine to the first one is known well enough. In each round every engine has
    one turn; the order is reversed from round to round. Where rounds take many seconds, half of the
    smallest number may be enough.

    Args:
        engines: name -> engine; the first one is the baseline of the ratios.
        feed: the inputs of one batch by name.
        rounds: the smallest and the largest number of rounds.
        turn_ms: the least duration of a turn. With short turns, a disturbance of the machine hits all engines.
        tolerance: a ratio is known well enough if half of its 95 % interval is at most this share of the ratio.
        rival: a ratio is also known well enough if its whole interval lies above this one, since such an engine loses
            anyway. Three rounds are enough if in each of them the ratio was above 1.1 times this one. None: no limit.
        out_of_time: returns whether the time is up; then no further round begins after the first three.
        meter: returns what this process has used until now.
        clock: returns the seconds since some moment.

    Returns:
        Name -> the latencies of that engine.
    """
    rows: dict[str, list[_Turn]] = {name: [] for name in engines}
    once = {name: _estimate(engine, feed) for name, engine in engines.items()}
    (fewest, most), stolen, began, lasting = rounds, stolen_s(), meter(), 0
    start_s = clock()
    for number in range(most):
        order = list(engines) if number % 2 == 0 else list(engines)[::-1]
        for name in order:
            turn = _turn(engines[name], feed, *_runs(once[name], turn_ms), again=lasting < _HOPEFUL, meter=meter)
            lasting += turn.disturbed
            rows[name].append(turn)
        lasted_s = clock() - start_s
        enough = fewest if lasted_s < _LONG_S else max((fewest + 1) // 2, _FEWEST_ROUNDS)
        known = lasted_s > _TOO_LONG_S or _settled(rows, tolerance, rival)
        if number + 1 == most or (number + 1 >= enough and known):
            break
        hopeless = rival is not None and _slower(rows, _HOPELESS * rival)
        if number + 1 >= _FEWEST_ROUNDS and (hopeless or out_of_time()):
            break
    stolen_share = (stolen_s() - stolen) / (meter().since(began).wall_s * (os.cpu_count() or 1))
    return {name: _timing(turns, stolen_share) for name, turns in rows.items()}


@dataclass(frozen=True, slots=True)
class _Turn:
    """One turn of an engine: the fields are those of `Timing` for one round, and 0 where they are not known."""

    ms: float
    least_ms: float = 0.0
    cpu_ms: float = 0.0
    disturbed: bool = False


def _turn(
    engine: Engine, feed: Mapping[str, Array], first: int, runs: int, *, again: bool, meter: Callable[[], Usage]
) -> _Turn:
    """Run an engine `runs` times after `first` runs that do not count; a disturbed turn is taken again."""
    if not isinstance(engine, RunsInProcess):
        return _Turn(median(engine.time_ms(feed, first + runs)[first:]))
    taken: list[tuple[float, _Turn]] = []
    for _ in range(1 + _RETAKEN * again):
        engine.time_ms(feed, first)
        before = meter()
        times = engine.time_ms(feed, runs)
        used = meter().since(before)
        cpu_ms = 1e3 * used.cpu_s / runs
        taken.append((used.waited_s or 0.0, _Turn(median(times), min(*times, cpu_ms), cpu_ms, used.disturbed)))
        if not used.disturbed:
            break
    return min(taken, key=lambda pair: pair[0])[1]


def _timing(turns: list[_Turn], stolen_share: float) -> Timing:
    """The turns of one engine as its timing; more than a quarter of them disturbed makes the whole so."""
    disturbed = sum(turn.disturbed for turn in turns) > len(turns) / 4 or stolen_share > DISTURBED_SHARE
    known = all(turn.cpu_ms > 0 for turn in turns)
    least_ms, cpu_ms = (
        (tuple(turn.least_ms for turn in turns), tuple(turn.cpu_ms for turn in turns)) if known else ((), ())
    )
    return Timing(tuple(turn.ms for turn in turns), least_ms, cpu_ms, disturbed)


def _settled(rows: Mapping[str, list[_Turn]], tolerance: float, rival: float | None) -> bool:
    """Return whether each ratio is known to within the tolerance, or lies above the rival's."""
    baseline, *others = ([turn.ms for turn in turns] for turns in rows.values())
    for rounds_ms in others:
        ratio = ratio_of_medians(baseline, rounds_ms, resamples=200)  # this runs each round, so it must be quick
        if rival is not None and ratio.low > rival:
            continue
        if (ratio.high - ratio.low) / 2 > tolerance * ratio.estimate:
            return False
    return True


def _slower(rows: Mapping[str, list[_Turn]], ratio: float) -> bool:
    """Return whether each engine was slower than `ratio` times the first one in every round, none of them disturbed."""
    if any(turn.disturbed for turns in rows.values() for turn in turns):
        return False
    baseline, *others = rows.values()
    return all(turn.ms > ratio * base.ms for turns in others for turn, base in zip(turns, baseline, strict=True))


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
