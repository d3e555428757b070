"""Entry points of the gate: judge a model against a committed baseline, and write baselines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from autoprec.backends.protocol import Backend
from autoprec.errors import BackendError
from autoprec.files.trust import trusted_files
from autoprec.gate import accuracy, latency, shipped
from autoprec.gate.baseline import write_baseline
from autoprec.gate.evidence import read_evidence, seen_from
from autoprec.gate.gather import machine_record
from autoprec.gate.limits import Limits
from autoprec.gate.range_check import judge_ranges
from autoprec.gate.session import (
    GateRequest,
    Session,
    evidence_now,
    measure,
    open_session,
    rounds_now,
    verification_of,
)
from autoprec.gate.verdict import Check, GateReport, Status
from autoprec.graph.model import to_bytes
from autoprec.graph.written import written
from autoprec.metrics.metric import MetricLike
from autoprec.metrics.offered import DecoderLike
from autoprec.plan import load_plan
from autoprec.proof.verification import Verification
from autoprec.run.directory import RunDirectory
from autoprec.run.progress import StageProgress
from autoprec.run.refusals import refuse_no_plan
from autoprec.run.settings import DataLike
from autoprec.timing.race import RACE_THREADS

__all__ = ["Limits", "gate", "record_baseline", "update_baseline"]


def gate(
    model: str | Path,
    baseline: str | Path,
    *,
    eval: DataLike | None = None,
    calib: DataLike | None = None,
    metric: MetricLike | None = None,
    decode: DecoderLike | None = None,
    labels: str | Path | None = None,
    recipe: str | Path | None = None,
    trust: str | Path | Sequence[str | Path] = (),
    limits: Limits | None = None,
    backend: str | Backend | None = None,
    threads: int | None = None,
    work: str | Path | None = None,
    progress: StageProgress | None = None,
    baseline_model: str | Path | None = None,
) -> GateReport:
    """Judge a model against a committed baseline.

    The committed plan is rebuilt on the model and measured: the accuracy on the baseline's samples, the latency side by
    side with the baseline's own model if that is available, the size, the precision of each unit, and the ranges.

    Args:
        model: the path of an ONNX file, or of a run directory, whose own plan and model are then judged.
        baseline: the path of the file that `record_baseline` wrote.
        eval: the evaluation data with the baseline's samples, by default the data that the tune used.
        calib: the calibration data that shows whether ranges drifted, by default the data that the tune used.
        metric: the metric of the baseline, which must be given where it is a function and the baseline is not trusted.
        decode: what reads outputs for the metric, likewise.
        labels: the true boxes of `eval`, by default those of the tune.
        recipe: the calibration recipe, by default that of the tune.
        trust: the files that may name functions to import and paths anywhere, such as the baseline; by default none.
        limits: the limits within which the model is fine.
        backend: the runtime, by default the one that the plan is for; "ort-cpu" judges everything but the latency
            without a GPU.
        threads: the number of CPU threads, by default that of the baseline. Latency is raced on one thread unless this
            is given, since several threads wait for each other on a busy machine.
        work: the folder for engines, by default a temporary one.
        progress: the object that is informed of how far the gate is.
        baseline_model: the path of the baseline's lowered model, if it is not where the baseline recorded it.

    Returns:
        The checks; its `exit_code` is the exit status of the command line.

    Raises:
        NoBaselineError: there is no baseline; the exit code is 3.
        AutoprecError: one of the errors of `autoprec.errors`; its message says what to do, the exit code is 2.
    """
    began, bounds = time.monotonic(), limits or Limits()
    request = GateRequest(
        model=model,
        baseline=baseline,
        evaluate=eval,
        calib=calib,
        metric=metric,
        decode=decode,
        labels=labels,
        recipe=recipe,
        trust=trusted_files(trust),
        backend=backend,
        threads=threads,
        work=work,
        progress=progress,
    )
    with ExitStack() as stack:
        session = open_session(request, stack)
        checks, changes = _judge(session, bounds, None if baseline_model is None else Path(baseline_model))
    return GateReport(
        model=str(model), baseline=str(baseline), checks=checks, changes=changes, seconds=time.monotonic() - began
    )


def _judge(session: Session, bounds: Limits, baseline_model: Path | None) -> tuple[tuple[Check, ...], tuple[str, ...]]:
    """Return all checks, and what has changed since the baseline."""
    committed = session.baseline.evidence
    allowed = accuracy.default_bound(committed) if bounds.max_drop is None else bounds.max_drop
    measured = measure(session, exact=False)
    absent = session.runtime.absent is not None
    verification = None if absent else verification_of(session)
    checks = (
        accuracy.judge_accuracy(committed, measured, allowed, absent=absent),
        _precision(session, verification),
        _latency(session, bounds, baseline_model),
        shipped.judge_size(committed.lowered["bytes"], written(session.rebuilt.lowered)[0], bounds),
        judge_ranges(session, bounds),
    )
    now = evidence_now(session, measured, verification, committed.rounds)
    return checks, (*session.rebuilt.notes, *shipped.changes(committed, now))


def record_baseline(run: str | Path, path: str | Path) -> Path:
    """Write the baseline of a run directory to `path`; nothing is measured again.

    Raises:
        RunDirectoryError: `run` is not a run directory, an older autoprec made it, or its plan was changed since; or
            `path` cannot be written.
        PlanError: the plan is damaged.
    """
    folder = RunDirectory(Path(run))
    refuse_no_plan(folder.root)
    plan = load_plan(folder.plan)
    target = Path(path)
    return write_baseline(plan, seen_from(read_evidence(folder.evidence, plan), target.parent), target)


def update_baseline(
    model: str | Path,
    baseline: str | Path,
    *,
    eval: DataLike | None = None,
    calib: DataLike | None = None,
    metric: MetricLike | None = None,
    decode: DecoderLike | None = None,
    labels: str | Path | None = None,
    recipe: str | Path | None = None,
    trust: str | Path | Sequence[str | Path] = (),
    backend: str | Backend | None = None,
    threads: int | None = None,
    work: str | Path | None = None,
    progress: StageProgress | None = None,
) -> Path:
    """Rebuild the committed plan on a model, measure it, and write the baseline again.

    The arguments are those of `gate`. The plan and its ranges stay as they are, since only a tune finds others. If
    `model` is a run directory, the baseline is that of the run.

    Raises:
        AutoprecError: one of the errors that `gate` raises.
        BackendError: the plan's runtime does not work here, so its figures cannot be measured.
    """
    if Path(model).is_dir():
        return record_baseline(model, baseline)
    request = GateRequest(
        model=model,
        baseline=baseline,
        evaluate=eval,
        calib=calib,
        metric=metric,
        decode=decode,
        labels=labels,
        recipe=recipe,
        trust=trusted_files(trust),
        backend=backend,
        threads=threads,
        work=work,
        progress=progress,
    )
    with ExitStack() as stack:
        session = _with_runtime(open_session(request, stack))
        measured, verification = measure(session, exact=True), verification_of(session)
        evidence = evidence_now(session, measured, verification, rounds_now(session))
        return write_baseline(session.rebuilt.plan, evidence, Path(baseline))


def _with_runtime(session: Session) -> Session:
    """Return the session after checking that the plan's own runtime works here."""
    if session.runtime.absent is not None:
        raise BackendError(
            f"a baseline must be measured by the plan's own runtime: {session.runtime.absent}; update it there"
        )
    return session


