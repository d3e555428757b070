"""What was measured of plans, and how an Optuna study stores it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from optuna.trial import FrozenTrial

from autoprec.precision import Precision
from autoprec.study.goal import Goal
from autoprec.study.ledger.claims import measured
from autoprec.study.sampler import MEASUREMENT

ORIGIN = "origin"
Choices = Mapping[str, Sequence[Precision]]


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


def measured_trials(records: Sequence[FrozenTrial], choices: Choices, goal: Goal) -> list[Trial]:
    """The measured plans among Optuna's trials, in order."""
    return [measured_trial(record, choices, goal) for record in records if measured(record)]


def measured_trial(record: FrozenTrial, choices: Choices, goal: Goal) -> Trial:
    """What one of Optuna's trials says of its plan."""
    stored: dict[str, Any] = record.user_attrs[MEASUREMENT]
    found = Measurement(**{key: _number(key, value) for key, value in stored.items()})
    plan = plan_of_params(choices, record.params)
    feasible = goal.accepts(found.judged_drop, found.latency_ratio)
    return Trial(number=record.number, origin=record.user_attrs[ORIGIN], plan=plan, measured=found, feasible=feasible)


def as_stored(found: Measurement) -> dict[str, Any]:
    """A measurement as JSON, which knows no infinity."""
    values = asdict(found)
    return {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}


def plan_of_params(choices: Choices, params: Mapping[str, Any]) -> dict[str, Precision]:
    """Unit -> precision; units with one choice are no parameters."""
    return {unit: options[0] if len(options) == 1 else Precision(params[unit]) for unit, options in choices.items()}


def _number(key: str, value: Any) -> Any:
    if value is None and key not in ("kl", "agreement", "samples", "ratio_error", "drop_error", "bytes", "layers_ms"):
        return float("inf")
    return value
