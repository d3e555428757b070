"""The Python API: `search` runs everything that `autoprec tune` does, and is what it calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from autoprec.backends.make import checked_clock, make_backend
from autoprec.backends.protocol import Backend
from autoprec.files.json import write_json
from autoprec.gate.evidence import write_evidence
from autoprec.gate.gather import evidence_of
from autoprec.graph.model import check_model, save_model
from autoprec.metrics.metric import Direction
from autoprec.plan import Plan
from autoprec.run.answer.plan_file import plan_of
from autoprec.run.answer.report import summary
from autoprec.run.answer.tuned import TuneResult
from autoprec.run.directory import RunDirectory, default_out
from autoprec.run.pipeline import Pipeline
from autoprec.run.progress import Progress
from autoprec.run.settings import DataLike, Settings, drop_bound
from autoprec.run.task import Task, prepare_task
from autoprec.stats.drop import Drop
from autoprec.study.ledger.storages import open_storage, place_of
from autoprec.study.trial import Trial
from autoprec.workers.worker import Worked, Worker, await_search


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchResult:
    """What a search found.

    Attributes:
        plan: a precision for every unit, with reasons, fingerprints and evidence.
        trials: every plan that was measured.
        feasible: whether the bound is met; if not, `plan` is the best plan found and `reason` says why.
        reason: why this plan is the answer.
        summary: all figures: candidates on fresh samples, drops with intervals, latencies, seconds.
        directory: the run directory.
        tuned: the records behind it.
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
        """How much the metric dropped on samples that chose nothing, with its interval."""
        return self.tuned.candidates[self.tuned.chosen].drop

    @property
    def certified(self) -> bool:
        """Whether all of that interval is within the bound; `summary["verdict"]` says what it would take."""
        return self.drop.certifies(self.tuned.task.settings.max_drop)

    def save(self, folder: str | Path | None = None) -> Path:
        """Write plan.json, result.json, evidence.json and the lowered model.onnx; returns the folder.

        Args:
            folder: where; by default the run directory.

        Raises:
            RunDirectoryError: the folder cannot be written.
        """
        target = RunDirectory(Path(folder) if folder is not None else self.directory)
        target.prepare()
        self.plan.save(target.plan)
        lowerer = self.tuned.task.subject.lowerer
        lowered = lowerer.lower(self.plan.precisions(), self.tuned.ranges)
        check_model(lowered.ir)
        save_model(lowered.ir, target.model)
        write_json(target.result, self.summary)
        write_evidence(evidence_of(self.tuned, target.model), self.plan, target.evidence)
        return target.root


def search(
    model: str | Path,
    *,
    calib: DataLike | None = None,
    eval: DataLike | None = None,
    metric: str | Callable[..., Any] | None = None,
    direction: Direction | None = None,
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
    """Find the fastest precision plan whose metric drops by at most `max_drop`, or what `objective` asks for instead.

    Args:
        model: path of a float ONNX model.
        calib: calibration data: a .npz, a folder, "module:function", or arrays by input name.
        eval: evaluation data, likewise; labels under "labels". One of the two is split where the other is missing.
        metric: "top1", "agreement", "kl", "cosine", "sqnr", "module:function" or a callable
            (outputs, labels) -> one score per sample; by default top1 with labels, else agreement.
        direction: "higher" or "lower" is better, for a function without the attribute `higher_is_better`.
        max_drop: the most that the metric may get worse than FP32's, in the metric's own unit: by default 0.01, and
            no bound where only the latency is bounded.
        objective: what is best within the bounds: the least "latency" of one batch, the highest "throughput" with
            several batches in flight, or the least "size" of the built engine (of the lowered model where the runtime
            keeps none; within half a percent the faster). By default the latency, or, where that is bounded, the
            accuracy.
        max_latency: the most latency, as a share of FP32's on this machine: finds the most accurate plan.
        max_latency_ms: the same in milliseconds for one batch.
        confidence: accept only plans whose interval of the drop lies within the bound, such as 0.95; by default
            plans are accepted by the estimate.
        space: a search space's name or TOML file.
        recipe: a calibration recipe's name or TOML file.
        backend: a runtime's name or an object of the Backend protocol.
        pins: "REGEX=PRECISION" for each unit whose precision is not to be searched.
        out: the run directory, by default autoprec-runs/<model's name>; an interrupted run goes on from it.
        seed: of data splits and samplers.
        trials: the most plans to measure.
        timeout_s: seconds for the whole run.
        batch: samples for each timed run.
        threads: of the CPU.
        targets: compute capabilities such as "sm89" that engines are built ahead of time for (tensorrt-rtx); their
            latency is modelled.
        sampler: what proposes plans: "guided" by models of latency and accuracy, or Optuna's "tpe", "nsga2", "gp",
            "random" or "grid", to compare with.
        storage: where the study is kept for workers on other hosts: "postgresql://...", another database's URL,
            "grpc://host:port", or a journal file; by default a file in the run directory.
        progress: told how far the run is.

    Returns:
        The result; nothing but the stages' files is written until `save` is called.

    Raises:
        AutoprecError: one of `autoprec.errors`, with what to do.
    """
    begun = time.monotonic()
    settings = Settings(
        model=model,
        calib=calib,
        evaluate=eval,
        metric=metric,
        direction=direction,
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
    backend: Backend | None = None,
    wait_s: float = 600.0,
    progress: Callable[[Trial], None] = lambda trial: None,
    say: Callable[[str], None] = lambda text: None,
) -> Worked:
    """Measure plans for the search of a run directory until it is over, as `autoprec worker` does.

    Args:
        run: the run directory.
        model: where the model is for this process, by default where the run found it.
        calib: likewise the calibration data.
        eval: likewise the evaluation data.
        storage: likewise the study; with its password, which the run directory does not keep.
        backend: an object of the Backend protocol where the run was given one.
        wait_s: for the search to begin.
        progress: called after each plan that this process measured.
        say: told what it waits for.

    Raises:
        AutoprecError: there is no search, or this machine, model or data is not of its kind.
    """
    directory = RunDirectory(Path(run))
    studied, shared = await_search(directory, wait_s, say)
    settings = shared.settings_with(model=model, calib=calib, evaluate=eval)
    task = prepare_task(settings, backend or make_backend(studied.backend, shared.threads, shared.targets))
    return Worker(directory, studied, shared, task, storage, progress).run()


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
        task: what was asked.
        out: the run directory.
        progress: told how far the run is.
        elapsed_s: what of its time was used to prepare the task.
        storage: where the study is kept.
        claimed: called when workers may be started, which wait for the search.
    """
    location = None if storage is None else place_of(storage)
    if location is not None:
        open_storage(location)  # before the first minute is spent
    checked_clock(task.backend)  # a GPU without figures is refused before a folder is made
    directory = RunDirectory(default_out(task.settings.model) if out is None else Path(out))
    with directory.claim():
        directory.search.unlink(missing_ok=True)  # workers wait until this run's search begins
        claimed()
        tuned = Pipeline(task, directory, progress, elapsed_s=elapsed_s, location=location).run()
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
