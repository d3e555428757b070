"""Joining the search of a run, as `autoprec worker` does; users import it from `autoprec.api`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from autoprec.backends.make import make_backend
from autoprec.backends.protocol import Backend
from autoprec.files.trust import trusted_files
from autoprec.metrics.metric import MetricLike
from autoprec.run.begun_with import as_begun
from autoprec.run.directory import RunDirectory
from autoprec.run.settings import DataLike
from autoprec.run.task import prepare_task
from autoprec.run.trusted import trusted_search
from autoprec.study.trial import Trial
from autoprec.workers.await_search import await_search
from autoprec.workers.worker import Worked, Worker


def work(
    run: str | Path,
    *,
    model: str | Path | None = None,
    calib: DataLike | None = None,
    eval: DataLike | None = None,
    storage: str | None = None,
    metric: MetricLike | None = None,
    trust: str | Path | Sequence[str | Path] = (),
    backend: Backend | None = None,
    ready: Backend | None = None,
    wait_s: float | None = None,
    progress: Callable[[Trial], None] = lambda trial: None,
    say: Callable[[str], None] = lambda text: None,
) -> Worked:
    """Measure plans for the search of a run directory until it is over, as `autoprec worker` does.

    Args:
        run: the path of the run directory.
        model: the path of the model for this process, by default the one that the run has.
        calib: the calibration data for this process, by default that of the run.
        eval: the evaluation data for this process, by default that of the run.
        storage: the URL of the study with its password, which the run directory does not keep.
        metric: the metric, which must be given where it is a function and the run is not trusted.
        trust: the run directory, or its search.json, if that may name functions, paths and the study's database.
        backend: an object of the Backend protocol, if the run was given one.
        ready: a backend that was made while the run was not that far, which is used if it is of the kind of the run's.
        wait_s: the most seconds to wait for the search to begin; by default 600 where the folder is there, else 0.
        progress: the function to call after each plan that this process measured.
        say: the function that is told what the process waits for.

    Raises:
        AutoprecError: there is no search, or this machine, model or data does not fit it.
    """
    directory = RunDirectory(Path(run))
    studied, shared = await_search(directory, wait_s, say)
    given = {"model": model, "calib": calib, "evaluate": eval, "metric": metric}
    trusted = trusted_search(directory.search, shared, {**given, "storage": storage}, trusted_files(trust))
    settings = trusted.settings_with(**given)
    if backend is None and ready is not None and not shared.targets:
        same = (ready.name, ready.threads) == (studied.backend, shared.threads)
        backend = ready if same else None
    runtime = make_backend(backend or studied.backend, shared.threads, shared.targets)
    task = as_begun(prepare_task(settings, runtime), studied)
    return Worker(directory, studied, shared, task, storage=storage, progress=progress).run()
