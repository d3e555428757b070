"""The limits of a gate: how much worse than its baseline a model may be."""

from __future__ import annotations

import math
from dataclasses import dataclass

from autoprec.errors import UsageError


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits within which a model is still fine.

    Attributes:
        max_drop: the largest drop of the metric against the baseline's plan, in the unit of the metric. None allows
            half of what the tune allowed against FP32, so that a plan that used all of it cannot use it twice. For
            decisions it is no less than so many samples can show: 3 of all samples, by the rule of three.
        max_slowdown: the share by which the latency may grow, such as 0.05 for 5 %.
        max_size: the share by which the lowered model may grow, such as 0.1 for 10 %; None does not judge the size.
        max_bytes: the most bytes of the lowered model, whatever the baseline has; None for no such bound.
        max_range_bits: the most bits of resolution that the committed ranges may cost any value, against fresh ranges.
        latency_required: whether the gate must not pass if the latency cannot be judged here.
    """

    max_drop: float | None = None
    max_slowdown: float = 0.05
    max_size: float | None = 0.1
    max_bytes: int | None = None
    max_range_bits: float = 1.0
    latency_required: bool = False

    def __post_init__(self) -> None:
        """Check the limits.

        Raises:
            UsageError: a limit is below 0 or is not a number.
        """
        for name in ("max_drop", "max_slowdown", "max_size", "max_bytes", "max_range_bits"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UsageError(f"--{name.replace('_', '-')} must be a number from 0 on, got {value!r}")
