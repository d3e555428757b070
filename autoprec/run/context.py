"""The context of one run: what every stage needs, made without measuring anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from autoprec.backends.protocol import Backend
from autoprec.data.feeds import batch_feed
from autoprec.errors import RunDirectoryError
from autoprec.run.begun_with import as_begun
from autoprec.run.budget import Budget, Deadline
from autoprec.run.directory import RunDirectory
from autoprec.run.engines import Engines, timing_feed
from autoprec.run.progress import Progress, Silent, with_passes
from autoprec.run.spent import Spent
from autoprec.run.study_description import read_study_description
from autoprec.run.task import Task
from autoprec.study.ledger.storages import StudyLocation, journal_location


class StageClock:
    """Measures how long each stage takes, and says to the user that it begins.

    Args:
        progress: the object that is told of each stage.
        elapsed_s: the seconds that were used before now, to start up and to read the data.
    """

    def __init__(self, progress: Progress, elapsed_s: float = 0.0) -> None:
        self._progress = progress
        self._began = time.monotonic() - elapsed_s
        self._current: str | None = "start"
        self._seconds = {"start": elapsed_s}

    @property
    def seconds(self) -> dict[str, float]:
        """The seconds of each stage that has ended, in the order in which they began."""
        return dict(self._seconds)

    def begin(self, name: str, detail: str) -> None:
        """End the current stage and begin another."""
        self._stop()
        self._current = name
        self._seconds[name] = 0.0
        self._progress.stage(name, detail)

    def end(self) -> None:
        """End the last stage."""
        self._stop()
        self._progress.stage("", "")

    def _stop(self) -> None:
        now = time.monotonic()
        if self._current is not None:
            self._seconds[self._current] = now - self._began
        self._current, self._began = None, now


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeUse:
    """What a run did with its time.

    Attributes:
        seconds: stage -> the seconds that it took.
        spent: what the plans of the search cost in this run, and what was left out of them.
        left_out: one phrase for each thing that there was no time for.
        left_s: the seconds that are left of the limit for gathering evidence; infinite without a limit.
    """

    seconds: Mapping[str, float]
    spent: Spent
    left_out: tuple[str, ...]
    left_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything that the stages of one run share. To make one measures nothing.

    Attributes:
        task: the model, the data, the metric, the settings, and the backend of this run.
        directory: the folder of the run's files.
        engines: builds the plans of the task.
        budget: the time of the run and what was left out for lack of it.
        progress: is told how far the run is.
        clock: the seconds of each stage.
        location: where the study is kept.
        economy: whether the search may leave out what it need not know of a plan.
        halves: how the evaluation samples were dealt to the two halves, as `autoprec.data.splits.halves` writes it;
            empty before they are dealt.
    """

    task: Task
    directory: RunDirectory
    engines: Engines
    budget: Budget
    progress: Progress
    clock: StageClock
    location: StudyLocation
    economy: bool = True
    halves: str = ""

    @property
    def backend(self) -> Backend:
        """The runtime of this run."""
        return self.task.backend

    @property
    def journal(self) -> StudyLocation:
        """The study's journal in the run directory, which holds the whole study when the run has ended."""
        return journal_location(self.directory.study)

    def time_use(self, spent: Spent) -> TimeUse:
        """What the run has done with its time until now, the search's plans having cost `spent`."""
        return TimeUse(
            seconds=self.clock.seconds,
            spent=replace(spent),  # The measurer goes on counting, the record must not.
            left_out=tuple(self.budget.left_out),
            left_s=self.budget.ending_s,
        )


def prepare_run(
    task: Task,
    directory: RunDirectory,
    progress: Progress | None = None,
    *,
    elapsed_s: float = 0.0,
    economy: bool = True,
    location: StudyLocation | None = None,
    clock: Callable[[], float] | None = None,
) -> Run:
    """Make the context of a run; nothing is built or measured.

    Args:
        task: what the user asked for.
        directory: where the files go; its folder exists.
        progress: is told how far the run is; by default nobody is.
        elapsed_s: the seconds of the run's time that were used before now.
        economy: whether the search may leave out what it need not know of a plan.
        location: where the study is kept; by default in the directory's journal.
        clock: gives the seconds that the time limit is measured by; by default this machine's.
    """
    with suppress(RunDirectoryError):  # there is no run to go on with; whoever needs one says so
        task = as_begun(task, read_study_description(directory.studied))
    shapes = {name: array.shape for name, array in timing_feed(task, task.splits.select).items()}
    judging = judging_backend(task, shapes, directory)
    task = replace(task, backend=task.backend.for_run(shapes, directory.root))
    progress = with_passes(progress or Silent())
    return Run(
        task=task,
        directory=directory,
        engines=Engines(task, task.backend, busy=task.settings.aim == "throughput", judging=judging),
        budget=Budget(deadline=Deadline(task.settings.timeout_s, elapsed_s, clock), threads=task.backend.threads),
        progress=progress,
        clock=StageClock(progress, elapsed_s),
        location=location or journal_location(directory.study),
        economy=economy,
    )


def judging_backend(task: Task, timed: Mapping[str, tuple[int, ...]], directory: RunDirectory) -> Backend | None:
    """The backend for the shapes of the data, where engines are built for others: those of a situation."""
    data = batch_feed(task.subject.model.interface, task.splits.select, task.settings.batch)
    shapes = {name: array.shape for name, array in data.items()}
    backend = task.backend
    if shapes == timed or not (backend.keeps_engines and backend.runs_here):
        return None
    return backend.for_run(shapes, directory.root)
