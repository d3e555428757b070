"""A measured plan: the record that the models learn from and that the answer is chosen from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from autoprec.files.json import finite_or_none, infinite_if_none
from autoprec.precision import Precision
from autoprec.study.goal import Goal
from autoprec.study.origin import Origin

Choices = Mapping[str, Sequence[Precision]]
"""Unit -> the precisions that it may take."""

_NEVER_NONE = ("drop", "judged_drop", "noise", "latency_ratio")
"""The figures of a measurement that are always numbers: a stored null stands for infinity, which JSON does not have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was measured of one plan on the selection samples.

    Attributes:
        drop: FP32's metric minus the plan's, with the sign that makes a positive drop a worse plan.
        judged_drop: the drop that the bound is compared with, see `autoprec.stats.drop`; NaN where nothing is bounded.
        noise: the noise-to-signal power ratio of the outputs; NaN where a study of the user's own does not say it.
        kl: the mean KL divergence from FP32 in nats, None for outputs that are no distributions.
        agreement: the share of top-1 decisions that equal FP32's, None likewise.
        latency_ratio: the latency over FP32's, measured in the same rounds; infinite for a plan over the bound that
            was not timed. For the objective throughput it is the time of one of several batches in flight.
        samples: the number of samples that the plan was judged on; None for all, fewer where they were enough.
        ratio_error: the standard error of the ratio over its rounds, None where it is not known.
        drop_error: the standard error of the judged drop, None likewise.
        bytes: the size of the built engine, or of the lowered model where the runtime builds no engine; None in older
            studies.
        layers_ms: unit -> milliseconds of its kernels and of the conversions of its inputs, by the runtime's own
            profile; None where there is no profile.
    """

    drop: float
    judged_drop: float
    noise: float
    kl: float | None
    agreement: float | None
    latency_ratio: float
    samples: int | None = None
    ratio_error: float | None = None
    drop_error: float | None = None
    bytes: float | None = None
    layers_ms: Mapping[str, float] | None = None

    @property
    def timed(self) -> bool:
        """Whether the latency was measured."""
        return math.isfinite(self.latency_ratio)

    def to_record(self) -> dict[str, Any]:
        """The measurement as JSON, with null for numbers that are not finite."""
        return {key: finite_or_none(value) for key, value in asdict(self).items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Measurement:
        """The measurement that `to_record` wrote."""
        figures: dict[str, Any] = {k: infinite_if_none(v) if k in _NEVER_NONE else v for k, v in record.items()}
        return cls(**figures)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the models predicted of a plan before it was measured.

    Attributes:
        latency: the latency relative to FP32's.
        noise: the noise of the outputs.
        drop: the judged drop.
    """

    latency: float
    noise: float
    drop: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One measured plan.

    Attributes:
        number: the number of the trial in its study, in the order in which trials began.
        origin: what proposed the plan, as a text that is stored and shown.
        plan: unit -> precision.
        measured: the figures that were measured.
        feasible: whether the plan meets the bounds.
        predicted: the figures that the models predicted; None for plans that no model proposed.
    """

    number: int
    origin: str
    plan: Mapping[str, Precision]
    measured: Measurement
    feasible: bool
    predicted: Prediction | None = field(default=None, compare=False)

    @property
    def uniform(self) -> bool:
        """Whether the plan has one precision wherever that is possible."""
        return Origin.of(self.origin).is_uniform

    @property
    def name(self) -> str:
        """The name of the plan among a run's candidates: uniform plans are called by their precision."""
        return self.origin if self.uniform else f"trial {self.number}"

    def cost(self, goal: Goal) -> tuple[float, float]:
        """What the goal minimises, and what decides between plans that are equal in it."""
        m = self.measured
        noise = m.noise if math.isfinite(m.noise) else math.inf
        return goal.cost(m.judged_drop, m.latency_ratio, m.bytes, noise)

    def short_of(self, goal: Goal) -> tuple[float, float, float]:
        """How far the plan is from meeting the goal's bounds: the plan with the least comes nearest."""
        return goal.short_of(self.measured.judged_drop, self.measured.latency_ratio)
