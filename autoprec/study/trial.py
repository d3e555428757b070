"""A measured plan: the record that the models learn from and that the answer is chosen from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autoprec.precision import Precision

Choices = Mapping[str, Sequence[Precision]]
"""Unit -> the precisions that it may take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was measured of one plan on the selection samples.

    Attributes:
        drop: FP32's metric minus the plan's, by direction: positive = worse.
        judged_drop: the drop that the bound is compared with, see `autoprec.stats.drop`.
        noise: noise-to-signal power ratio of the outputs.
        kl: mean KL divergence from FP32 in nats, None for outputs that are no distributions.
        agreement: share of equal top-1 decisions with FP32, None likewise.
        latency_ratio: latency over FP32's, measured in the same rounds; infinite where a plan over the bound was not
            timed. Where throughput is the objective, the time of one of several batches in flight.
        samples: that it was judged on, None for all: fewer where the verdict was certain before.
        ratio_error: standard error of the ratio, by its rounds; None where it is not known.
        drop_error: standard error of the judged drop, likewise.
        bytes: of the built engine, or of the lowered model where the runtime builds none; None in older studies.
        layers_ms: unit -> milliseconds of its kernels and of what converts for it, by the runtime's own profile; None
            where there is none.
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
    bytes: int | None = None
    layers_ms: Mapping[str, float] | None = None

    @property
    def timed(self) -> bool:
        """Whether its latency was measured."""
        return math.isfinite(self.latency_ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One measured plan.

    Attributes:
        number: in order of measurement.
        origin: what proposed it.
        plan: unit -> precision.
        measured: what was found.
        feasible: whether it meets the bounds.
    """

    number: int
    origin: str
    plan: Mapping[str, Precision]
    measured: Measurement
    feasible: bool
