"""Two models raced against each other, until it is clear on which side of a bound the second one is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np

from autoprec.backends.protocol import Backend
from autoprec.precision import Array
from autoprec.stats.intervals import Interval
from autoprec.stats.significance import signed_ranks
from autoprec.timing.race import RACE_THREADS, race_block

BLOCKS = (3, 12)
"""The fewest and the most blocks of rounds."""
ALPHA = 1e-3
"""The significance level. Latency is tested block after block until it is decided, so a single test must raise a false
alarm more rarely than the one test of accuracy."""


class RaceVerdict(Enum):
    """What a race says of the second model: slower than allowed, not slower, or not to be told for noise."""

    SLOWER = "slower"
    FINE = "fine"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Arena:
    """Where models are raced.

    Attributes:
        backend: the runtime that builds them.
        feed: the inputs of one batch by name.
        threads: the number of CPU threads of each run, where the runtime lets them be chosen.
    """

    backend: Backend
    feed: Mapping[str, Array]
    threads: int = RACE_THREADS


@dataclass(frozen=True, slots=True)
class Paired:
    """Rounds of two engines, block by block; each round has the fastest run of one turn of each, in milliseconds."""

    base_ms: tuple[tuple[float, ...], ...]
    now_ms: tuple[tuple[float, ...], ...]

    @property
    def ratio(self) -> Interval:
        """The median over rounds of the second latency over the first, with a 95 % interval over blocks."""
        logs = [np.log(np.divide(now, base)) for now, base in zip(self.now_ms, self.base_ms, strict=True)]
        every = np.concatenate(logs)
        generator = np.random.default_rng(0)
        picks = generator.integers(0, len(logs), (1000, len(logs)))
        size = min(map(len, logs))
        inner = generator.integers(0, size, (1000, len(logs), size))
        table = np.stack([log[:size] for log in logs])
        means = np.median(table[picks[:, :, None], inner].reshape(1000, -1), axis=1)
        low, high = np.quantile(means, [0.025, 0.975])
        return Interval(float(np.exp(np.median(every))), float(np.exp(low)), float(np.exp(high)))

    @property
    def p(self) -> float:
        """The p-value of the signed-rank test over all rounds that the second model is slower."""
        return signed_ranks(np.log(np.divide(np.concatenate(self.now_ms), np.concatenate(self.base_ms))))


def race(arena: Arena, base: bytes, now: bytes, allowed: float) -> Paired:
    """Race two serialised models until the bound is decided, or for the most blocks.

    Args:
        arena: the place where they are raced.
        base: the model to compare with.
        now: the model that is judged.
        allowed: the share of the latency that it may be slower by.
    """
    paired = Paired((), ())
    while len(paired.now_ms) < BLOCKS[1]:
        times = race_block(arena.backend, {"base": base, "now": now}, arena.feed, arena.threads, len(paired.now_ms))
        paired = Paired((*paired.base_ms, times["base"]), (*paired.now_ms, times["now"]))
        if len(paired.now_ms) >= BLOCKS[0] and settled(paired, allowed):
            break
    return paired


def settled(paired: Paired, allowed: float) -> bool:
    """Whether more rounds would hardly change the verdict."""
    ratio, bound = paired.ratio, 1 + allowed
    return ratio.high < bound or (ratio.low > bound and paired.p < ALPHA)


def decide(paired: Paired, allowed: float) -> RaceVerdict:
    """Slower where that is certain and by more than is allowed; open where the noise hides the bound."""
    ratio, bound = paired.ratio, 1 + allowed
    if ratio.estimate > bound:
        certain = paired.p < ALPHA and ratio.low > 1 + allowed / 2
        return RaceVerdict.SLOWER if certain else RaceVerdict.OPEN
    return RaceVerdict.FINE if ratio.high < 1 + 2 * allowed else RaceVerdict.OPEN