def _precision(session: Session, now: Verification | None) -> Check:
    committed = session.baseline.evidence.verification
    if now is None:
        return Check(
            name="precision",
            status=Status.SKIPPED,
            baseline="-",
            now="-",
            change="-",
            allowed="none lost",
            sentence=f"cannot judge here: {session.runtime.absent}",
        )
    keys = {choice.key: name for name, choice in session.baseline.plan.units.items()}
    renamed = {name: keys[choice.key] for name, choice in session.rebuilt.plan.units.items() if choice.key in keys}
    return shipped.judge_precision(committed, renamed, now)


def _latency(session: Session, limits: Limits, given: Path | None) -> Check:
    """Judge the latency by the best evidence that is available.

    The best is a race against the baseline's model. Without that model, the rounds that the baseline recorded are used
    if the two days can be compared. Otherwise the latency cannot be judged.
    """
    committed, runtime, rebuilt = session.baseline.evidence, session.runtime, session.rebuilt
    allowed, backend = limits.max_slowdown, runtime.backend
    rival = latency.find_rival(committed, session.baseline.path, given, rebuilt.lowered)
    if runtime.absent is not None:
        return latency.cannot(runtime.absent, limits.latency_required, allowed)
    machine, old = machine_record(backend, session.batch), committed.machine
    same_runtime = all(machine[key] == old[key] for key in ("describe", "driver", "clocks"))
    same_hardware = all(machine[key] == old[key] for key in ("hardware", "clock", "threads"))
    if rival is not None:
        session.progress.stage("latency", "timed in turns with the baseline's model")
        if rival[0] == rebuilt.lowered:
            check = latency.the_same(allowed)
        else:
            arena = session.arena(session.request.threads or RACE_THREADS)
            check = latency.judge_race(arena, rival[0], rebuilt.lowered, allowed, rival[1])
        if same_runtime or check.status is not Status.FINE:
            return check
        return _of_runtime(session, limits, check, same_hardware=same_hardware)
    if not same_hardware:
        why = f"the baseline was {old['clock']} on {old['hardware']} with {old['threads']} threads, this is "
        why += f"{machine['hardware']} with {machine['threads']}, and the baseline's model is not here to be timed "
        "side by side"
        return latency.cannot(why, limits.latency_required, allowed)
    if rebuilt.model.graph_fingerprint != committed.model["graph"]:
        why = "the graph changed, so FP32's latency is not comparable, and the baseline's model is not here to be "
        "timed; give "
        return latency.cannot(why + "it by --baseline-model", limits.latency_required, allowed)
    return _recorded_rounds(session, limits, by_ratio=same_runtime)


