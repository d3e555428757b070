"""Times what is enqueued on a stream, by CUDA events."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from autoprec.backends.tensorrt.cuda import Cuda, Handle
from autoprec.backends.tensorrt.cuda_errors import CudaError

IN_FLIGHT = 8
"""Runs that are enqueued before the first is waited for. trtexec has two, but Python is slower at enqueueing, and a
GPU that waits for it would be timed waiting. They share one stream, so they run one after the other."""


@dataclass(frozen=True, slots=True)
class Lap:
    """One timed run: milliseconds between CUDA events round each step, and of the host while it enqueued them."""

    steps_ms: tuple[float, ...]
    enqueue_ms: tuple[float, ...]


@dataclass(slots=True)
class _Slot:
    events: list[Handle]
    enqueue_ms: tuple[float, ...] = ()


class Stopwatch:
    """Times steps by CUDA events; a context manager that frees them.

    Args:
        cuda: CUDA.
        stream: the steps' stream.
        steps: each enqueues one step of a run.
    """

    def __init__(self, cuda: Cuda, stream: Handle, steps: Sequence[Callable[[], None]]) -> None:
        self._cuda, self._stream, self._steps = cuda, stream, tuple(steps)
        self._slots: list[_Slot] = []

    def run(self, goes_on: Callable[[int, float], bool]) -> tuple[list[Lap], float]:
        """Run while `goes_on(runs so far, seconds so far)`; the laps, and all seconds until the last was done."""
        laps: list[Lap] = []
        runs, start = 0, time.perf_counter()
        while goes_on(runs, time.perf_counter() - start):
            slot = self._slots[runs % IN_FLIGHT]
            if runs >= IN_FLIGHT:
                laps.append(self._read(slot))
            self._enqueue(slot)
            runs += 1
        laps += [self._read(self._slots[n % IN_FLIGHT]) for n in range(max(0, runs - IN_FLIGHT), runs)]
        return laps, time.perf_counter() - start

    def __enter__(self) -> Stopwatch:
        """Itself, with its events made."""
        try:
            for _ in range(IN_FLIGHT):
                self._slots.append(_Slot([]))
                for _ in range(len(self._steps) + 1):
                    self._slots[-1].events.append(self._cuda.create_event())
        except BaseException:
            self._free()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Free the events."""
        self._free()

    def _enqueue(self, slot: _Slot) -> None:
        times = []
        self._cuda.record(slot.events[0], self._stream)
        for step, event in zip(self._steps, slot.events[1:], strict=True):
            start = time.perf_counter()
            step()
            times.append(1e3 * (time.perf_counter() - start))
            self._cuda.record(event, self._stream)
        slot.enqueue_ms = tuple(times)

    def _read(self, slot: _Slot) -> Lap:
        self._cuda.wait(slot.events[-1])
        pairs = zip(slot.events, slot.events[1:], strict=False)
        return Lap(tuple(self._cuda.elapsed_ms(start, end) for start, end in pairs), slot.enqueue_ms)

    def _free(self) -> None:
        for slot in self._slots:
            for event in slot.events:
                with suppress(CudaError):
                    self._cuda.destroy_event(event)
        self._slots.clear()
