"""Verification of an engine: the precision that the plan asks for and the one that really runs, unit by unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from autoprec.backends.protocol import RanAs
from autoprec.precision import Precision
from autoprec.units.records import Partition, Unit, UnitKind


class UnitStatus(str, Enum):
    """What became of the precision that a unit was asked for; the values are those in reports on disk.

    A unit is FUSED if its layer computes in several precisions or belongs to another unit, or if a light operator
    computes on the codes of its neighbours, so that the unit has no precision of its own. It is GONE if the engine does
    not speak of it, as of a constant.
    """

    HONOURED = "honoured"
    FUSED = "fused"
    NOT_HONOURED = "not honoured"
    GONE = "gone"

    def __str__(self) -> str:
        return self.value

    @property
    def text(self) -> str:
        """The status in the terms of the field, for people."""
        return _STATUS_TEXTS[self]


_STATUS_TEXTS = {
    UnitStatus.HONOURED: "ran as planned",
    UnitStatus.FUSED: "merged by the runtime",
    UnitStatus.NOT_HONOURED: "ran in another precision",
    UnitStatus.GONE: "not named by the engine",
}

UNKNOWN = "unknown"
"""The name for the precision of multiply-accumulates of which the engine does not tell it."""

_HEAVY = (UnitKind.CONV, UnitKind.MATMUL, UnitKind.ATTENTION)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRan:
    """One unit: the precision that was asked for, and what ran.

    Attributes:
        unit: the name of the unit.
        requested: the precision in the plan.
        written: the precision that the lowered model asks for; if it differs from `requested`, `why` says the reason.
        ran: the precision that its arithmetic really runs in, or None if the engine does not tell.
        status: what became of the precision that was asked for.
        heavy: whether the unit has multiply-accumulates, so that its precision matters.
        macs: the number of multiply-accumulates for one sample.
        layer: the name that the runtime gives to the layer that computes the unit.
        operator: the kind of that layer.
        tactic: the name of the kernel that the runtime chose for it.
        into: the unit that it was fused into, or "" if it was not fused or the layer holds no other unit.
        refused: whether the unit is heavy and the runtime runs it in another precision than the model asks for.
        why: the reason why the plan was not written into the model as it is, or "" if it was.
    """

    unit: str
    requested: Precision
    written: Precision
    ran: Precision | None
    status: UnitStatus
    heavy: bool
    macs: int
    layer: str = ""
    operator: str = ""
    tactic: str = ""
    into: str = ""
    refused: bool = False
    why: str = ""

    def describe(self) -> str:
        """Return one sentence for people."""
        layer = f"layer {self.layer!r}" if self.layer else f"kernel {self.operator}"
        layer += f", tactic {self.tactic}" if self.tactic else ""
        if self.status == UnitStatus.HONOURED:
            return f"{self.unit} runs in {self.requested}: {layer}"
        if self.status == UnitStatus.GONE:
            return f"{self.unit} was asked for in {self.requested}, but the engine names none of its nodes"
        if self.status == UnitStatus.FUSED and not self.layer:
            return (
                f"{self.unit} was asked for in {self.requested} and computes on the 8-bit codes of its neighbours, "
                f"which gives the same values: {layer}"
            )
        if self.status == UnitStatus.FUSED:
            other = f" of {self.into}" if self.into else ""
            return f"{self.unit} was asked for in {self.requested} and is fused into {layer}{other}"
        untold = "another precision" if self.written.is_quantized else "8 bits"
        ran = self.ran or ("a float type" if self.written.needs_ranges else untold)
        because = f" ({self.why})" if self.why else ""
        return f"{self.unit} was asked for in {self.requested} but runs in {ran}{because}: {layer}"


@dataclass(frozen=True, slots=True)
class Verification:
    """The verification of all units of one engine.

    Attributes:
        units: the units in the order of the partition.
        mac_share: precision -> the share of all multiply-accumulates that run in it; the rest is "unknown".
    """

    units: tuple[UnitRan, ...]
    mac_share: Mapping[str, float] = field(default_factory=dict)

    @property
    def refused(self) -> tuple[UnitRan, ...]:
        """The units whose precision matters and is not the one that was asked for; these are a reason to fail."""
        return tuple(unit for unit in self.units if unit.refused)

    @property
    def unproven(self) -> tuple[UnitRan, ...]:
        """The units whose precision matters but of which the engine tells nothing."""
        return tuple(unit for unit in self.units if unit.heavy and unit.status in (UnitStatus.FUSED, UnitStatus.GONE))

    @property
    def counts(self) -> dict[str, int]:
        """The value of each status -> the number of units that have it."""
        return {status.value: sum(unit.status == status for unit in self.units) for status in UnitStatus}

    def complaint(self) -> str | None:
        """Return the message for the user if a precision that matters did not run as requested, else None."""
        if not self.refused:
            return None
        heavy = sum(unit.heavy for unit in self.units)
        lines = "\n".join(f"  {unit.describe()}" for unit in self.refused)
        return (
            f"the engine must run each convolution and matrix product in the precision of the plan, but "
            f"{len(self.refused)} of {heavy} units with such work run in another; give them the precision that they "
            f"ran in, or pin them to fp32 or fp16:\n{lines}"
        )

    def to_record(self) -> dict[str, Any]:
        """Return the verification as plain JSON values."""
        return {
            "counts": self.counts,
            "mac_share": dict(self.mac_share),
            "refused": [unit.unit for unit in self.refused],
            "unproven": [unit.unit for unit in self.unproven],
            "units": {unit.unit: _record(unit) for unit in self.units},
        }


def verify(
    partition: Partition,
    requested: Mapping[str, Precision],
    ran: Mapping[str, RanAs],
    *,
    written: Mapping[str, Precision] | None = None,
    skipped: Mapping[str, str] | None = None,
) -> Verification:
    """Compare the plan with the engine.

    Args:
        partition: the units.
        requested: unit name -> its precision in the plan; units that are not named are in FP32.
        ran: node name -> what became of the node, for all nodes of the units that the runtime mentions.
        written: unit name -> the precision that the lowered model asks for, by default that of the plan. If the two
            differ, the unit is not honoured, but the runtime is not to blame.
        skipped: unit name -> the reason why its precision was not written into the model.
    """
    written, skipped = written or requested, skipped or {}
    layers = _Layers(partition, ran)
    found = []
    for unit in partition.units:
        wish = requested.get(unit.name, Precision.FP32)
        asked = written.get(unit.name, wish)
        why = "" if asked is wish else skipped.get(unit.name, f"the model asks for {asked}")
        found.append(_judge(unit, wish, asked, why, layers))
    return Verification(tuple(found), _mac_share(found))


class _Layers:
    """What the runtime says about each node, and which units share a layer."""

    def __init__(self, partition: Partition, ran: Mapping[str, RanAs]) -> None:
        self._ran = ran
        self._home = {node: unit for unit in partition.units for node in unit.nodes}
        self._hosts: dict[str, list[str]] = {}
        for unit in partition.units:
            if _is_heavy(unit):
                for layer in dict.fromkeys(ran[name].layer for name in unit.anchors if name in ran):
                    self._hosts.setdefault(layer, []).append(unit.name)

    def of(self, unit: Unit) -> list[RanAs]:
        """Return what became of the unit's arithmetic, or of its other nodes for a light unit without arithmetic."""
        anchors = [self._ran[name] for name in unit.anchors if name in self._ran]
        return anchors if anchors or _is_heavy(unit) else [self._ran[name] for name in unit.nodes if name in self._ran]

    def host(self, unit: Unit, ran: RanAs) -> str | None:
        """Return another heavy unit that the same layer computes, or None."""
        return next((name for name in self._hosts.get(ran.layer, ()) if ran.layer and name != unit.name), None)

    def partner(self, unit: Unit, ran: RanAs) -> str:
        """Return the unit with the most arithmetic among the others in the same layer, or "" if there is none."""
        others = {self._home[name].name: self._home[name].macs for name in ran.beside if name in self._home}
        others.pop(unit.name, None)
        return max(sorted(others), key=others.__getitem__, default="")


