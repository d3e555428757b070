"""Races between engines on a busy machine.

`autoprec.timing.compare` answers how long a user waits, including delays by other programs on the machine. A race
answers which engine is faster and by how much, whatever else the machine does. Other programs can only lengthen a run,
so the fastest run of a turn is the least disturbed one (Chen and Revels 2016, "Robust benchmarking in noisy
environments"). Engines take turns in alternating order, and each block of turns builds them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

import numpy as np

from autoprec.backends.protocol import Backend, Engine, RunsInProcess
from autoprec.precision import Array
from autoprec.timing.disturbance import usage

RACE_THREADS = 1
"""The number of threads of a run in a race.

A run on several cores waits for the slowest of them, which may be busy with another program. In a measurement with two
cores and three other busy processes, the ratio of a model's latency to itself was 0.4 to 2.9 with two threads and 0.99
to 1.01 with one.
"""
ROUNDS = 6
"""The number of turns of each engine in a block."""
_TURN_MS = 15.0  # the length of a turn that the number of its runs aims at
_WARM = 2  # the runs at the start of a turn that do not count
_RUNS = (3, 50)  # the fewest and the most runs of a turn that count


def race_block(
    backend: Backend, models: Mapping[str, bytes], feed: Mapping[str, Array], threads: int, number: int
) -> dict[str, tuple[float, ...]]:
    """Race the models for one block of turns.

    Args:
        backend: the backend that builds the engines. Each block builds them again, because two engines of the same
            model may differ by some percent, depending on where their memory lies.
        models: name -> serialised model.
        feed: the inputs of one batch by name.
        threads: the number of threads of a run, if the backend lets them be chosen.
        number: the number of the block; the order of the first turn alternates with it.

    Returns:
        Name -> the fastest run of each turn in milliseconds.
    """
    names = list(models) if number % 2 == 0 else list(models)[::-1]
    fastest: dict[str, list[float]] = {name: [] for name in names}
    with ExitStack() as stack:
        engines = {name: stack.enter_context(backend.build(models[name], threads=threads)) for name in names}
        once = max(min(engine.time_ms(feed, _WARM + 1)) for engine in engines.values())
        runs = int(np.clip(_TURN_MS / max(once, 1e-3), *_RUNS))
        for turn in range(ROUNDS):
            for name in names if turn % 2 == 0 else names[::-1]:
                fastest[name].append(_least_ms(engines[name], feed, runs))
    return {name: tuple(fastest[name]) for name in models}


def _least_ms(engine: Engine, feed: Mapping[str, Array], runs: int) -> float:
    """Return the fastest run of a turn, or the CPU time of a run where every run was interrupted."""
    if not isinstance(engine, RunsInProcess):
        return min(engine.time_ms(feed, _WARM + runs)[_WARM:])
    engine.time_ms(feed, _WARM)
    before = usage()
    fastest = min(engine.time_ms(feed, runs))
    return min(fastest, 1e3 * usage().since(before).cpu_s / runs)


def race_s(once_ms: float, threads: int) -> float:
    """Return about how many seconds a block takes without building the engines.

    Args:
        once_ms: how long one run of each of the models takes together, in milliseconds.
        threads: the number of threads that `once_ms` was measured with; the race itself uses `RACE_THREADS`.
    """
    runs = max(_TURN_MS, (_WARM + _RUNS[0]) * once_ms * threads / RACE_THREADS)
    return 1e-3 * ROUNDS * runs


def race(
    backend: Backend, models: Mapping[str, bytes], feed: Mapping[str, Array], blocks: int, threads: int = RACE_THREADS
) -> dict[str, tuple[float, ...]]:
    """Race the models for several blocks; the arguments are those of `race_block`.

    Returns:
        Name -> the fastest run of each turn in milliseconds, block after block.
    """
    rows = [race_block(backend, models, feed, threads, number) for number in range(blocks)]
    return {name: tuple(ms for row in rows for ms in row[name]) for name in models}
