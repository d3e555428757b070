"""Racing engines on a busy machine: turns in alternating order, the fastest run of each turn, fresh engines each block.

`autoprec.timing.compare` answers how long a user waits, other work on the machine included. A race answers which
engine is faster and by how much, whatever else the machine does: that can only lengthen a run, so the fastest run of a
turn is the least disturbed (Chen and Revels 2016, "Robust benchmarking in noisy environments").
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np

from autoprec.backends.protocol import Backend
from autoprec.precision import Array

RACE_THREADS = 1
"""A run on several cores waits for whichever is taken: with two threads on two cores, three other processes working,
the same model came out at 0.4 to 2.9 of its own latency, with one thread at 0.99 to 1.01."""
ROUNDS = 6
"""Turns of each engine in a block."""
_TURN_MS, _WARM, _RUNS = 15.0, 2, (3, 50)


def race_block(
    backend: Backend, models: Mapping[str, bytes], feed: Mapping[str, Array], threads: int, number: int
) -> dict[str, tuple[float, ...]]:
    """One block of rounds: the fastest run of each turn, milliseconds.

    Args:
        backend: builds the engines, anew for each block, since one engine of a model may be some percent slower than
            the next, by where its memory lies.
        models: name -> serialised model.
        feed: one batch.
        threads: of each run, where the backend lets them be chosen.
        number: of the block, which decides who begins.
    """
    names = list(models) if number % 2 == 0 else list(models)[::-1]
    found: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        engines = {name: stack.enter_context(backend.build(models[name], threads=threads)) for name in names}
        once = max(min(engine.time_ms(feed, _WARM + 1)) for engine in engines.values())
        runs = int(np.clip(_TURN_MS / max(once, 1e-3), *_RUNS))
        for turn in range(ROUNDS):
            for name in names if turn % 2 == 0 else names[::-1]:
                found[name].append(min(engines[name].time_ms(feed, _WARM + runs)[_WARM:]))
    return {name: tuple(found[name]) for name in models}


def race_s(once_ms: float, threads: int) -> float:
    """About how long a block takes, without building, of models that together run `once_ms` on so many threads."""
    runs = max(_TURN_MS, (_WARM + _RUNS[0]) * once_ms * threads / RACE_THREADS)
    return 1e-3 * ROUNDS * runs


def race(
    backend: Backend, models: Mapping[str, bytes], feed: Mapping[str, Array], blocks: int, threads: int = RACE_THREADS
) -> dict[str, tuple[float, ...]]:
    """The fastest run of each turn over `blocks` blocks, milliseconds; arguments as for `race_block`."""
    rows = [race_block(backend, models, feed, threads, number) for number in range(blocks)]
    return {name: tuple(ms for row in rows for ms in row[name]) for name in models}
