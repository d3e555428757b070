"""The Python API: `search` does everything that `autoprec tune` does, which calls it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from autoprec.backends.make import checked_clock, make_backend
from autoprec.backends.protocol import Backend
from autoprec.files.json import write_json
from autoprec.files.trust import trusted_files
from autoprec.gate.evidence import write_evidence
from autoprec.gate.gather import evidence_of
from autoprec.graph.model import check_model, save_model
from autoprec.metrics.metric import Direction, MetricLike
from autoprec.metrics.offered import DecoderLike
from autoprec.plan import Plan
from autoprec.run.answer.plan_file import plan_of
from autoprec.run.answer.report import summary
from autoprec.run.answer.result import TuneResult
from autoprec.run.context import prepare_run
from autoprec.run.directory import RunDirectory
from autoprec.run.owner import claimed_run, refuse_foreign, run_folder
from autoprec.run.progress import Progress
from autoprec.run.settings import DataLike, Settings, drop_bound
from autoprec.run.task import Task, prepare_task
from autoprec.run.trusted import trusted_search
from autoprec.run.tune import tune
from autoprec.stats.drop import Drop
from autoprec.study.ledger.storages import open_storage, place_of
from autoprec.study.trial import Trial
from autoprec.workers.worker import Worked, Worker, await_search


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The result of a search.

    Attributes:
        plan: the plan that is the answer: a precision for every unit, with reasons, fingerprints and evidence.
        trials: all plans that were measured.
        feasible: whether the bound is met; if not, `plan` is the best plan found and `reason` says why.
        reason: the sentence that says why this plan is the answer.
        summary: all figures: candidates on fresh samples, drops with intervals, latencies, seconds.
        directory: the path of the run directory.
        tuned: the records from which the rest was made.
    """

    plan: Plan
    trials: tuple[Trial, ...]
    feasible: bool
    reason: str
    summary: dict[str, Any]
    directory: Path
    tuned: TuneResult

    @property
    def drop(self) -> Drop:
        """The drop of the metric, with its interval, on samples that had no part in the choice."""
        return self.tuned.candidates[self.tuned.chosen].drop

    @property
    def certified(self) -> bool:
        """Whether the whole interval is within the bound; `summary["verdict"]` says how many samples it would take."""
        return self.drop.certifies(self.tuned.task.settings.max_drop)

    def save(self, folder: str | Path | None = None) -> Path:
        """Write plan.json, result.json, evidence.json and the lowered model.onnx, and return the folder.

        Args:
            folder: the folder to write to, by default the run directory.

        Raises:
            RunDirectoryError: the folder cannot be written to, belongs to another model, or has a file of one of these
                names that autoprec did not write there.
            UsageError: one of these files is the model or data of the search.
        """
        target = RunDirectory(Path(folder) if folder is not None else self.directory)
        subject, settings = self.tuned.task.subject, self.tuned.task.settings
        refuse_foreign(target, subject.model, settings)
        target.prepare()
        lowered = subject.lowerer.lower(self.plan.precisions(), self.tuned.ranges)
        check_model(lowered.ir)
        with target.inventory.replacing(*target.answer_files, inputs=settings.inputs):
            self.plan.save(target.plan)
            save_model(lowered.ir, target.model)
            write_json(target.result, self.summary)
            write_evidence(evidence_of(self.tuned, target.model), self.plan, target.evidence)
        return target.root


