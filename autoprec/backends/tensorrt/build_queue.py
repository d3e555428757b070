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
        wanted: whether somebody waits for it.
        process: the process that builds it, None before it begins.
        future: what came of it.
    """

    work: Work
    alone: bool
    wanted: bool = False
    process: ChildProcess | None = None
    future: Future[EngineFile] = field(default_factory=Future)


class BuildQueue:
    """Builds in several processes, each of which is kept over many builds, since to start one takes many seconds.

    A build that has to time most of its kernels runs alone: the kernels of another builder on the same GPU would
    disturb its clock, and what it finds is kept for later builds. Builds whose kernels are known take one CPU thread.

    Args:
        processes: the processes.
        warm_up: what a process does before its first build, where that is not waited for; None for nothing.
    """

    def __init__(
        self, processes: Sequence[ChildProcess], warm_up: Callable[[ChildProcess], object] | None = None
    ) -> None:
        self.processes, self._warm_up = tuple(processes), warm_up
        self._changed = threading.Condition()
        self._jobs: dict[str, _Job] = {}
        self._waiting: list[_Job] = []
        self._running: list[_Job] = []
        self._closed, self._begun = False, False

    def ahead(self, key: str, work: Work, *, alone: bool = False) -> None:
        """Begin a build that somebody will want, unless it is asked for already."""
        with self._changed:
            if key not in self._jobs and not self._closed:
                self._add(key, work, alone=alone)

    def build(self, key: str, work: Work) -> EngineFile:
        """Build now, or wait for the build that was begun ahead; raises what the build raises."""
        with self._changed:
            job = self._jobs.get(key) or self._add(key, work, alone=False)
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

    def _add(self, key: str, work: Work, *, alone: bool) -> _Job:
        job = self._jobs[key] = _Job(work=work, alone=alone)
        self._waiting.append(job)
        # The kernel ends a child with the thread that started it, so each process has a thread that stays.
        for process in () if self._begun else self.processes:
            threading.Thread(target=self._serve, args=(process, self._begun), daemon=True).start()
            self._begun = True
        self._changed.notify_all()
        return job

    def _serve(self, process: ChildProcess, warms_up: bool) -> None:
        if warms_up and self._warm_up is not None:  # the first one begins with the build that is waited for
            self._warm_up(process)
        while self._met(process):
            pass

    def _met(self, process: ChildProcess) -> bool:
        """Wait for a build and do it; False when there will be no more. Nothing of the build is held after that."""
        job = self._next(process)
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

    def _next(self, process: ChildProcess) -> _Job | None:
        """The next build for a process that is free; None when there will be no more."""
        with self._changed:
            while not self._closed:
                job = self._eligible()
                if job is not None:
                    self._waiting.remove(job)
                    self._running.append(job)
                    job.process = process
                    return job
                self._changed.wait()
            return None

    def _eligible(self) -> _Job | None:
        """What may begin now: nothing beside a build that runs alone, and that one only when all others have ended."""
        if any(job.alone for job in self._running):
            return None
        for job in sorted(self._waiting, key=lambda job: not job.wanted):  # the order of asking decides among equals
            if job.alone and self._running:
                return None
            return job
        return None


class SharedQueue:
    """A queue whose processes end with the last backend that shares it.

    Args:
        queue: the queue; its threads keep it alive, so that it cannot end by itself.
    """

    def __init__(self, queue: BuildQueue) -> None:
        self.queue = queue
        weakref.finalize(self, queue.close)
