"""How much worse than its baseline a model may be."""

from __future__ import annotations

import math
from dataclasses import dataclass

from autoprec.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of what is still fine.

    Attributes:
        max_drop: the most that the metric may fall below the baseline's, in its own unit; None allows half of what the
            tune allowed against FP32, so that a plan that used all of it cannot use it twice, but no less than so
            many decisions can show (3 of all samples, by the rule of three).
        max_slowdown: the share of the latency that the plan may be slower by, 0.05 for 5 %.
        max_size: the share that the lowered model may grow by, 0.1 for 10 %; None does not judge the size.
        max_bytes: the most bytes of the lowered model, whatever the baseline's has; None for no such bound.
        max_range_bits: the most bits of resolution that the committed ranges may cost any value, against fresh ones.
        latency_required: whether a latency that cannot be judged here keeps the gate from passing.
    """

    max_drop: float | None = None
    max_slowdown: float = 0.05
    max_size: float | None = 0.1
    max_bytes: int | None = None
    max_range_bits: float = 1.0
    latency_required: bool = False

    def __post_init__(self) -> None:
        """Refuse what is no bound.

        Raises:
            UsageError: a bound is below 0 or no number.
        """
        for name in ("max_drop", "max_slowdown", "max_size", "max_bytes", "max_range_bits"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UsageError(f"--{name.replace('_', '-')} must be a number from 0 on, got {value!r}")
