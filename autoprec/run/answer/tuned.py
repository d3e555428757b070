"""What a run came to: the chosen plan beside its rivals, all measured together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from autoprec.metrics.evaluator import Outcome
from autoprec.plan import Assignment
from autoprec.precision import Array
from autoprec.proof.verification import Verification
from autoprec.ranges.table import RangeTable
from autoprec.run.answer.blocking import Blocking
from autoprec.run.answer.luck import SelectionBias
from autoprec.run.task import Task
from autoprec.sensitivity.table import Sensitivities
from autoprec.stats.drop import Drop
from autoprec.study.goal import Goal
from autoprec.study.loop import SearchOutcome
from autoprec.timing.compare import Timing


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A plan on the report samples and by the clock.

    Attributes:
        name: "fp32", "uniform int8", "plan".
        plan: unit -> precision.
        outcome: on samples that chose nothing.
        drop: of the metric there, as well as it can be known.
        timing: in rounds shared with the other candidates; where throughput is the objective, with several batches
            in flight.
        size: bytes of the built engine, or of the lowered model where the runtime keeps none.
        alone: latencies of single batches, where `timing` is not of these.
    """

    name: str
    plan: Assignment
    outcome: Outcome
    drop: Drop
    timing: Timing
    size: int = 0
    alone: Timing | None = None

    @property
    def latency(self) -> Timing:
        """Of one batch at a time."""
        return self.timing if self.alone is None else self.alone


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneResult:
    """What a run came to.

    Attributes:
        task: what was asked.
        ranges: calibrated.
        profile: sensitivities.
        found: the search.
        chosen: the plan's name among `candidates`.
        candidates: FP32, the uniform plans and the plan, reported together.
        reference_scores: FP32's metric on each report sample.
        verification: what the runtime made of each unit of the chosen plan.
        simulated: the chosen plan in exact arithmetic on the report samples; None for FP32, and where outcomes are
            simulated anyway.
        seconds: stage -> seconds it took in this run.
        spent: what the search's plans cost in this run, and what was left out of them.
        left_out: what there was no time for, in words.
        left_s: seconds of the limit that were left for gathering evidence, infinite without a limit.
        blocking: which units keep every plan over the bound, None where some plan meets it.
        curse: what the answer owes to luck, None where nothing was chosen.
        goal: what was minimised, and the bounds.
        limit_ms: the bound on the latency in milliseconds, where it was given so.
        set_aside: finalists that met the bound by luck alone, as far as can be expected, in words.
    """

    task: Task
    ranges: RangeTable
    profile: Sensitivities
    found: SearchOutcome
    chosen: str
    candidates: Mapping[str, Candidate]
    reference_scores: Array
    verification: Verification
    simulated: Outcome | None
    seconds: Mapping[str, float]
    spent: Mapping[str, float] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    left_s: float = float("inf")
    blocking: Blocking | None = None
    curse: SelectionBias | None = None
    goal: Goal = field(default_factory=Goal)
    limit_ms: float | None = None
    set_aside: tuple[str, ...] = ()

    @property
    def plan(self) -> Assignment:
        """The chosen assignment."""
        return self.candidates[self.chosen].plan
