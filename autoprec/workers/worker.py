"""A worker: another process, here or elsewhere, that measures plans for the search of a run directory."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace

from autoprec.data.splits import dealt_as
from autoprec.metrics.contract import try_metric
from autoprec.ranges.table import RangeTable, load_ranges
from autoprec.run.begun_with import as_begun
from autoprec.run.compatible import check_machine, check_model, check_samples, check_search
from autoprec.run.context import judging_backend
from autoprec.run.directory import RunDirectory
from autoprec.run.engines import Engines, timing_feed
from autoprec.run.measure import PlanMeasurer, ahead_of
from autoprec.run.repairs_record import repairs_of, with_repairs
from autoprec.run.search_description import SearchDescription
from autoprec.run.stages.reference import build_like_the_run, open_reference
from autoprec.run.study_description import StudyDescription
from autoprec.run.task import Task
from autoprec.run.uniform import no_sensitivities, problem_of, seed_plans
from autoprec.sensitivity.table import Sensitivities, load_sensitivities
from autoprec.study.ledger.ask_tell import Ledger
from autoprec.study.ledger.samplers import make_sampler
from autoprec.study.ledger.storages import StudyLocation, journal_location, place_of
from autoprec.study.loop import SearchFollower
from autoprec.study.trial import Trial


@dataclass(frozen=True, slots=True)
class Worked:
    """What a worker did.

    Attributes:
        measured: the number of plans that it measured.
        stopped: why it ended, as a text.
    """

    measured: int
    stopped: str


class Worker:
    """Measures plans on this machine for a search that another process leads.

    It writes to the study, and may keep engines in the run directory.

    Args:
        directory: the run directory.
        studied: what the study is about.
        shared: what else the run left for its workers.
        task: the run's task, prepared on this machine.
        storage: where the study is for this process; None for where the run says.
        progress: called after each plan that this process measured.

    Raises:
        BackendError: this machine is of another kind than the run's.
        ModelError: the model is not the run's.
        DataError: the data is not the run's.
        MetricError: the metric has changed.
        RunDirectoryError: the run directory does not fit the search any more.
    """

    def __init__(
        self,
        directory: RunDirectory,
        studied: StudyDescription,
        shared: SearchDescription,
        task: Task,
        *,
        storage: str | None = None,
        progress: Callable[[Trial], None] = lambda trial: None,
    ) -> None:
        self.directory, self.studied, self.shared, self.progress = directory, studied, shared, progress
        where = storage or shared.storage
        self.location: StudyLocation = journal_location(directory.study) if where is None else place_of(where)
        shapes = {name: array.shape for name, array in timing_feed(task, task.splits.select).items()}
        backend = task.backend.for_run(shapes, directory.root)
        self._judging = judging_backend(task, shapes, directory)
        check_machine(studied.machine, backend.describe(), directory.root)
        check_model(studied, task.subject.model, directory.root)
        splits = dealt_as(task.splits, shared.halves)
        task = replace(task, backend=backend, splits=splits)
        self.task = as_begun(with_repairs(task, repairs_of(directory)), studied)
        self.ranges = load_ranges(directory.ranges)
        self.profile = _profile(directory, shared, self.ranges)
        check_samples(studied, self.task, self.ranges)
        check_search(studied, shared, self.task, self.ranges, self.profile)

    def run(self) -> Worked:
        """Measure until the search is over.

        Raises:
            BackendError: the runtime cannot run FP32, or refuses all of the first plans.
            StorageError: the study cannot be reached.
        """
        task, settings, goal = self.task, self.task.settings, self.studied.goal
        problem = problem_of(task.subject, self.profile)
        sampler = make_sampler(settings.sampler, problem, self.studied.shares, goal, settings.seed)
        sampler.reseed_rng()  # what is drawn by the same seed in two processes would be the same plans
        with self.directory.joined(), ExitStack() as stack:
            ledger = Ledger(self.location, self.studied.study, task.subject.choices, goal, sampler, join=True)
            build_like_the_run(task, settings.timeout_s)
            engines = Engines(task, task.backend, busy=goal.objective == "throughput", judging=self._judging)
            reference = open_reference(engines, task, goal.unit, self.ranges, stack)
            data, interface = task.splits.select, task.subject.model.interface
            metric = try_metric(reference.computing, data, interface, task.metric, settings.batch)
            task = replace(task, metric=metric)
            search = SearchFollower(
                seed_plans(task.subject, goal.unit),
                ledger,
                PlanMeasurer(task, engines, reference, self.ranges, goal),
                limit=settings.trials,
                progress=self.progress,
                ahead=ahead_of(engines, self.ranges),
            )
            measured, stop = search.follow()
            return Worked(measured, stop.text)


def _profile(directory: RunDirectory, shared: SearchDescription, ranges: RangeTable) -> Sensitivities:
    """The run's sensitivities; none where it had no time for them."""
    none = no_sensitivities(ranges)
    return none if shared.profile == none.fingerprint else load_sensitivities(directory.profile)