def _of_runtime(session: Session, limits: Limits, check: Check, *, same_hardware: bool) -> Check:
    """Judge a model that is no slower than the baseline's in this runtime: the runtime itself may be slower."""
    known = "; but the runtime or machine is not the baseline's"
    if same_hardware:
        since = _recorded_rounds(session, limits, by_ratio=False)
        if since.status is Status.WORSE:
            return replace(
                since,
                sentence=f"{since.sentence}; the runtime became slower, not the model",
            )
        if since.status is Status.FINE:
            return replace(check, sentence=f"{check.sentence}{known}, and {since.sentence}")
    if limits.latency_required:
        return replace(
            check,
            status=Status.CANNOT_JUDGE,
            sentence=f"{check.sentence}{known}, and how much that changed cannot be judged",
        )
    return replace(check, sentence=f"{check.sentence}{known}, and how much that changed cannot be judged here")


def _recorded_rounds(session: Session, limits: Limits, *, by_ratio: bool) -> Check:
    session.progress.stage("latency", "timed in turns with FP32")
    rebuilt = session.rebuilt
    check = latency.judge_recorded(
        session.arena(),
        to_bytes(rebuilt.model.original),
        rebuilt.lowered,
        session.baseline.evidence.rounds,
        limits.max_slowdown,
        by_ratio=by_ratio,
    )
    if check.status is Status.CANNOT_JUDGE and not limits.latency_required:
        return replace(check, status=Status.SKIPPED, sentence=f"cannot judge here: {check.sentence}")
    return check
