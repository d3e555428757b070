"""The Python API: `search` does everything that `autoprec tune` does, which calls it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from autoprec.backends.make import checked_clock, make_backend, refuse_backend
from autoprec.backends.protocol import Backend
from autoprec.errors import AutoprecError
from autoprec.exporting.given import ModelLike
from autoprec.exporting.models import Example, model_file
from autoprec.exporting.plan_in_use import PlanInUse
from autoprec.exporting.signature import Signature
from autoprec.gate.evidence import write_evidence
from autoprec.gate.gather import evidence_of
from autoprec.graph.model import to_bytes
from autoprec.metrics.metric import Direction, MetricLike
from autoprec.metrics.offered import DecoderLike
from autoprec.plan import Plan
from autoprec.run.answer.plan_file import plan_of
from autoprec.run.answer.report import summary
from autoprec.run.answer.result import TuneResult
from autoprec.run.answer.written import lowered_by, write_answer
from autoprec.run.check_options import check_options
from autoprec.run.context import prepare_run
from autoprec.run.directory import RunDirectory
from autoprec.run.owner import claimed_run, refuse_foreign, run_folder
from autoprec.run.progress import Progress
from autoprec.run.settings import DataLike, Settings, drop_bound, objective_and_situation
from autoprec.run.task import Task, prepare_task
from autoprec.run.tune import tune
from autoprec.stats.drop import Drop
from autoprec.study.ledger.storages import open_storage, place_of
from autoprec.study.trial import Trial
from autoprec.workers.join import work as work


@dataclass(frozen=True, slots=True)
class SearchResult(PlanInUse):
    """The result of a search.

    Attributes:
        plan: the plan that is the answer: a precision for every unit, with reasons, fingerprints and evidence.
        trials: all plans that were measured.
        feasible: whether the bound is met; if not, `plan` is the best plan found and `reason` says why.
        reason: the sentence that says why this plan is the answer.
        summary: all figures: candidates on fresh samples, drops with intervals, latencies, seconds.
        directory: the path of the run directory.
        tuned: the records from which the rest was made.
        module_signature: how the module that was tuned is called, None where it was an ONNX file.
    """

    plan: Plan
    trials: tuple[Trial, ...]
    feasible: bool
    reason: str
    summary: dict[str, Any]
    directory: Path
    tuned: TuneResult
    module_signature: Signature | None = None

    def __str__(self) -> str:
        """A few lines: the answer with its intervals, whether it is certified, and its plan."""
        answer, task = self.tuned.answer, self.tuned.task
        ratio = answer.latency.ratio_to(self.tuned.unit.latency)
        drop = self.drop
        return (
            f"{task.settings.model}: {self.tuned.chosen}\n"
            f"latency: {ratio.estimate:.3f} of {self.tuned.goal.unit_text}'s ({ratio.low:.3f} to {ratio.high:.3f}), "
            f"{task.backend.clock.text}\n"
            f"drop of {task.metric.name}: {drop.estimate:+.4f} ({drop.low:+.4f} to {drop.high:+.4f}) on {drop.samples} "
            f"held-out samples; {self.summary['verdict']}\n"
            f"{self.plan}"
        )

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
        write_answer(target, self.plan, self.tuned, self.summary)
        with target.inventory.replacing(target.evidence.name, inputs=settings.inputs):
            write_evidence(evidence_of(self.tuned, target.model), self.plan, target.evidence)
        if self.module_signature is not None and target.root != self.directory:
            with target.inventory.replacing(target.signature.name, inputs=settings.inputs):
                self.module_signature.save(target.signature)
        return target.root

    def lowered_model(self) -> bytes:
        """Return the serialised model lowered by the plan."""
        return to_bytes(lowered_by(self.plan, self.tuned).ir)

    def plan_and_model(self) -> tuple[Path, Path]:
        """Return the file of the plan, which is written if it is not there yet, and that of the model before tuning."""
        self.save()
        return RunDirectory(self.directory).plan, Path(self.tuned.task.settings.model)


def search(
    model: ModelLike,
    *,
    example_inputs: Any = None,
    dynamic_shapes: Any = None,
    task: str | None = None,
    length: int = 128,
    calib: DataLike | None = None,
    eval: DataLike | None = None,
    metric: MetricLike | None = None,
    direction: Direction | None = None,
    decode: DecoderLike | None = None,
    labels: str | Path | None = None,
    max_drop: float | None = None,
    objective: Literal["latency", "throughput", "size"] | str | None = None,  # noqa: PYI051 - the usual ones
    situations: Sequence[str] = (),
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
    repairs: str = "none",
    storage: str | None = None,
    progress: Progress | None = None,
) -> SearchResult:
    """Find the fastest precision plan whose metric drops by at most `max_drop`, or the best one for `objective`.

    Args:
        model: a torch.nn.Module; the folder of a transformers model; the path of a float ONNX model, an
            onnx.ModelProto or an onnx_ir.Model; or "module:function", a function that returns one of these. A module is
            exported in evaluation mode by torch.onnx.export, and stays as it is.
        example_inputs: the arguments that a module is exported with: a tuple, a mapping by name, or the only one. By
            default they are taken from the first samples of tensors, or of a DataLoader, in `calib` or `eval`.
        dynamic_shapes: which axes of a module's tensors may have any length, as torch.export.export takes it. By
            default it is the first one of each, which is the samples; {} stands for none.
        task: what the model of a transformers folder is for, such as "text-classification"; by default what its
            configuration names.
        length: the most tokens of a sample that the tokenizer of such a folder makes of `calib` and `eval`.
        calib: the calibration data: a .npz file, a folder, "module:function", arrays or tensors by input name, a tensor
            for the only input, or an iterable such as a list or a DataLoader of batches or samples: mappings by name,
            or tuples of one tensor for each input and perhaps the labels last.
        eval: the evaluation data in the same forms, with labels under "labels". If only one of the two is given, it is
            split.
        metric: "top1", "agreement", "kl", "cosine", "sqnr", "module:function", or a function that takes outputs and
            labels and returns one score per sample; by default "top1" if there are labels, otherwise "agreement".
        direction: whether a "higher" or a "lower" score is better, for a function without `higher_is_better`.
        decode: what reads outputs for a built-in metric: the head of a detector such as "yolox", "ctc" or "tokens" for
            texts, "module:function", or a function of the outputs by name.
        labels: the true boxes of `eval`: a COCO file, or a folder of YOLO text files.
        max_drop: the largest drop of the metric against FP32, in the unit of the metric. The default is 0.01, or no
            bound if only the latency is bounded.
        objective: what is best within the bounds: the least "latency" of one batch, the highest "throughput" with
            several batches in flight, or the least "size" of the engine (of the lowered model if the runtime keeps no
            engine; of plans within half a percent, the faster one). The default is the latency or, if that is bounded,
            the accuracy. "latency:decode" names the situation that counts.
        situations: "decode:batch=1,length=1,past=128" and others to time plans in, see `autoprec.data.situations`.
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
        targets: the compute capabilities, such as "sm89", to build for ahead of time (tensorrt-rtx), by modelled time.
        sampler: what proposes plans: "guided", or for comparison Optuna's "tpe", "nsga2", "gp", "random" or "grid".
        repairs: exact changes of the model to try for better INT8: "none", "auto" for all, or "equalise,smooth".
        storage: where the study is kept for workers on other hosts: "postgresql://...", the URL of another database,
            "grpc://host:port", or a journal file; by default a file in the run directory.
        progress: the object that is informed of how far the run is.

    Returns:
        The result, which `autoprec.load` finds in the run directory; `save` adds what a baseline needs.

    Raises:
        AutoprecError: one of the errors of `autoprec.errors`; its message says what to do.
    """
    begun = time.monotonic()
    wanted, counted = objective_and_situation(objective)
    options = Settings(
        model="",
        calib=calib,
        evaluate=eval,
        metric=metric,
        direction=direction,
        decode=decode,
        labels=labels,
        max_drop=drop_bound(max_drop, wanted, max_latency is not None or max_latency_ms is not None),
        space=space,
        recipe=recipe,
        pins=tuple(pins),
        batch=batch,
        trials=trials,
        timeout_s=timeout_s,
        seed=seed,
        confidence=confidence,
        sampler=sampler,
        repairs=repairs,
        objective=wanted,
        situations=tuple(situations),
        counted=counted,
        max_latency=max_latency,
        max_latency_ms=max_latency_ms,
    )
    named = replace(options, model=model) if isinstance(model, (str, Path)) else options
    check_options(named, out)  # before a module is exported, which takes seconds
    if isinstance(backend, str):
        refuse_backend(backend, targets)
    chosen = make_backend(backend, threads, targets)
    example = Example(
        inputs=example_inputs, dynamic_shapes=dynamic_shapes, data=(calib, eval), task=task, length=length
    )
    with model_file(model, example, out) as file:
        prepared = prepare_task(file.of(options), chosen)
    result = run(prepared, file.folder or out, progress, elapsed_s=time.monotonic() - begun, storage=storage)
    result = replace(result, module_signature=file.signature)
    with suppress(AutoprecError):  # what was found must not be lost, and `save` says what is in the way
        write_answer(RunDirectory(result.directory), result.plan, result.tuned, result.summary)
    return result


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
