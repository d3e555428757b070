"""What a search is for: the figure that it makes as small as it can, and the bounds that its answer meets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from autoprec.precision import Precision

Objective = Literal["latency", "throughput", "size", "accuracy"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
TIMES: tuple[Objective, ...] = ("latency", "throughput")
"""Those of them that are a time."""

_GAIN = 0.98
"""A cost is surely lower if it is at most this share of another one."""
_BETTER = {"latency": "faster", "throughput": "of higher throughput", "size": "smaller", "accuracy": "more accurate"}


@dataclass(frozen=True, slots=True)
class Goal:
    """One figure to minimise under bounds on others.

    Times are relative to the clock's unit, which is the latency of the uniform plan of one precision: of one batch
    alone, or, where throughput is the objective, of one of several batches in flight, which is the inverse of the
    throughput.

    Attributes:
        objective: the figure that is minimised: time, bytes, or the drop.
        max_drop: the most drop, infinite where there is no bound.
        max_latency: the most time as a share of the clock's unit, infinite likewise.
        unit: the precision of the clock's unit: FP32, or another one where FP32's engine would take long to build.
    """

    objective: Objective = "latency"
    max_drop: float = math.inf
    max_latency: float = math.inf
    unit: Precision = Precision.FP32

    @property
    def unit_text(self) -> str:
        """The clock's unit, as a text: "FP32"."""
        return self.unit.value.upper()

    def accepts(self, drop: float, latency: float) -> bool:
        """Whether a plan meets the bounds, and its outputs are not worthless.

        A drop that is NaN was not judged, and the plan is accepted by its latency alone.
        """
        return drop != math.inf and not drop > self.max_drop and latency <= self.max_latency

    def cost(self, drop: float, latency: float, size: float | None, noise: float) -> tuple[float, float]:
        """What is minimised, and what decides between plans that are equal in it.

        A drop below 0 is luck and counts as 0. Of equally accurate plans the one whose outputs are nearest to FP32's
        is better, of equally large ones the faster.
        """
        if self.objective == "size":
            return math.inf if size is None else float(size), latency
        if self.objective == "accuracy":
            return max(drop, 0.0), noise
        return latency, drop

    def short_of(self, drop: float, latency: float) -> tuple[float, float, float]:
        """How far a plan is from meeting the bounds: of several plans the least value comes nearest."""
        excess = max(drop - self.max_drop, 0.0)
        return (excess, latency, drop) if math.isfinite(self.max_latency) else (drop, latency, 0.0)

    @property
    def timed(self) -> bool:
        """Whether a time is minimised."""
        return self.objective in TIMES

    @property
    def better(self) -> str:
        """What a better plan is, as a text: "faster", and so on."""
        return _BETTER[self.objective]

    @property
    def bounds(self) -> str:
        """How to speak of the bounds, as a text: "the bound" or "the bounds"."""
        return "the bounds" if math.isfinite(self.max_drop) and math.isfinite(self.max_latency) else "the bound"


def goal_of(goal: Goal | float) -> Goal:
    """The goal; a number is the most drop of the fastest plan."""
    return goal if isinstance(goal, Goal) else Goal(max_drop=goal)


def improves(cost: Sequence[float], best: Sequence[float]) -> bool:
    """Whether a cost is surely lower: by 2 % in the first figure in which the two are not equal."""
    for one, other in zip(cost, best, strict=True):
        if other == math.inf > one or one <= _GAIN * other < other:
            return True
        if one != other:
            return False
    return False
