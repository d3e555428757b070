"""What the plans of a search have cost, and what was saved."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(kw_only=True)
class Spent:
    """The time that was spent on plans, and what was saved.

    Attributes:
        build_s: the seconds that the builds of all plans took.
        least_build_s: the seconds of the shortest build, 0 before the first one.
        evaluate_s: the seconds that the evaluation of all plans took.
        clock_s: the seconds that the timing of all plans took.
        plans: the number of plans that were measured.
        samples: the number of samples that were evaluated.
        cut: the number of plans that were judged on fewer samples.
        untimed: the number of plans that were not timed.
        batch_ms: the latency of FP32 for one batch when it was last timed, in milliseconds.
    """

    build_s: float = 0.0
    least_build_s: float = 0.0
    evaluate_s: float = 0.0
    clock_s: float = 0.0
    plans: int = 0
    samples: int = 0
    cut: int = 0
    untimed: int = 0
    batch_ms: float = 0.0

    def built(self, seconds: float) -> None:
        """Add the seconds that a build took."""
        self.least_build_s = min(self.least_build_s, seconds) if self.build_s else seconds
        self.build_s += seconds
