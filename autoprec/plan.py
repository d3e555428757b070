"""The precision plan: which unit runs in which precision and why, with all that is needed to lower the model by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from autoprec.errors import PlanError
from autoprec.files.forms import refuse_other_kind
from autoprec.files.json import read_json, write_json
from autoprec.precision import CARRIERS, Precision

SCHEMA = 1
KIND = "autoprec plan"
_NAMED = 8
"""So many units are named when a plan is printed."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The precision of one unit.

    Attributes:
        precision: the precision that the unit runs in.
        reason: the sentence that says why.
        pinned: whether the user fixed the precision.
        key: the structural key of the unit, by which it is found when the model was exported again.
    """

    precision: Precision
    reason: str
    pinned: bool
    key: str


class RepairKind(str, Enum):
    """What a repair does; the network computes the same in FP32."""

    EQUALISE = "equalise"
    """The channels before convolutions are divided by factors, and the weights multiplied."""
    SMOOTH = "smooth"
    """The same before matrix products, as SmoothQuant does it."""
    SPLIT = "split"
    """A convolution of a Concat becomes a sum of convolutions of the Concat's inputs."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """An exact transformation of the model, after which a plan loses less.

    Attributes:
        kind: what is done.
        value: the name of the value whose channels are divided, or of the Concat's result.
        key: the structural key of the value, by which it is found when the model was exported again.
        factors: what each channel is divided by; empty for a split.
        noise_before: the noise-to-signal ratio of the model's outputs with the units that read the value in INT8, on
            samples that did not choose the repair.
        noise_after: the same with the repair.
    """

    kind: RepairKind
    value: str
    key: str
    factors: tuple[float, ...] = ()
    noise_before: float = 0.0
    noise_after: float = 0.0

    def to_record(self) -> dict[str, Any]:
        """Return the repair as plain JSON values."""
        return {
            "kind": self.kind.value,
            "value": self.value,
            "key": self.key,
            "factors": list(self.factors),
            "noise": [self.noise_before, self.noise_after],
        }


def repairs_from_record(records: Any) -> tuple[Repair, ...]:
    """Return the repairs that `Repair.to_record` described.

    Raises:
        KeyError, TypeError, ValueError: the record is damaged.
    """
    found = []
    for record in records:
        before, after = map(float, record["noise"])
        found.append(
            Repair(
                kind=RepairKind(record["kind"]),
                value=str(record["value"]),
                key=str(record["key"]),
                factors=tuple(map(float, record["factors"])),
                noise_before=before,
                noise_after=after,
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Plan:
    """A precision for every unit of one model.

    Attributes:
        units: unit name -> its choice.
        carrier: the float type of the tensors around quantised arithmetic.
        scheme: the name of the scheme by which Q/DQ pairs are placed.
        backend: the name of the backend that the plan was made for.
        fingerprints: the fingerprints of graph, weights, data, metric, ranges, and of the machine that measured it.
        evidence: the measured figures, for people and reports.
        ranges: the calibrated ranges, as `RangeTable.to_record` returns them, or None if nothing is quantised.
        shapes: input name -> its shape in a run of one sample of the data, for inputs with free dimensions; empty in
            older plans.
        left_to_builder: whether the engine is built by precisions that the builder chose itself, for the ranges of the
            plan; the units then say what ran.
        repairs: the exact transformations that are made of the model before it is lowered, in their order.
    """

    units: Mapping[str, Choice]
    carrier: Precision
    scheme: str
    backend: str
    fingerprints: Mapping[str, str]
    evidence: Mapping[str, Any]
    ranges: Mapping[str, Any] | None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    left_to_builder: bool = False
    repairs: tuple[Repair, ...] = ()

    def __str__(self) -> str:
        """A few lines: how many units run in which precision, and which of them are kept out of the lowest one."""
        counts = {p: sum(c.precision is p for c in self.units.values()) for p in Precision}
        lowest = min((c.precision for c in self.units.values()), key=lambda p: p.bits, default=Precision.FP32)
        high = [f"{name} ({c.precision})" for name, c in self.units.items() if c.precision.bits > lowest.bits]
        text = ", ".join(f"{count} {p}" for p, count in counts.items() if count)
        more = f" and {len(high) - _NAMED} more" if len(high) > _NAMED else ""
        kept = f"\nkept higher than {lowest}: {', '.join(high[:_NAMED])}{more}" if high else ""
        return f"plan of {len(self.units)} units for {self.backend}: {text}{kept}"

    def precisions(self) -> dict[str, Precision]:
        """Return the precision of each unit by its name."""
        return {name: choice.precision for name, choice in self.units.items()}

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON, atomically.

        Raises:
            RunDirectoryError: the folder cannot be written to, or there is a file that is no plan.
        """
        refuse_other_kind(Path(path), KIND)
        write_json(Path(path), self.to_record())

    def to_record(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        units = {
            name: {"precision": c.precision.value, "reason": c.reason, "pinned": c.pinned, "key": c.key}
            for name, c in self.units.items()
        }
        shapes = {"shapes": {name: list(shape) for name, shape in self.shapes.items()}} if self.shapes else {}
        left = {"left_to_builder": True} if self.left_to_builder else {}
        repairs = {"repairs": [repair.to_record() for repair in self.repairs]} if self.repairs else {}
        return {
            "schema": SCHEMA,
            "kind": KIND,
            "backend": self.backend,
            "scheme": self.scheme,
            "carrier": self.carrier.value,
            "fingerprints": dict(self.fingerprints),
            "evidence": dict(self.evidence),
            "units": units,
            "ranges": self.ranges,
            **shapes,
            **left,
            **repairs,
        }


def load_plan(path: str | Path) -> Plan:
    """Read a plan from a file.

    Raises:
        PlanError: the file is missing or damaged, is not a plan, or has a newer schema.
    """
    return plan_from_record(read_json(Path(path), "plan", PlanError, SCHEMA), path)


def plan_from_record(record: Mapping[str, Any], path: str | Path) -> Plan:
    """Return the plan that `to_record` described.

    Args:
        record: the plan as plain JSON values.
        path: the path of the file that it is in, for messages.

    Raises:
        PlanError: the record is damaged, or it is not a plan.
    """
    if record.get("kind") != "autoprec plan":
        raise PlanError(f"{path} is not a plan of autoprec; give the plan.json of a run directory")
    try:
        units = {
            str(name): Choice(Precision(c["precision"]), str(c["reason"]), bool(c["pinned"]), str(c["key"]))
            for name, c in record["units"].items()
        }
        carrier = Precision(record["carrier"])
        if carrier not in CARRIERS:
            raise PlanError(f"the carrier of {path} must be a float type, got {carrier}; tune the model again")
        return Plan(
            units=units,
            carrier=carrier,
            scheme=str(record["scheme"]),
            backend=str(record["backend"]),
            fingerprints=dict(record["fingerprints"]),
            evidence=dict(record["evidence"]),
            ranges=record["ranges"],
            shapes={str(name): tuple(map(int, shape)) for name, shape in record.get("shapes", {}).items()},
            left_to_builder=bool(record.get("left_to_builder", False)),
            repairs=repairs_from_record(record.get("repairs", [])),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PlanError(f"the plan {path} is damaged: {error!r}; tune the model again") from error


def check_plan_fits(plan: Plan, graph: str, weights: str, model: str | Path) -> None:
    """Check that a plan was made for this model.

    Args:
        plan: the plan.
        graph: the fingerprint of the model's graph.
        weights: the fingerprint of its weights.
        model: the path of the model, for messages.

    Raises:
        PlanError: the graph or the weights differ.
    """
    if plan.fingerprints.get("graph") != graph:
        raise PlanError(
            f"the plan was made for another model: its graph is {plan.fingerprints.get('graph')}, that of {model} is "
            f"{graph}; tune this model, or give the one that the plan was made for"
        )
    if plan.fingerprints.get("weights") != weights:
        raise PlanError(
            f"the plan was made for other weights than those of {model}: ranges and accuracy would not hold; "
            f"tune again with --out of the old run to keep what is still valid"
        )


Assignment = Mapping[str, Precision]
"""Unit name -> precision: what the search chooses, and the core of a plan."""