def _judge(unit: Unit, wish: Precision, asked: Precision, why: str, layers: _Layers) -> UnitRan:
    seen, heavy = layers.of(unit), _is_heavy(unit)
    if not seen:
        return UnitRan(
            unit=unit.name,
            requested=wish,
            written=asked,
            ran=None,
            status=UnitStatus.GONE,
            heavy=heavy,
            macs=unit.macs,
            why=why,
        )
    ran = max(seen, key=lambda one: _suspicion(one, asked))
    host = layers.host(unit, ran)
    # Between two pairs a runtime may compute a light operator on the codes: the pairs say all that is rounded.
    on_codes = ran.quantized and ran.precision is None and not asked.is_quantized
    status = _status(ran, wish, asked, fused=not heavy and (host is not None or on_codes))
    return UnitRan(
        unit=unit.name,
        requested=wish,
        written=asked,
        ran=ran.precision,
        status=status,
        heavy=heavy,
        macs=unit.macs,
        layer=ran.layer,
        operator=ran.operator,
        tactic=ran.tactic,
        into=(host or layers.partner(unit, ran)) if status == UnitStatus.FUSED else "",
        refused=heavy and status == UnitStatus.NOT_HONOURED and not _fits(ran, asked),
        why=why,
    )


def _status(ran: RanAs, wish: Precision, asked: Precision, *, fused: bool) -> UnitStatus:
    if fused or (ran.precision is None and ran.layer):
        return UnitStatus.FUSED
    if not _fits(ran, asked):
        return UnitStatus.NOT_HONOURED
    return UnitStatus.HONOURED if asked is wish else UnitStatus.NOT_HONOURED


def _fits(ran: RanAs, asked: Precision) -> bool:
    """Return whether a node ran as asked. Without layers, a runtime only says whether it computes on 8-bit codes.

    Those are codes by calibrated ranges, since it says where it finds ranges itself.
    """
    told = ran.precision is not None or (asked.is_quantized and not asked.needs_ranges)
    return ran.precision is asked if told else ran.quantized == asked.is_quantized


def _suspicion(ran: RanAs, asked: Precision) -> tuple[bool, bool, int]:
    """Return a sort key by which one of several anchors stands for the unit: wrong before unknown before widest."""
    known = ran.precision is not None or not ran.layer
    return known and not _fits(ran, asked), not known, ran.precision.bits if ran.precision else 0


def _is_heavy(unit: Unit) -> bool:
    return unit.kind in _HEAVY and unit.macs > 0


def _mac_share(units: Iterable[UnitRan]) -> dict[str, float]:
    macs: dict[str, int] = {}
    for unit in units:
        if unit.macs:
            name = str(unit.ran or UNKNOWN)
            macs[name] = macs.get(name, 0) + unit.macs
    total = sum(macs.values())
    return {name: macs[name] / total for name in sorted(macs)}


def _record(unit: UnitRan) -> dict[str, Any]:
    record = {
        "requested": str(unit.requested),
        "written": str(unit.written),
        "ran": unit.ran and str(unit.ran),
        "status": unit.status.value,
        "macs": unit.macs,
        "layer": unit.layer,
        "operator": unit.operator,
        "tactic": unit.tactic,
        "into": unit.into,
        "why": unit.why,
    }
    return {key: value for key, value in record.items() if value != ""}
