"""A plan on samples and in rounds that chose nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from autoprec.metrics.outcome import Outcome
from autoprec.plan import Assignment
from autoprec.stats.drop import Drop
from autoprec.timing.compare import Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A plan on held-out samples, and timed beside the other candidates.

    Attributes:
        name: "uniform fp32", "uniform int8", "trial 7".
        plan: unit -> precision.
        outcome: the scores and the fidelity on the report samples, which chose nothing.
        drop: the drop of the metric on these samples, with its interval.
        timing: the latency in rounds that all candidates shared; where throughput is the objective, with several
            batches in flight.
        size: the bytes of the built engine, or of the lowered model where the runtime keeps no engine.
        uniform: whether it is one of the uniform plans.
        alone: the latency of single batches, where `timing` is with several in flight.
        elsewhere: situation -> the latency there, for the situations that do not count in the search.
        overflows: whether the outcome is that of exact arithmetic, since only this gives NaN or infinity.
    """

    name: str
    plan: Assignment
    outcome: Outcome
    drop: Drop
    timing: Timing
    size: int = 0
    uniform: bool = False
    alone: Timing | None = None
    elsewhere: Mapping[str, Timing] = field(default_factory=dict)
    overflows: bool = False

    @property
    def latency(self) -> Timing:
        """The latency of one batch at a time."""
        return self.timing if self.alone is None else self.alone
