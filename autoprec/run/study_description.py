"""What a study is about: study.json, which together with the journal is enough to build any measured plan again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from autoprec.errors import RunDirectoryError
from autoprec.files.computed_by import stamped
from autoprec.files.json import infinite_if_none, read_json, write_json
from autoprec.plan import Assignment
from autoprec.precision import CARRIERS, Precision
from autoprec.run.answer.candidate import Candidate
from autoprec.stats.drop import Drop
from autoprec.study.goal import OBJECTIVES, Goal, Objective

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class StudyUnit:
    """The precisions that the search may give one unit.

    Attributes:
        key: the structural key of the unit, by which it is found in a later version of the model.
        choices: the precisions.
        fixed: why there is only one choice, None where there are more.
        pinned: whether the user fixed the precision.
    """

    key: str
    choices: tuple[Precision, ...]
    fixed: str | None
    pinned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAnswer:
    """The run's answer as study.json stores it: the figures of a `Candidate`, without its arrays.

    Attributes:
        name: the name of the candidate.
        plan: unit -> precision.
        drop: the drop on held-out samples.
        ratio: the latency over the clock's unit.
        latency_ms: milliseconds for one batch.
        unit_ms: those of the clock's unit in the same rounds; older versions, whose unit was FP32, called it fp32_ms.
    """

    name: str
    plan: Assignment
    drop: Drop
    ratio: float
    latency_ms: float
    unit_ms: float

    @classmethod
    def of(cls, answer: Candidate, unit: Candidate) -> StoredAnswer:
        """What is stored of a candidate that is the answer."""
        return cls(
            name=answer.name,
            plan=dict(answer.plan),
            drop=answer.drop,
            ratio=answer.timing.ratio_to(unit.timing).estimate,
            latency_ms=answer.timing.median_ms,
            unit_ms=unit.timing.median_ms,
        )

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> StoredAnswer:
        """The answer that study.json holds."""
        drop = record["drop"]
        return cls(
            name=str(record["name"]),
            plan={str(unit): Precision(value) for unit, value in record["plan"].items()},
            drop=Drop(
                estimate=infinite_if_none(drop["estimate"]),
                low=infinite_if_none(drop["low"]),
                high=infinite_if_none(drop["high"]),
                samples=int(drop["samples"]),
                method=str(drop["method"]),
            ),
            ratio=float(record["ratio"]),
            latency_ms=float(record["latency_ms"]),
            unit_ms=float(record["unit_ms"] if "unit_ms" in record else record["fp32_ms"]),
        )

    def to_record(self, unit: Precision) -> dict[str, Any]:
        """What held-out samples and fresh rounds showed of it, as JSON for the evidence of a plan.

        Args:
            unit: the precision of the clock's unit.
        """
        beside = {"fp32_ms": self.unit_ms} if unit is Precision.FP32 else {"unit": unit.value, "unit_ms": self.unit_ms}
        return {
            "name": self.name,
            "drop": asdict(self.drop),
            "latency_ratio": self.ratio,
            "latency_ms": self.latency_ms,
            **beside,
            "basis": "samples that chose nothing",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyDescription:
    """What a study is about.

    Attributes:
        study: the name of the study in the journal.
        model: the absolute path of the model.
        backend: the name of the runtime.
        scheme: the name of the scheme by which Q/DQ nodes are placed.
        carrier: the float type around quantised arithmetic.
        units: the units by name.
        metric: the name of the metric.
        max_drop: the bound on the drop, infinite where there is none.
        confidence: the confidence that plans are accepted at; None where the estimate decides.
        splits: how the data was split, as a text.
        samples: the number of samples that plans are compared on.
        fingerprints: the fingerprints of what the plans depend on.
        machine: what ran the plans.
        answer: the run's answer, None until the run has ended.
        objective: what is minimised.
        max_latency: the most latency as a share of FP32's, infinite where there is no bound.
        prior: unit -> precision -> share of FP32's latency in the runtime's own profile; empty in older studies.
        asked: the data and the settings that plans are measured by; empty in older studies.
        shapes: value name -> its shape for one sample, where only a run shows it; empty in older studies.
        unit: the precision of the clock's unit, of whose latency ratios and priors are shares; FP32 in older studies.
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
    answer: StoredAnswer | None = None
    objective: Objective = "latency"
    max_latency: float = math.inf
    prior: Mapping[str, Mapping[Precision, float]] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    unit: Precision = Precision.FP32

    @property
    def goal(self) -> Goal:
        """What is minimised, and the bounds."""
        return Goal(self.objective, self.max_drop, self.max_latency, self.unit)

    @property
    def shares(self) -> dict[tuple[str, Precision], float]:
        """(unit, precision) -> share of FP32's latency, as samplers take it."""
        return {(unit, p): share for unit, row in self.prior.items() for p, share in row.items()}

    @property
    def choices(self) -> dict[str, tuple[Precision, ...]]:
        """Unit -> the precisions that the search might give it."""
        return {name: unit.choices for name, unit in self.units.items()}

    def answered(self, answer: Candidate, unit: Candidate) -> StudyDescription:
        """The same with the run's answer."""
        return replace(self, answer=StoredAnswer.of(answer, unit))

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically.

        Raises:
            RunDirectoryError: the folder cannot be written.
        """
        write_json(path, stamped({"schema": SCHEMA, "kind": "autoprec study", **asdict(self)}))


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
    if carrier not in CARRIERS or not units or not all(unit.choices for unit in units.values()):
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
        answer=None if answer is None else StoredAnswer.from_record(answer),
        objective=_objective(record.get("objective", "latency")),
        max_latency=infinite_if_none(record.get("max_latency")),
        prior={str(u): {Precision(p): float(v) for p, v in row.items()} for u, row in record.get("prior", {}).items()},
        asked=dict(record.get("asked", {})),
        shapes={str(name): tuple(map(int, shape)) for name, shape in record.get("shapes", {}).items()},
        unit=Precision(record.get("unit", Precision.FP32.value)),
    )


def _objective(text: Any) -> Objective:
    found: Objective | None = next((known for known in OBJECTIVES if known == text), None)
    if found is None:
        raise ValueError(f"there is no objective {text!r}")
    return found


def _texts(record: Mapping[str, Any]) -> dict[str, str]:
    return {str(key): str(value) for key, value in record.items()}
