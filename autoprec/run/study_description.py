"""What a study was about, as a file beside it: with the journal it is enough to make any measured plan again."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from autoprec.errors import RunDirectoryError
from autoprec.files.json import infinite_if_none, read_json, write_json
from autoprec.plan import Assignment
from autoprec.precision import FLOATS, Precision
from autoprec.ranges.table import RangeTable
from autoprec.run.answer.candidate import Candidate
from autoprec.run.identity import plan_fingerprints
from autoprec.run.task import Task
from autoprec.run.unit_reasons import fixed_reason
from autoprec.study.goal import OBJECTIVES, Goal, Objective

SCHEMA = 1
_DROP = ("estimate", "low", "high", "method", "samples")


@dataclass(frozen=True, slots=True)
class StudyUnit:
    """What the search might give one unit.

    Attributes:
        key: structural.
        choices: precisions.
        fixed: why there is only one, None where there are more.
        pinned: whether the user fixed it.
    """

    key: str
    choices: tuple[Precision, ...]
    fixed: str | None
    pinned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The plan that a run chose, measured again on samples and in rounds that had chosen nothing.

    Attributes:
        name: among the run's candidates.
        plan: unit -> precision.
        drop: estimate, low, high, method and samples.
        ratio: latency over FP32's.
        latency_ms: for one batch.
        fp32_ms: of FP32 in the same rounds.
    """

    name: str
    plan: Assignment
    drop: Mapping[str, Any]
    ratio: float
    latency_ms: float
    fp32_ms: float

    def to_record(self) -> dict[str, Any]:
        """What fresh samples and rounds said of it, as JSON."""
        return {
            "name": self.name,
            "drop": dict(self.drop),
            "latency_ratio": self.ratio,
            "latency_ms": self.latency_ms,
            "fp32_ms": self.fp32_ms,
            "basis": "samples that chose nothing",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyDescription:
    """What a study was about.

    Attributes:
        study: its name in the journal.
        model: absolute path of the model.
        backend: the runtime.
        scheme: how Q/DQ are placed.
        carrier: the float type around quantised arithmetic.
        units: by name.
        metric: its name.
        max_drop: the bound.
        confidence: that plans were accepted at, None for the estimate.
        splits: the data, in words.
        samples: that plans were compared on.
        fingerprints: those of its plans.
        machine: what ran them.
        answer: None until the run has ended.
        objective: what was minimised.
        max_latency: the most latency as a share of FP32's, infinite where there was no bound.
        prior: unit -> precision -> share of FP32's latency in the runtime's own profile; empty in older studies.
        asked: the data and the settings that plans are measured by; empty likewise.
    """

    study: str
    model: str
    backend: str
    scheme: str
    carrier: Precision
    units: Mapping[str, StudyUnit]
    metric: str
    max_drop: float
    confidence: float | None
    splits: str
    samples: int
    fingerprints: Mapping[str, str]
    machine: Mapping[str, str]
    answer: Answer | None = None
    objective: Objective = "latency"
    max_latency: float = math.inf
    prior: Mapping[str, Mapping[Precision, float]] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def goal(self) -> Goal:
        """What was minimised, and the bounds."""
        return Goal(self.objective, self.max_drop, self.max_latency)

    @property
    def shares(self) -> dict[tuple[str, Precision], float]:
        """(unit, precision) -> share of FP32's latency, as samplers take it."""
        return {(unit, p): share for unit, row in self.prior.items() for p, share in row.items()}

    @property
    def choices(self) -> dict[str, tuple[Precision, ...]]:
        """Unit -> the precisions that the search might give it."""
        return {name: unit.choices for name, unit in self.units.items()}

    def answered(self, chosen: Candidate, fp32: Candidate) -> StudyDescription:
        """The same with the run's answer."""
        drop = {name: getattr(chosen.drop, name) for name in _DROP}
        answer = Answer(
            name=chosen.name,
            plan=dict(chosen.plan),
            drop=drop,
            ratio=chosen.timing.ratio_to(fp32.timing).estimate,
            latency_ms=chosen.timing.median_ms,
            fp32_ms=fp32.timing.median_ms,
        )
        return replace(self, answer=answer)

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically.

        Raises:
            RunDirectoryError: the folder cannot be written.
        """
        write_json(path, {"schema": SCHEMA, "kind": "autoprec study", **asdict(self)})


def studied(
    task: Task, ranges: RangeTable, study: str, goal: Goal, prior: Mapping[tuple[str, Precision], float]
) -> StudyDescription:
    """What the study of that name is about.

    Args:
        task: what was asked.
        ranges: calibrated.
        study: the name.
        goal: what is minimised, and the bounds.
        prior: (unit, precision) -> share of FP32's latency in the runtime's own profile.
    """
    subject, settings = task.subject, task.settings
    units = {
        unit.name: StudyUnit(
            unit.key, subject.choices[unit.name], fixed_reason(subject, unit.name), unit.name in subject.pinned
        )
        for unit in subject.partition.units
    }
    return StudyDescription(
        study=study,
        model=os.path.abspath(settings.model),
        backend=task.backend.name,
        scheme=subject.lowerer.scheme.name,
        carrier=subject.space.carrier,
        units=units,
        metric=task.metric.name,
        max_drop=settings.max_drop,
        confidence=settings.confidence,
        splits=task.splits.text,
        samples=task.splits.select.count,
        fingerprints=plan_fingerprints(task, ranges),
        machine=dict(task.backend.describe()),
        answer=None,
        objective=goal.objective,
        max_latency=goal.max_latency,
        prior={name: {p: share for (unit, p), share in prior.items() if unit == name} for name in units},
        asked=asked(task),
    )


def asked(task: Task) -> dict[str, Any]:
    """The settings that a plan is measured by, as far as files and names say them; None for what only memory holds."""
    settings = task.settings
    sources = {"calib": settings.calib, "evaluate": settings.evaluate, "metric": settings.metric}
    texts = {
        name: os.path.abspath(source) if os.path.exists(source) else os.fspath(source)
        for name, source in sources.items()
        if isinstance(source, (str, os.PathLike))
    }
    return {
        **dict.fromkeys(sources),
        **texts,
        "memory": [name for name, source in sources.items() if source is not None and name not in texts],
        "direction": settings.direction,
        "space": _path(settings.space),
        "recipe": _path(settings.recipe),
        "pins": list(settings.pins),
        "batch": settings.batch,
        "seed": settings.seed,
        "threads": task.backend.threads,
        "sampler": settings.sampler,
        "targets": list(task.backend.targets),
    }


def _path(source: str | Path | None) -> str | None:
    """A file's absolute path; a name stays a name."""
    return None if source is None else os.path.abspath(source) if os.path.isfile(source) else str(source)


def read_study_description(path: Path) -> StudyDescription:
    """What `StudyDescription.save` wrote.

    Raises:
        RunDirectoryError: it is missing, damaged, or of a newer schema.
    """
    if not path.is_file():
        raise RunDirectoryError(
            f"{path.parent} has no {path.name}: it is no run directory, its search had not begun, or an older autoprec "
            f"made it; run `autoprec tune` with the same options and --out {path.parent}, which keeps what was measured"
        )
    record = read_json(path, "study's description", RunDirectoryError, SCHEMA)
    try:
        return _from_record(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunDirectoryError(
            f"the study's description {path} is damaged ({error!r}); run `autoprec tune` with the same options and "
            f"--out {path.parent}, which makes it again"
        ) from error


def _from_record(record: Mapping[str, Any]) -> StudyDescription:
    units = {
        str(name): StudyUnit(
            str(u["key"]),
            tuple(map(Precision, u["choices"])),
            None if u["fixed"] is None else str(u["fixed"]),
            bool(u["pinned"]),
        )
        for name, u in record["units"].items()
    }
    carrier = Precision(record["carrier"])
    if carrier not in FLOATS or not units or not all(unit.choices for unit in units.values()):
        raise ValueError("a study must have a float carrier, and units with choices")
    confidence, answer = record["confidence"], record["answer"]
    return StudyDescription(
        study=str(record["study"]),
        model=str(record["model"]),
        backend=str(record["backend"]),
        scheme=str(record["scheme"]),
        carrier=carrier,
        units=units,
        metric=str(record["metric"]),
        max_drop=infinite_if_none(record["max_drop"]),
        confidence=None if confidence is None else float(confidence),
        splits=str(record["splits"]),
        samples=int(record["samples"]),
        fingerprints=_texts(record["fingerprints"]),
        machine=_texts(record["machine"]),
        answer=None if answer is None else _answer(answer),
        objective=_objective(record.get("objective", "latency")),
        max_latency=infinite_if_none(record.get("max_latency")),
        prior={str(u): {Precision(p): float(v) for p, v in row.items()} for u, row in record.get("prior", {}).items()},
        asked=dict(record.get("asked", {})),
    )


def _objective(text: Any) -> Objective:
    found: Objective | None = next((known for known in OBJECTIVES if known == text), None)
    if found is None:
        raise ValueError(f"there is no objective {text!r}")
    return found


def _answer(record: Mapping[str, Any]) -> Answer:
    plan = {str(unit): Precision(value) for unit, value in record["plan"].items()}
    drop = {name: record["drop"][name] for name in _DROP}
    return Answer(
        name=str(record["name"]),
        plan=plan,
        drop=drop,
        ratio=float(record["ratio"]),
        latency_ms=float(record["latency_ms"]),
        fp32_ms=float(record["fp32_ms"]),
    )


def _texts(record: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in record.items()}
