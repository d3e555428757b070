"""Builds in several processes: their order, what runs beside what, and what is given up."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from autoprec.backends.tensorrt.build_queue import BuildQueue

_LONG_S = 20.0
"""A test that waits this long has failed: nothing here takes time."""


class Process:
    """A process that builds nothing, and remembers that it was cancelled."""

    def __init__(self) -> None:
        self.cancelled = threading.Event()

    def cancel(self) -> None:
        self.cancelled.set()


class Build:
    """A build that goes on until it is let go, or until its process is cancelled."""

    def __init__(self, name: str, begun: list[str]) -> None:
        self.name, self._begun = name, begun
        self.running, self.free = threading.Event(), threading.Event()

    def __call__(self, process: Any) -> Any:
        self._begun.append(self.name)
        self.running.set()
        while not self.free.wait(0.01):
            if process.cancelled.is_set():
                raise RuntimeError(f"{self.name} was cancelled")
        return self.name


@pytest.fixture(name="queue")
def _queue(request: pytest.FixtureRequest) -> Any:
    queue = BuildQueue([Process() for _ in range(2)])  # type: ignore[misc]
    yield queue
    queue.close()


@pytest.fixture(name="make")
def _make() -> Callable[[str], Build]:
    begun: list[str] = []
    return lambda name: Build(name, begun)


def test_a_build_that_was_begun_ahead_is_waited_for_and_not_done_twice(queue: BuildQueue, make: Any) -> None:
    first, again = make("a"), make("again")
    queue.ahead("a", first)
    queue.ahead("a", again)
    assert first.running.wait(_LONG_S)
    first.free.set()

    assert queue.build("a", again) == "a"
    again.free.set()
    assert queue.build("a", again) == "again", "what was handed over is forgotten: the caller keeps engines"


def test_a_build_that_runs_alone_begins_after_the_others_and_no_other_begins_beside_it(
    queue: BuildQueue, make: Any
) -> None:
    beside, alone, later = make("beside"), make("alone"), make("later")
    queue.ahead("beside", beside)
    assert beside.running.wait(_LONG_S)
    queue.ahead("alone", alone, alone=True)
    queue.ahead("later", later)

    assert not alone.running.wait(0.05)
    assert not later.running.is_set(), "it would keep the one that must be alone waiting"
    beside.free.set()
    assert alone.running.wait(_LONG_S)
    assert not later.running.wait(0.05)
    alone.free.set()
    assert later.running.wait(_LONG_S)


def test_what_goes_on_beside_any_build_neither_waits_for_one_that_runs_alone_nor_keeps_it_waiting(
    queue: BuildQueue, make: Any
) -> None:
    long, alone, later = make("long"), make("alone"), make("later")
    queue.ahead("long", long, beside=True)
    queue.ahead("alone", alone, alone=True)
    queue.ahead("later", later)

    assert long.running.wait(_LONG_S)
    assert alone.running.wait(_LONG_S)
    alone.free.set()
    assert later.running.wait(_LONG_S), "the long one still runs"


def test_a_build_is_alone_on_one_gpu_and_others_go_on_on_the_next(make: Any) -> None:
    queue = BuildQueue([Process() for _ in range(2)], places=["0", "1"])  # type: ignore[misc]
    first, second, third = make("first"), make("second"), make("third")
    for build in (first, second):
        queue.ahead(build.name, build, alone=True)
    queue.ahead("third", third)

    assert first.running.wait(_LONG_S)
    assert second.running.wait(_LONG_S)
    assert not third.running.is_set()
    first.free.set()
    assert third.running.wait(_LONG_S), "on the GPU that is free"
    queue.close()


def test_all_processes_are_warmed_up_where_nothing_is_waited_for_yet() -> None:
    warm: list[Any] = []
    both = threading.Semaphore(0)

    def warm_up(process: Any) -> None:
        warm.append(process)
        both.release()

    queue = BuildQueue([Process() for _ in range(2)], warm_up)  # type: ignore[misc]
    queue.begin()

    assert all(both.acquire(timeout=_LONG_S) for _ in range(2))
    assert {id(process) for process in warm} == {id(process) for process in queue.processes}
    queue.close()


def test_what_fails_is_raised_where_it_is_waited_for(queue: BuildQueue) -> None:
    def refused(process: Any) -> Any:
        raise ValueError("no kernel")

    queue.ahead("a", refused)

    with pytest.raises(ValueError, match="no kernel"):
        queue.build("a", refused)


@pytest.mark.parametrize("cancel", [True, False])
def test_what_nobody_waits_for_is_given_up_and_cancelled_only_by_choice(
    queue: BuildQueue, make: Any, cancel: bool
) -> None:
    running = [make("a"), make("b")]
    for build in running:
        queue.ahead(build.name, build)
    waiting = make("c")
    queue.ahead("c", waiting)
    assert all(build.running.wait(_LONG_S) for build in running)
    queue.forget_ahead(cancel=cancel)

    assert [process.cancelled.is_set() for process in queue.processes] == [cancel, cancel]  # type: ignore[attr-defined]
    for build in running:
        build.free.set()
    assert not waiting.running.wait(0.05)
