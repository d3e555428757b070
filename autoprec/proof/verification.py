"""Whether each unit runs as it was asked to: the plan beside what the runtime says of the engine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from autoprec.backends.protocol import RanAs
from autoprec.precision import Precision
from autoprec.units.records import Partition, Unit

Status = Literal["honoured", "fused", "not honoured", "gone"]
STATUSES: tuple[Status, ...] = ("honoured", "fused", "not honoured", "gone")
UNKNOWN = "unknown"
"""The share of multiply-accumulates whose precision the engine does not tell."""

_HEAVY = ("conv", "matmul", "attention")


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRan:
    """One unit: asked and found.

    Attributes:
        unit: its name.
        requested: in the plan.
        written: what the lowered model asks of the runtime; differs from `requested` where `why` says so.
        ran: what its arithmetic really runs in; None where the engine does not tell.
        status: "honoured"; "fused" into a layer that computes in several precisions or belongs to another unit, so
            that the unit has none of its own; "not honoured"; or "gone" from the engine, as constants go.
        heavy: whether it is a unit with multiply-accumulates, so that its precision matters.
        macs: multiply-accumulates for one sample.
        layer: the runtime's own name for what computes it.
        operator: the kind of that layer.
        tactic: the kernel chosen for it.
        into: the unit that it was fused into, "" where it was not or where the layer has no other.
        refused: whether the unit is heavy and the runtime runs it in another precision than the model asks for.
        why: why the plan was not even written into the model, "" where it was.
    """

    unit: str
    requested: Precision
    written: Precision
    ran: Precision | None
    status: Status
    heavy: bool
    macs: int
    layer: str = ""
    operator: str = ""
    tactic: str = ""
    into: str = ""
    refused: bool = False
    why: str = ""

    def describe(self) -> str:
        """One sentence for people."""
        place = f"layer {self.layer!r}" + (f", tactic {self.tactic}" if self.tactic else "")
        if self.status == "honoured":
            return f"{self.unit} runs in {self.requested}: {place}"
        if self.status == "gone":
            return f"{self.unit} was asked for in {self.requested}, but the engine speaks of none of its nodes"
        if self.status == "fused":
            other = f" of {self.into}" if self.into else ""
            return f"{self.unit} was asked for in {self.requested} and is fused into {place}{other}"
        ran = self.ran or ("a float type" if self.written.is_quantized else "8 bits")
        because = f" ({self.why})" if self.why else ""
        return f"{self.unit} was asked for in {self.requested} but runs in {ran}{because}: {place}"


@dataclass(frozen=True, slots=True)
class Verification:
    """All units of one engine, in the partition's order.

    Attributes:
        units: asked and found.
        mac_share: precision -> share of all multiply-accumulates that run in it; the rest is "unknown".
    """

    units: tuple[UnitRan, ...]
    mac_share: Mapping[str, float] = field(default_factory=dict)

    @property
    def refused(self) -> tuple[UnitRan, ...]:
        """Units whose precision matters and is not what was asked: these are the reason to fail."""
        return tuple(unit for unit in self.units if unit.refused)

    @property
    def unproven(self) -> tuple[UnitRan, ...]:
        """Units whose precision matters and of which the engine tells nothing."""
        return tuple(unit for unit in self.units if unit.heavy and unit.status in ("fused", "gone"))

    @property
    def counts(self) -> dict[str, int]:
        """Status -> how many units."""
        return {status: sum(unit.status == status for unit in self.units) for status in STATUSES}

    def complaint(self) -> str | None:
        """What to tell the user where a requested precision did not run and it matters; None where all is well."""
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
        """As JSON."""
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
        requested: unit name -> precision in the plan; units not named are FP32.
        ran: node name -> what it became, for all nodes of the units that the runtime speaks of.
        written: unit name -> what the lowered model asks for (`autoprec.lowering.placement.quantized_macs`), by
            default what the plan says. Where the two differ the unit is not honoured, but the runtime is not to blame.
        skipped: unit name -> why its precision was not written (`Placement.skipped`).
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
    """What the runtime says of each node, and which units share a layer."""

    def __init__(self, partition: Partition, ran: Mapping[str, RanAs]) -> None:
        self._ran = ran
        self._home = {node: unit for unit in partition.units for node in unit.nodes}
        self._hosts: dict[str, list[str]] = {}
        for unit in partition.units:
            if _is_heavy(unit):
                for layer in dict.fromkeys(ran[name].layer for name in unit.anchors if name in ran):
                    self._hosts.setdefault(layer, []).append(unit.name)

    def of(self, unit: Unit) -> list[RanAs]:
        """What its arithmetic became; for a light unit without any, what became of its other nodes."""
        anchors = [self._ran[name] for name in unit.anchors if name in self._ran]
        return anchors if anchors or _is_heavy(unit) else [self._ran[name] for name in unit.nodes if name in self._ran]

    def host(self, unit: Unit, ran: RanAs) -> str | None:
        """The other heavy unit whose arithmetic the same layer does."""
        return next((name for name in self._hosts.get(ran.layer, ()) if ran.layer and name != unit.name), None)

    def partner(self, unit: Unit, ran: RanAs) -> str:
        """The unit with the most arithmetic among the others in the same layer, "" where there is none."""
        others = {self._home[name].name: self._home[name].macs for name in ran.beside if name in self._home}
        others.pop(unit.name, None)
        return max(sorted(others), key=others.__getitem__, default="")


def _judge(unit: Unit, wish: Precision, asked: Precision, why: str, layers: _Layers) -> UnitRan:
    seen, heavy = layers.of(unit), _is_heavy(unit)
    if not seen:
        return UnitRan(
            unit=unit.name, requested=wish, written=asked, ran=None, status="gone", heavy=heavy, macs=unit.macs, why=why
        )
    ran = max(seen, key=lambda one: _suspicion(one, asked))
    host = layers.host(unit, ran)
    status = _status(ran, wish, asked, fused=not heavy and host is not None)
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
        into=(host or layers.partner(unit, ran)) if status == "fused" else "",
        refused=heavy and status == "not honoured" and not _fits(ran, asked),
        why=why,
    )


def _status(ran: RanAs, wish: Precision, asked: Precision, *, fused: bool) -> Status:
    if fused or (ran.precision is None and ran.layer):
        return "fused"
    if not _fits(ran, asked):
        return "not honoured"
    return "honoured" if asked is wish else "not honoured"


def _fits(ran: RanAs, asked: Precision) -> bool:
    """A runtime without layers, such as ONNX Runtime, only says whether a node computes on codes."""
    return ran.quantized == asked.is_quantized if ran.precision is None else ran.precision is asked


def _suspicion(ran: RanAs, asked: Precision) -> tuple[bool, bool, int]:
    """Of several anchors the one that speaks for the unit: a wrong one before an unknown one before the widest."""
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
        "status": unit.status,
        "macs": unit.macs,
        "layer": unit.layer,
        "operator": unit.operator,
        "tactic": unit.tactic,
        "into": unit.into,
        "why": unit.why,
    }
    return {key: value for key, value in record.items() if value != ""}
