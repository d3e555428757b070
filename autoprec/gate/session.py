"""One gate at work: what is judged, by what, with which data, and what it measures."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from autoprec.backends.protocol import Backend
from autoprec.data.dataset import Dataset
from autoprec.errors import DataError
from autoprec.gate import accuracy
from autoprec.gate.baseline import Baseline, load_baseline
from autoprec.gate.candidate import Candidate, Runtime, find_candidate, find_runtime
from autoprec.gate.evidence import Evidence, Rounds
from autoprec.gate.gather import keys_of_ranges, lowered_record, machine_record, model_record, samples_fingerprint
from autoprec.graph.topology import Topology
from autoprec.metrics.metric import Direction, Metric, load_metric
from autoprec.precision import Array
from autoprec.proof.inspect import verified
from autoprec.proof.verification import Verification
from autoprec.recipes.ranging import CalibrationRecipe, load_calibration_recipe
from autoprec.run.engines import batch_feed
from autoprec.run.settings import Source
from autoprec.timing.race import RACE_THREADS


class Progress(Protocol):
    """Who is told how far a gate is."""

    def stage(self, name: str, detail: str) -> None:
        """A stage begins."""

    def advance(self, share: float) -> None:
        """The share of the stage that is done, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One gate: what is judged, by what, with which data."""

    baseline: Baseline
    candidate: Candidate
    runtime: Runtime
    metric: Metric
    recipe: CalibrationRecipe
    data: Dataset
    calib: Source | None
    progress: Progress | None
    threads: int

    def say(self, name: str, detail: str) -> None:
        """Tell whoever listens that a stage begins."""
        if self.progress is not None:
            self.progress.stage(name, detail)


def open_session(
    stack: ExitStack,
    model: str | Path,
    path: str | Path,
    evaluate: Source | None,
    calib: Source | None,
    backend: str | Backend | None,
    threads: int | None,
    work: str | Path | None,
    progress: Progress | None,
) -> Session:
    """Everything loaded and checked; arguments as for `autoprec.gate.judge.gate`.

    Raises:
        AutoprecError: something is missing, or does not fit the baseline.
    """
    baseline = load_baseline(path)
    committed = baseline.evidence
    candidate = find_candidate(model, baseline, None if backend is None or isinstance(backend, str) else backend.scheme)
    runtime = find_runtime(
        candidate.plan, backend, threads or committed.machine["threads"], _targets(committed.machine)
    )
    direction: Direction = "higher" if committed.metric["higher_is_better"] else "lower"
    metric = load_metric(committed.metric["name"], direction)
    recipe = load_calibration_recipe(committed.data["recipe"])
    source = evaluate if evaluate is not None else recorded_source(committed)
    data = accuracy.find_samples(source, candidate, recipe, committed.samples)
    if work is None:
        work = stack.enter_context(tempfile.TemporaryDirectory(prefix="autoprec-gate-"))
    shapes = {
        name: array.shape for name, array in batch_feed(candidate.model, data, committed.machine["batch"]).items()
    }
    runtime = replace(runtime, backend=runtime.backend.for_run(shapes, Path(work)))
    return Session(
        baseline=baseline,
        candidate=candidate,
        runtime=runtime,
        metric=metric,
        recipe=recipe,
        data=data,
        calib=calib,
        progress=progress,
        threads=threads or RACE_THREADS,
    )


def _targets(machine: Mapping[str, Any]) -> tuple[str, ...]:
    """What engines were built for ahead of time; none where they ran on the machine that tuned."""
    return () if machine["runs_here"] else tuple(str(machine["describe"].get("hardware", "")).split(","))


def recorded_source(committed: Evidence) -> Source:
    """Where the tune had the report samples from.

    Raises:
        DataError: it was given arrays.
    """
    source = committed.data.get("eval") or committed.data.get("calib")
    if source is None:
        raise DataError(
            "the baseline does not say where its evaluation data is, since the tune was given arrays; give --eval"
        )
    return str(source)


def measure(session: Session, *, exact: bool) -> accuracy.Measured:
    """Score FP32 and the plan on the baseline's samples."""
    committed, data = session.baseline.evidence, session.data
    session.say("accuracy", f"FP32 and the plan on {data.count} samples")
    wanted, batch = len(committed.samples.digests), int(committed.machine["batch"])
    return accuracy.measure(data, session.candidate, session.runtime, session.metric, batch, wanted, exact=exact)


def verification_of(session: Session) -> Verification:
    """What the runtime made of each unit."""
    candidate = session.candidate
    return verified(candidate.lowerer, candidate.precisions, session.runtime.backend, candidate.lowered)


def feed_of(session: Session) -> dict[str, Array]:
    """One batch to time."""
    return batch_feed(session.candidate.model, session.data, int(session.baseline.evidence.machine["batch"]))


def evidence_now(
    session: Session, measured: accuracy.Measured, verification: Verification | None, rounds: Rounds
) -> Evidence:
    """What this session measured, in the form of a baseline."""
    committed, candidate = session.baseline.evidence, session.candidate
    where = Path(committed.lowered["path"])
    return replace(
        committed,
        model=model_record(candidate.model),
        lowered=lowered_record(candidate.lowered, where),
        data={**committed.data, "report": samples_fingerprint(session.data)},
        machine=machine_record(session.runtime.backend, int(committed.machine["batch"])),
        metric={**committed.metric, "fingerprint": session.metric.fingerprint},
        samples=measured.samples,
        rounds=rounds,
        verification=committed.verification if verification is None else verification.to_record(),
        values=keys_of_ranges(Topology(candidate.model.graph), candidate.ranges),
        found={**committed.found, "complaint": None if verification is None else verification.complaint()},
    )
