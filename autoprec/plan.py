"""The precision plan: which unit runs in what, why, and everything needed to lower the model by it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autoprec.errors import PlanError
from autoprec.files.json import read_json, write_json
from autoprec.precision import FLOATS, Precision

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Choice:
    """The precision of one unit.

    Attributes:
        precision: what it runs in.
        reason: why this one.
        pinned: whether the user fixed it.
        key: the unit's structural key, by which it is found after a re-export.
    """

    precision: Precision
    reason: str
    pinned: bool
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A precision for every unit of one model.

    Attributes:
        units: unit name -> choice.
        carrier: the float type around quantised arithmetic.
        scheme: how Q/DQ are placed, see `autoprec.lowering.possible`.
        backend: the runtime it was made for.
        fingerprints: of graph, weights, data, metric, ranges, and of the machine that measured it.
        evidence: measured numbers, for people and reports.
        ranges: the calibrated ranges, as `RangeTable.to_record` gives them; None where nothing is quantised.
    """

    units: Mapping[str, Choice]
    carrier: Precision
    scheme: str
    backend: str
    fingerprints: Mapping[str, str]
    evidence: Mapping[str, Any]
    ranges: Mapping[str, Any] | None

    def precisions(self) -> dict[str, Precision]:
        """Unit name -> precision."""
        return {name: choice.precision for name, choice in self.units.items()}

    def save(self, path: str | Path) -> None:
        """Write the plan as JSON, atomically.

        Raises:
            RunDirectoryError: the folder cannot be written.
        """
        write_json(Path(path), self.to_record())

    def to_record(self) -> dict[str, Any]:
        """As JSON."""
        units = {
            name: {"precision": c.precision.value, "reason": c.reason, "pinned": c.pinned, "key": c.key}
            for name, c in self.units.items()
        }
        return {
            "schema": SCHEMA,
            "kind": "autoprec plan",
            "backend": self.backend,
            "scheme": self.scheme,
            "carrier": self.carrier.value,
            "fingerprints": dict(self.fingerprints),
            "evidence": dict(self.evidence),
            "units": units,
            "ranges": self.ranges,
        }


def load_plan(path: str | Path) -> Plan:
    """Read a plan.

    Raises:
        PlanError: the file is missing, damaged, no plan, or of a newer schema.
    """
    return plan_from_record(read_json(Path(path), "plan", PlanError, SCHEMA), path)


def plan_from_record(record: Mapping[str, Any], path: str | Path) -> Plan:
    """The plan that `to_record` wrote.

    Args:
        record: the plan.
        path: of the file that it is in, for messages.

    Raises:
        PlanError: the record is damaged, or no plan.
    """
    if record.get("kind") != "autoprec plan":
        raise PlanError(f"{path} is no plan of autoprec; give the plan.json of a run directory")
    try:
        units = {
            str(name): Choice(Precision(c["precision"]), str(c["reason"]), bool(c["pinned"]), str(c["key"]))
            for name, c in record["units"].items()
        }
        carrier = Precision(record["carrier"])
        if carrier not in FLOATS:
            raise PlanError(f"the carrier of {path} must be a float type, got {carrier}; tune the model again")
        return Plan(
            units=units,
            carrier=carrier,
            scheme=str(record["scheme"]),
            backend=str(record["backend"]),
            fingerprints=dict(record["fingerprints"]),
            evidence=dict(record["evidence"]),
            ranges=record["ranges"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PlanError(f"the plan {path} is damaged: {error!r}; tune the model again") from error


def check_plan_fits(plan: Plan, graph: str, weights: str, model: str | Path) -> None:
    """Refuse a plan that was made for another model.

    Args:
        plan: the plan.
        graph: fingerprint of the model's graph.
        weights: fingerprint of its weights.
        model: its path, for the message.

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
