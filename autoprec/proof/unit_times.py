"""The time of an engine by unit, together with the time of the whole engine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autoprec.backends.protocol import Backend, Clock, TimeProfile
from autoprec.precision import Array
from autoprec.proof.inspect import time_profile_of
from autoprec.proof.verification import UNKNOWN, UnitRan, UnitStatus, Verification
from autoprec.timing.compare import compare
from autoprec.units.records import Partition

_ROUNDS, _TURN_MS = 9, 50.0  # a single engine is timed, so there is time for longer turns than in a comparison


@dataclass(frozen=True, slots=True)
class UnitTimes:
    """The profile of one engine for one batch.

    Attributes:
        clock: whether all times were measured or modelled, and for which hardware.
        shapes: input name -> the shape of the batch.
        attribution: the milliseconds by unit and by boundary.
        engine_ms: the median latency of the whole engine without a profiler, in milliseconds.
    """

    clock: Clock
    shapes: Mapping[str, tuple[int, ...]]
    attribution: TimeProfile
    engine_ms: float

    @property
    def layers_over_engine(self) -> float:
        """The sum of the layers divided by the whole engine; above 1 if timing each layer by itself costs time."""
        return self.attribution.total_ms / self.engine_ms

    def share(self, milliseconds: float) -> float:
        """Return the share of these milliseconds in the sum of all layers."""
        total = self.attribution.total_ms
        return milliseconds / total if total else 0.0

    def units(self, verification: Verification) -> list[tuple[str, float, str]]:
        """Return (unit, milliseconds, precision that it ran in), the longest first.

        Units without a time of their own, such as fused ones, come last.
        """
        rows = [(u.unit, self.attribution.unit_ms.get(u.unit, 0.0), ran_in(u)) for u in verification.units]
        return sorted(rows, key=lambda row: -row[1])

    def boundaries(self) -> list[tuple[str, str, float]]:
        """Return (unit before, unit after, milliseconds), the longest first.

        An empty name stands for the beginning or the end of the network.
        """
        rows = [(before, after, ms) for (before, after), ms in self.attribution.boundary_ms.items() if ms > 0]
        return sorted(rows, key=lambda row: -row[2])

    def rest(self) -> list[tuple[str, float]]:
        """Return (layer, milliseconds) of what belongs to no unit and no boundary, the longest first."""
        return [(layer, ms) for layer, ms in self.attribution.rest if ms > 0]

    def to_record(self, verification: Verification) -> dict[str, Any]:
        """Return the times as plain JSON values; "clock" says whether all of them are measured or modelled."""
        return {
            "clock": self.clock.text,
            "shapes": {name: list(shape) for name, shape in self.shapes.items()},
            "units": [
                {"unit": unit, "ms": ms, "share": self.share(ms), "ran": ran}
                for unit, ms, ran in self.units(verification)
            ],
            "boundaries": [
                {"before": before, "after": after, "ms": ms, "share": self.share(ms)}
                for before, after, ms in self.boundaries()
            ],
            "rest": [{"layer": layer, "ms": ms, "share": self.share(ms)} for layer, ms in self.rest()],
            "attributed_share": self.attribution.share,
            "layers_ms": self.attribution.total_ms,
            "engine_ms": self.engine_ms,
            "layers_over_engine": self.layers_over_engine,
        }


def time_units(partition: Partition, backend: Backend, model: bytes, feed: Mapping[str, Array]) -> UnitTimes:
    """Profile a lowered model, and time it without the profiler.

    Args:
        partition: the units of the model.
        backend: the runtime.
        model: the lowered model, serialised.
        feed: the inputs of one batch by name.

    Raises:
        BackendError: the runtime refused the model or the batch, or it cannot profile.
    """
    profile = time_profile_of(partition, backend, model, feed)
    with backend.build(model) as engine:
        timing = compare({"engine": engine}, feed, rounds=(_ROUNDS, _ROUNDS), turn_ms=_TURN_MS)["engine"]
    shapes = {name: tuple(array.shape) for name, array in feed.items()}
    return UnitTimes(backend.clock, shapes, profile, timing.median_ms)


def ran_in(unit: UnitRan) -> str:
    """Return the precision that a unit ran in, or "unknown" if the engine does not tell."""
    if unit.ran is not None:
        return str(unit.ran)
    return str(unit.written) if unit.status == UnitStatus.HONOURED else UNKNOWN
