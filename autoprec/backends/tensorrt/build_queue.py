"""Builds in several processes at once: what is waited for first, then what was asked for ahead."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from autoprec.backends.child_process import ChildProcess
from autoprec.backends.tensorrt.records import EngineFile

Work = Callable[[ChildProcess], EngineFile]
"""Builds one engine in a process that is free."""


@dataclass(kw_only=True, eq=False)
class _Job:
    """One build.

    Attributes:
        work: builds it.
        alone: whether no other build may run beside it.
        beside: whether it may run beside any other, also one that runs alone.
        wanted: whether somebody waits for it.
        process: the process that builds it, None before it begins.
        place: the GPU of that process.
        future: what came of it.
    """

    work: Work
    alone: bool = False
    beside: bool = False
    wanted: bool = False
    process: ChildProcess | None = None
    place: str = ""
    future: Future[EngineFile] = field(default_factory=Future)


class BuildQueue:
    """Builds in several processes, each of which is kept over many builds, since to start one takes many seconds.

    A build that has to time most of its kernels runs alone: the kernels of another builder on the same GPU would
    disturb its clock, and what it finds is kept for later builds. Builds whose kernels are known take one CPU thread.
    A build that takes as long as all others together goes on beside any of them.

    Args:
        processes: the processes.
        warm_up: what a process does before its first build, where that is not waited for; None for nothing.
        places: the GPU of each process; by default they share one. A build is alone on one GPU.
    """

    def __init__(
        self,
        processes: Sequence[ChildProcess],
        warm_up: Callable[[ChildProcess], object] | None = None,
        places: Sequence[str] | None = None,
    ) -> None:
        self.processes, self._warm_up = tuple(processes), warm_up
        self._places = tuple(places or ("",) * len(self.processes))
        self._changed = threading.Condition()
        self._jobs: dict[str, _Job] = {}
        self._waiting: list[_Job] = []
        self._running: list[_Job] = []
        self._closed, self._begun = False, False

    def begin(self) -> None:
        """Start all processes, before there is anything to build."""
        with self._changed:
            self._start(waited_for=0)

    def ahead(self, key: str, work: Work, *, alone: bool = False, beside: bool = False) -> None:
        """Begin a build that somebody will want, unless it is asked for already."""
        with self._changed:
            if key not in self._jobs and not self._closed:
                self._add(key, _Job(work=work, alone=alone, beside=beside))

    def build(self, key: str, work: Work) -> EngineFile:
        """Build now, or wait for the build that was begun ahead; raises what the build raises."""
        with self._changed:
            job = self._jobs.get(key) or self._add(key, _Job(work=work))
            job.wanted = True
            self._changed.notify_all()
        try:
            return job.future.result()
        finally:
            with self._changed:
                if self._jobs.get(key) is job:
                    del self._jobs[key]

    def forget_ahead(self, *, cancel: bool) -> None:
        """Give up what nobody waits for: what has not begun is left out; by choice what runs ends with its process."""
        with self._changed:
            self._waiting = [job for job in self._waiting if job.wanted]
            self._jobs = {key: job for key, job in self._jobs.items() if job.wanted}
            unwanted = [job.process for job in self._running if cancel and not job.wanted]
        for process in filter(None, unwanted):
            process.cancel()

    def close(self) -> None:
        """End all processes and the threads that wait for them."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
        for process in self.processes:
            process.cancel()

    def _add(self, key: str, job: _Job) -> _Job:
        self._jobs[key] = job
        self._waiting.append(job)
        self._start(waited_for=1)
        self._changed.notify_all()
        return job

    def _start(self, *, waited_for: int) -> None:
        """Start the processes, of which the first ones begin with what is waited for, and not with a warm-up."""
        # The kernel ends a child with the thread that started it, so each process has a thread that stays.
        for number, process in enumerate(() if self._begun else self.processes):
            place = self._places[number]
            threading.Thread(target=self._serve, args=(process, place, number >= waited_for), daemon=True).start()
        self._begun = True

    def _serve(self, process: ChildProcess, place: str, warms_up: bool) -> None:
        if warms_up and self._warm_up is not None:
            self._warm_up(process)
        while self._met(process, place):
            pass

    def _met(self, process: ChildProcess, place: str) -> bool:
        """Wait for a build and do it; False when there will be no more. Nothing of the build is held after that."""
        job = self._next(process, place)
        if job is None:
            return False
        try:
            job.future.set_result(job.work(process))
        except BaseException as error:  # whoever waits for it is told
            job.future.set_exception(error)
        with self._changed:
            self._running.remove(job)
            self._changed.notify_all()
        return True

    def _next(self, process: ChildProcess, place: str) -> _Job | None:
        """The next build for a process that is free; None when there will be no more."""
        with self._changed:
            while not self._closed:
                job = self._eligible(place)
                if job is not None:
                    self._waiting.remove(job)
                    self._running.append(job)
                    job.process, job.place = process, place
                    return job
                self._changed.wait()
            return None

    def _eligible(self, place: str) -> _Job | None:
        """What may begin there: nothing beside a build that runs alone, and that one only when all others ended."""
        running = [job for job in self._running if not job.beside and job.place == place]
        closed = any(job.alone for job in running)
        for job in sorted(self._waiting, key=lambda job: not job.wanted):  # the order of asking decides among equals
            if job.beside or not (closed or (job.alone and running)):
                return job
            closed = True  # what comes after one that must be alone would keep it waiting
        return None


class SharedQueue:
    """A queue whose processes end with the last backend that shares it.

    Args:
        queue: the queue; its threads keep it alive, so that it cannot end by itself.
    """

    def __init__(self, queue: BuildQueue) -> None:
        self.queue = queue
        weakref.finalize(self, queue.close)