def search(
    model: str | Path,
    *,
    calib: DataLike | None = None,
    eval: DataLike | None = None,
    metric: MetricLike | None = None,
    direction: Direction | None = None,
    decode: DecoderLike | None = None,
    max_drop: float | None = None,
    objective: Literal["latency", "throughput", "size"] | None = None,
    max_latency: float | None = None,
    max_latency_ms: float | None = None,
    confidence: float | None = None,
    space: str | Path | None = None,
    recipe: str | Path = "default",
    backend: str | Backend = "ort-cpu",
    pins: Sequence[str] = (),
    out: str | Path | None = None,
    seed: int = 0,
    trials: int = 40,
    timeout_s: float | None = None,
    batch: int = 16,
    threads: int | None = None,
    targets: Sequence[str] = (),
    sampler: str = "guided",
    storage: str | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Find the fastest precision plan whose metric drops by at most `max_drop`, or the best one for `objective`.

    Args:
        model: the path of a float ONNX model.
        calib: the calibration data: a .npz file, a folder, "module:function", arrays by input name, or a list of
            such arrays, one for each sample or batch.
        eval: the evaluation data in the same forms, with labels under "labels". If only one of the two is given, it is
            split.
        metric: "top1", "agreement", "kl", "cosine", "sqnr", "module:function", or a function that takes outputs and
            labels and returns one score per sample; by default "top1" if there are labels, otherwise "agreement".
        direction: whether a "higher" or a "lower" score is better, for a function without the attribute
            `higher_is_better`.
        decode: what reads outputs for a built-in metric: the head of a detector such as "yolox", "ctc" or "tokens" for
            texts, "module:function", or a function of the outputs by name.
        max_drop: the largest drop of the metric against FP32, in the unit of the metric. The default is 0.01, or no
            bound if only the latency is bounded.
        objective: what is best within the bounds: the least "latency" of one batch, the highest "throughput" with
            several batches in flight, or the least "size" of the engine (of the lowered model if the runtime keeps no
            engine; of plans within half a percent, the faster one). The default is the latency or, if that is bounded,
            the accuracy.
        max_latency: the largest latency as a share of FP32's on this machine; the most accurate plan is then found.
        max_latency_ms: the largest latency in milliseconds for one batch, with the same effect.
        confidence: a probability such as 0.95: only plans are accepted whose interval of the drop at that confidence
            lies within the bound. By default plans are accepted by the estimate.
        space: the name of a search space, or its TOML file.
        recipe: the name of a calibration recipe, or its TOML file.
        backend: the name of a runtime, or an object of the Backend protocol.
        pins: "REGEX=PRECISION" for each group of units whose precision is fixed.
        out: the run directory, by default autoprec-runs/<name of the model>, with a suffix where another model of that
            name has it; an interrupted run continues from it.
        seed: the seed of data splits and samplers.
        trials: the largest number of plans to measure.
        timeout_s: the most seconds that the whole run may take.
        batch: the number of samples of a timed run.
        threads: the number of CPU threads.
        targets: the compute capabilities, such as "sm89", that engines are built for ahead of time (tensorrt-rtx);
            their latency is modelled.
        sampler: what proposes plans: "guided" by models of latency and accuracy, or for comparison Optuna's "tpe",
            "nsga2", "gp", "random" or "grid".
        storage: where the study is kept for workers on other hosts: "postgresql://...", the URL of another database,
            "grpc://host:port", or a journal file; by default a file in the run directory.
        progress: the object that is informed of how far the run is.

    Returns:
        The result. Only the files of the stages are written until `save` is called.

    Raises:
        AutoprecError: one of the errors of `autoprec.errors`; its message says what to do.
    """
    begun = time.monotonic()
    settings = Settings(
        model=model,
        calib=calib,
        evaluate=eval,
        metric=metric,
        direction=direction,
        decode=decode,
        max_drop=drop_bound(max_drop, objective, max_latency is not None or max_latency_ms is not None),
        space=space,
        recipe=recipe,
        pins=tuple(pins),
        batch=batch,
        trials=trials,
        timeout_s=timeout_s,
        seed=seed,
        confidence=confidence,
        sampler=sampler,
        objective=objective,
        max_latency=max_latency,
        max_latency_ms=max_latency_ms,
    )
    task = prepare_task(settings, make_backend(backend, threads, targets))
    return run(task, out, progress, elapsed_s=time.monotonic() - begun, storage=storage)


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
    wait_s: float = 600.0,
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
        wait_s: the most seconds to wait for the search to begin.
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
    task = prepare_task(settings, make_backend(backend or studied.backend, shared.threads, shared.targets))
    return Worker(directory, studied, shared, task, storage=storage, progress=progress).run()


def check_storage(storage: str | None) -> None:
    """Open the place where a study is to be kept, if there is one, so that a wrong URL is told before data is read.

    Raises:
        StorageError: it cannot be reached.
        UsageError: the text names no place.
    """
    if storage is not None:
        open_storage(place_of(storage))


def run(
    task: Task,
    out: str | Path | None,
    progress: Progress | None = None,
    *,
    elapsed_s: float = 0.0,
    storage: str | None = None,
    claimed: Callable[[], None] = lambda: None,
) -> SearchResult:
    """Run a prepared task.

    Args:
        task: the task, loaded and checked.
        out: the path of the run directory.
        progress: the object that is informed of how far the run is.
        elapsed_s: the seconds of the run's time that were used to prepare the task.
        storage: where the study is kept.
        claimed: the function to call when workers may be started; they wait for the search.
    """
    location = None if storage is None else place_of(storage)
    if location is not None:
        open_storage(location)  # a wrong URL should be found now, not after minutes of calibration
    checked_clock(task.backend)  # a GPU of which no figures are known is refused before a folder is made
    directory = RunDirectory(run_folder(out, task.subject.model))
    with claimed_run(directory, task.subject.model, task.settings):
        directory.search.unlink(missing_ok=True)  # workers wait until this run's search begins
        claimed()
        tuned = tune(prepare_run(task, directory, progress, elapsed_s=elapsed_s, location=location))
    record = summary(tuned)
    return SearchResult(
        plan=plan_of(tuned),
        trials=tuned.found.trials,
        feasible=tuned.found.feasible,
        reason=record["reason"],
        summary=record,
        directory=directory.root,
        tuned=tuned,
    )
