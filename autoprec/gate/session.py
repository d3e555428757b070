"""A gate at work: what was asked, everything loaded for it, and what it measures."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from autoprec.backends.make import make_backend
from autoprec.backends.protocol import Backend
from autoprec.backends.scheme import Scheme
from autoprec.data.annotations import BoxLabels
from autoprec.data.dataset import Dataset
from autoprec.data.feeds import batch_feed
from autoprec.data.images import picture_of
from autoprec.data.situations import parse_situations, situated_feed
from autoprec.errors import DataError, MetricError, RecipeError
from autoprec.files.functions import is_function_name
from autoprec.files.scratch import ScratchFolder
from autoprec.files.trust import Named, NamingFile
from autoprec.gate import accuracy, latency
from autoprec.gate.baseline import Baseline, load_baseline
from autoprec.gate.duel import Arena
from autoprec.gate.evidence import Evidence, Rounds, is_recipe_file
from autoprec.gate.gather import keys_of_ranges, lowered_record, machine_record, model_record, samples_fingerprint
from autoprec.gate.rebuild import Rebuilt, rebuild_plan
from autoprec.gate.runtime import Runtime, find_runtime
from autoprec.graph.interface import Interface
from autoprec.graph.model import to_bytes
from autoprec.graph.topology import Topology
from autoprec.metrics.metric import Direction, Metric, MetricLike, load_metric
from autoprec.metrics.offered import DecoderLike, Decoding
from autoprec.precision import Array
from autoprec.proof.inspect import verified
from autoprec.proof.verification import Verification
from autoprec.recipes.ranging import CalibrationRecipe, load_calibration_recipe
from autoprec.run.progress import Silent, StageProgress
from autoprec.run.settings import DataLike
from autoprec.run.split_data import box_labels
from autoprec.timing.race import RACE_THREADS


@dataclass(frozen=True, slots=True, kw_only=True)
class GateRequest:
    """What is asked of a gate; the options of `autoprec.gate.judge.gate`.

    Attributes:
        model: an ONNX file or a run directory.
        baseline: the path of the baseline.
        evaluate: the evaluation data, None for where the tune had it from.
        calib: the calibration data, likewise.
        metric: the metric, None for the one that the baseline names.
        decode: what reads outputs for the metric, likewise.
        labels: the true boxes of the evaluation data, likewise.
        recipe: the calibration recipe, likewise.
        trust: the files that may name functions and paths anywhere.
        backend: the runtime, None for the plan's own.
        threads: the number of CPU threads, None for the baseline's.
        work: the folder for engines, None for a temporary one.
        progress: who is told how far the gate is.
    """

    model: str | Path
    baseline: str | Path
    evaluate: DataLike | None = None
    calib: DataLike | None = None
    metric: MetricLike | None = None
    decode: DecoderLike | None = None
    labels: str | Path | None = None
    recipe: str | Path | None = None
    trust: tuple[str | Path, ...] = ()
    backend: str | Backend | None = None
    threads: int | None = None
    work: str | Path | None = None
    progress: StageProgress | None = None

    @property
    def naming(self) -> NamingFile:
        """The baseline as a file that names functions and paths."""
        return NamingFile(path=Path(self.baseline), near=(Path(self.model),), trusted=self.trust)

    @property
    def own_scheme(self) -> Scheme | None:
        """The scheme of a backend that was given as an object, which need not be one of autoprec's."""
        given = self.backend
        return None if given is None or isinstance(given, str) else make_backend(given).scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A gate at work.

    Attributes:
        request: the request that is answered.
        baseline: the committed baseline.
        rebuilt: its plan on the model that is judged.
        runtime: the runtime that it is measured with.
        metric: the baseline's metric.
        recipe: the calibration recipe of the tune.
        data: the baseline's samples, as far as the data has them.
        progress: who is told how far the gate is.
    """

    request: GateRequest
    baseline: Baseline
    rebuilt: Rebuilt
    runtime: Runtime
    metric: Metric
    recipe: CalibrationRecipe
    data: Dataset
    progress: StageProgress

    @property
    def batch(self) -> int:
        """The number of samples in each run."""
        return int(self.baseline.evidence.machine["batch"])

    def arena(self, threads: int = RACE_THREADS) -> Arena:
        """Where latencies are raced: one batch of the data in the runtime."""
        feed = timed_feed(self.rebuilt.model.interface, self.data, self.baseline.evidence.machine)
        return Arena(self.runtime.backend, feed, threads)


def open_session(request: GateRequest, stack: ExitStack) -> Session:
    """Load and check everything that a gate needs.

    Args:
        request: the request to answer.
        stack: removes the temporary folder in the end.

    Raises:
        AutoprecError: something is missing, or does not fit the baseline.
    """
    baseline = load_baseline(request.baseline)
    committed = baseline.evidence
    rebuilt = rebuild_plan(request.model, baseline, request.own_scheme, request.trust)
    threads = request.threads or committed.machine["threads"]
    runtime = find_runtime(rebuilt.plan, request.backend, threads, _targets(committed.machine))
    _metric(request, committed, None)  # what cannot be imported is told before data is read
    recipe = load_calibration_recipe(_recipe(request, committed))
    source = request.evaluate if request.evaluate is not None else recorded_source(request, committed)
    data = accuracy.find_samples(source, rebuilt, recipe, committed.samples, _labels(request, committed))
    metric = _metric(request, committed, picture_of(data))
    work = request.work
    if work is None:
        work = stack.enter_context(ScratchFolder())
    feed = timed_feed(rebuilt.model.interface, data, committed.machine)
    shapes = {name: array.shape for name, array in feed.items()}
    return Session(
        request=request,
        baseline=baseline,
        rebuilt=rebuilt,
        runtime=replace(runtime, backend=runtime.backend.for_run(shapes, Path(work))),
        metric=metric,
        recipe=recipe,
        data=data,
        progress=request.progress or Silent(),
    )


def timed_feed(interface: Interface, data: Dataset, machine: Mapping[str, Any]) -> dict[str, Array]:
    """Return the inputs of one timed run, in the situation whose time counted in the tune where there was one."""
    batch = int(machine["batch"])
    if machine.get("situation") is None:
        return batch_feed(interface, data, batch)
    (situation,) = parse_situations([str(machine["situation"])])
    return situated_feed(interface, data, situation, batch)


def _targets(machine: Mapping[str, Any]) -> tuple[str, ...]:
    """The GPUs that engines were built for ahead of time; none where they ran on the machine that tuned."""
    # A baseline has no field for targets: a runtime that builds ahead of time lists them as its hardware.
    return () if machine["runs_here"] else tuple(str(machine["describe"].get("hardware", "")).split(","))


def _metric(request: GateRequest, committed: Evidence, picture: tuple[int, int] | None) -> Metric:
    """The metric of the baseline, which is imported only where the user named it or trusts the baseline."""
    name = str(committed.metric["name"])
    direction: Direction = "higher" if committed.metric["higher_is_better"] else "lower"
    if request.metric is None:
        if is_function_name(name):
            request.naming.refuse_function(Named(what="metric", text=name, option="--metric"), MetricError)
        return load_metric(name, direction, _decoding(request, committed, picture))
    metric = load_metric(request.metric, direction, _decoding(request, committed, picture))
    if metric.name != name and metric.fingerprint != committed.metric["fingerprint"]:
        raise MetricError(
            f"the metric must be the baseline's, which is {name}, got {metric.name}: scores of two metrics cannot be "
            f"compared; give {name}, or make a new baseline"
        )
    return metric


def _decoding(request: GateRequest, committed: Evidence, picture: tuple[int, int] | None) -> Decoding:
    """How outputs are read: as the user says, else as the baseline does, whose functions must be trusted."""
    decoder = committed.metric.get("decode") if request.decode is None else request.decode
    if request.decode is None and decoder is not None and is_function_name(str(decoder)):
        request.naming.refuse_function(Named(what="decoder", text=str(decoder), option="--decode"), MetricError)
    return Decoding(decoder=decoder, picture=picture)


def _labels(request: GateRequest, committed: Evidence) -> BoxLabels | None:
    """Where the true boxes are: as the user says, else as the baseline does."""
    path, named = request.labels, committed.data.get("labels")
    if path is None and named is not None:
        path = request.naming.source(Named(what="true boxes", text=str(named), option="--labels"), DataError)
    return box_labels(path, committed.metric.get("decode") if request.decode is None else request.decode)


def _recipe(request: GateRequest, committed: Evidence) -> str | Path:
    name = str(committed.data["recipe"])
    if request.recipe is not None:
        return request.recipe
    named = Named(what="calibration recipe", text=name, option="--recipe")
    return request.naming.source(named, RecipeError) if is_recipe_file(name) else name


def recorded_source(request: GateRequest, committed: Evidence) -> DataLike:
    """Where the tune had the report samples from.

    Raises:
        DataError: it was given arrays, the data is not there, or the baseline is not trusted enough to go there.
    """
    which = "eval" if committed.data.get("eval") else "calib"
    source = committed.data.get(which)
    if source is None:
        raise DataError(
            "the baseline does not say where its evaluation data is, since the tune was given arrays; give --eval"
        )
    return request.naming.source(Named(what="evaluation data", text=str(source), option="--eval"), DataError)


def measure(session: Session, *, exact: bool) -> accuracy.Measured:
    """Score FP32 and the plan on the baseline's samples.

    Args:
        session: the gate.
        exact: score exact arithmetic too, as a baseline needs it.
    """
    session.progress.stage("accuracy", f"FP32 and the plan on {session.data.count} samples")
    return accuracy.measure(
        session.data,
        session.rebuilt,
        session.runtime,
        session.metric,
        batch=session.batch,
        digests=session.baseline.evidence.samples.digests,
        exact=exact,
    )


def verification_of(session: Session) -> Verification:
    """What the runtime made of each unit."""
    rebuilt = session.rebuilt
    backend, freely = session.runtime.backend, rebuilt.plan.left_to_builder
    return verified(rebuilt.lowerer, rebuilt.precisions, backend, rebuilt.lowered, freely=freely)


def rounds_now(session: Session) -> Rounds:
    """Return the rounds of FP32 and the plan, interleaved."""
    session.progress.stage("latency", "FP32 and the plan, interleaved")
    original, lowered = to_bytes(session.rebuilt.model.original), session.rebuilt.lowered
    return latency.measure_rounds(session.arena(), original, lowered)


def evidence_now(
    session: Session, measured: accuracy.Measured, verification: Verification | None, rounds: Rounds
) -> Evidence:
    """What this session measured, in the form of a baseline."""
    committed, rebuilt = session.baseline.evidence, session.rebuilt
    return replace(
        committed,
        model=model_record(rebuilt.model, session.baseline.path.parent),
        lowered=lowered_record(rebuilt.lowered, committed.lowered["path"]),
        data={**committed.data, "report": samples_fingerprint(session.data)},
        machine=machine_record(session.runtime.backend, session.batch),
        metric={**committed.metric, "fingerprint": session.metric.fingerprint},
        samples=measured.samples,
        rounds=rounds,
        verification=committed.verification if verification is None else verification.to_record(),
        values=keys_of_ranges(Topology(rebuilt.model.graph), rebuilt.ranges),
        found={**committed.found, "complaint": None if verification is None else verification.complaint()},
    )
