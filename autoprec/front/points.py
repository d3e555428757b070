"""A measured plan as a point of a run's front, and what a bound chooses among such points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from autoprec.study.trial import Trial

Cost = Literal["latency", "size"]
"""What a front may have beside the drop. In a run for throughput the latency is the time of one batch among several."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A trial with what is known of it without measuring again.

    Attributes:
        trial: the trial, which was measured on selection samples.
        samples: the number of these samples.
        size: the bytes of the built engine, or of the lowered model where the runtime keeps no engine.
        mac_share: precision -> share of all multiply-accumulates.
        latency_ms: the latency of one batch, which is the ratio times FP32's latency in the run's last rounds; None
            where it is not known.
        confirmed: whether the plan is the run's answer, which was measured on fresh samples too.
    """

    trial: Trial
    samples: int
    size: int
    mac_share: Mapping[str, float]
    latency_ms: float | None
    confirmed: bool

    @property
    def drop(self) -> float:
        """The drop that bounds are compared with."""
        return self.trial.measured.judged_drop

    @property
    def name(self) -> str:
        """The plan's name among the run's candidates."""
        return self.trial.name

    def cost(self, objective: Cost) -> float:
        """What is minimised: latency over FP32's, infinite where it was not timed, or bytes."""
        return self.trial.measured.latency_ratio if objective == "latency" else self.size

    @property
    def costs(self) -> tuple[float, float, float]:
        """Latency, drop and bytes."""
        return self.cost("latency"), self.drop, self.cost("size")

    def to_record(self) -> dict[str, Any]:
        """The point as JSON; numbers that are not finite become null when it is written."""
        trial, measured = self.trial, self.trial.measured
        return {
            "trial": trial.number,
            "origin": trial.origin,
            "latency_ratio": measured.latency_ratio,
            "latency_ms": self.latency_ms,
            "drop": self.drop,
            "counted_drop": measured.drop,
            "basis": "selection samples",
            "samples": self.samples,
            "noise": measured.noise,
            "kl": measured.kl,
            "agreement": measured.agreement,
            "bytes": self.size,
            "mac_share": dict(self.mac_share),
            "feasible": trial.feasible,
            "confirmed": self.confirmed,
        }


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a bound chooses.

    Attributes:
        point: the chosen plan, None where none meets the bound.
        nearest: the plan that comes nearest to the bound, None where every plan is worthless.
        text: the bound, for people.
    """

    point: Point | None
    nearest: Point | None
    text: str

    @property
    def words(self) -> str:
        """The bound, by the name that this attribute had before."""
        return self.text
