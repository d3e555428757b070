"""Plans with their latencies and profiles, as the tests of the latency model make and read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoprec.plan import Assignment
from autoprec.study.guide.fitting import LatencyFit
from autoprec.study.guide.layers import Layers
from autoprec.study.guide.pricing import Pricing


@dataclass(frozen=True)
class Timed:
    """A plan that was timed, and perhaps profiled."""

    plan: Assignment
    latency: float
    layers_ms: Mapping[str, float] | None = None


def fitted(pricing: Pricing, timed: Sequence[Timed]) -> LatencyFit:
    """The latency model of these plans."""
    latencies = np.array([t.latency for t in timed])
    return LatencyFit(pricing, [t.plan for t in timed], latencies, [t.layers_ms for t in timed])


def layers_of(pricing: Pricing, profiled: Sequence[Timed]) -> Layers:
    """What the profiles of these plans say, all of which have one."""
    latencies = np.array([t.latency for t in profiled])
    return Layers(pricing, [t.plan for t in profiled], latencies, [t.layers_ms or {} for t in profiled])
