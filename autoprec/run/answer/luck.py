"""The winner's curse of a run: what its answer owes to luck, beside what fresh rounds and samples say of it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np

from autoprec.precision import Array, Precision
from autoprec.run.uniform import FP32_PLAN
from autoprec.stats.drop import Drop
from autoprec.stats.optimism import Choice, Correction, Seen, expected_optimism
from autoprec.study.loop import FINALISTS, SearchOutcome
from autoprec.study.trial import Trial
from autoprec.timing.compare import Timing

_SHARED, _MOST_SHARED = 0.1, 0.95
"""Correlation of two plans' losses where it is not known yet (measured: 0.09 on ResNet-20), and the most that is
believed."""
_LEAST_ERROR = 1e-6  # of a clock that seems to be exact: only FP32's ratio to itself is
_PRIOR_TRIALS = 5
"""What the rounds say of their own noise counts as much as so many plans that were timed twice."""


class Rechecked(Protocol):
    """The answer on fresh samples and in fresh rounds."""

    @property
    def plan(self) -> Mapping[str, Precision]:
        """Unit -> precision."""

    @property
    def drop(self) -> Drop:
        """Of the metric."""

    @property
    def timing(self) -> Timing:
        """In rounds shared with FP32."""


@dataclass(frozen=True, slots=True)
class SelectionBias:
    """The answer's latency and drop, corrected for having been chosen.

    Attributes:
        plans: that were in the running: measured, and within the bound.
        latency: over FP32's.
        drop: of the metric.
    """

    plans: int
    latency: Correction
    drop: Correction

    def to_record(self) -> dict[str, Any]:
        """As JSON."""
        return {"plans": self.plans, "latency": self.latency.to_record(), "drop": self.drop.to_record()}


def selection_bias_of(
    found: SearchOutcome,
    chosen: Rechecked,
    timings: Mapping[str, Timing],
    names: Mapping[int, str],
    limit: float,
    confidence: float | None,
    shared: float | None,
    seed: int,
) -> SelectionBias | None:
    """What the answer owes to luck; None where nothing was chosen: FP32, or no plan met the bound.

    Args:
        found: the search.
        chosen: the answer, on fresh samples.
        timings: of the finalists, side by side.
        names: trial number -> name among the timings.
        limit: the bound.
        confidence: that plans were accepted at.
        shared: correlation of two plans' losses sample by sample, None where it is not known.
        seed: of the draws.
    """
    timed = _timed(found)
    index = next((n for n, t in enumerate(timed) if dict(t.plan) == dict(chosen.plan)), None)
    seen = _all_seen(timed, timings, names, confidence)
    if not found.feasible or index is None or not seen[index].cost_error:
        return None
    base, ratio = timings[FP32_PLAN], chosen.timing.ratio_to(timings[FP32_PLAN]).estimate
    fresh_error = chosen.timing.error_to(base)
    share = _SHARED if shared is None else float(np.clip(shared, 0.0, _MOST_SHARED))
    luck = expected_optimism(seen, Choice(limit, FINALISTS, fresh_error / ratio, share), seed)
    winner, drop_error = seen[index], chosen.drop.error(confidence or 0.95) or 0.0
    return SelectionBias(
        sum(t.feasible for t in timed),
        Correction(
            selected=winner.cost,
            optimism=luck.cost,
            fresh=ratio,
            fresh_optimism=luck.fresh_cost,
            error=math.hypot(winner.cost_error, fresh_error),
        ),
        Correction(
            selected=winner.limited,
            optimism=luck.limited,
            fresh=chosen.drop.estimate,
            fresh_optimism=0.0,
            error=math.hypot(winner.limited_error, drop_error),
        ),
    )


def drop_luck(
    found: SearchOutcome, timings: Mapping[str, Timing], names: Mapping[int, str], limit: float, seed: int
) -> float:
    """By how much the drop of the fastest plan that meets the bound is expected to look better than it is.

    Args:
        found: the search.
        timings: of the finalists, side by side.
        names: trial number -> name among the timings.
        limit: the bound.
        seed: of the draws.
    """
    base = timings[FP32_PLAN]
    ratios = [timing.error_to(base) / timing.ratio_to(base).estimate for n, timing in timings.items() if n != FP32_PLAN]
    fresh = float(np.median(ratios)) if ratios else 0.0
    seen = _all_seen(_timed(found), timings, names, None)
    return expected_optimism(seen, Choice(limit, FINALISTS, fresh, _SHARED), seed).limited


def shared_noise(losses: Sequence[Array]) -> float | None:
    """How plans' losses go together sample by sample: the median correlation; None where there are not two of them."""
    varied = [loss for loss in losses if np.ptp(loss) > 0]
    if len(varied) < 2:
        return None
    found = np.corrcoef(varied)
    return float(np.median(found[np.triu_indices(len(varied), 1)]))


def _timed(found: SearchOutcome) -> list[Trial]:
    return [t for t in found.trials if t.measured.timed and math.isfinite(t.measured.judged_drop)]


def _all_seen(
    timed: Sequence[Trial], timings: Mapping[str, Timing], names: Mapping[int, str], confidence: float | None
) -> list[Seen]:
    """What the choice saw of each of these trials."""
    steps = 0.0 if confidence is None else NormalDist().inv_cdf((1 + confidence) / 2)
    known = [t.measured.drop_error for t in timed if t.measured.drop_error]
    usual = float(np.median(known)) if known else 0.0
    errors = _ratio_errors(timed, timings, names)
    return [_seen(t, error, steps, usual) for t, error in zip(timed, errors, strict=True)]


def _seen(trial: Trial, error: float, steps: float, usual: float) -> Seen:
    """A trial as the choice saw it; judged by the upper end of an interval, its estimate lies below that."""
    m = trial.measured
    drop_error = 0.0 if error == 0 else usual if m.drop_error is None else m.drop_error
    margin = steps * drop_error
    return Seen(
        cost=m.latency_ratio,
        cost_error=error,
        limited=m.judged_drop - margin,
        limited_error=drop_error,
        margin=margin,
        always=trial.uniform,
    )


def _ratio_errors(timed: Sequence[Trial], timings: Mapping[str, Timing], names: Mapping[int, str]) -> list[float]:
    """The standard error of each trial's latency ratio; 0 for FP32.

    Rounds of one engine do not show by how much another engine of the same plan would differ; finalists, built and
    timed twice, do.
    """
    rounds = [t.measured.ratio_error / t.measured.latency_ratio for t in timed if t.measured.ratio_error]
    base = timings[FP32_PLAN]
    twice = [t for t in timed if t.number in names and names[t.number] != FP32_PLAN]
    fresh = {t.number: timings[names[t.number]] for t in twice}
    apart = [math.log(t.measured.latency_ratio / fresh[t.number].ratio_to(base).estimate) for t in twice]
    variance, weight = float(np.median(rounds)) ** 2 if rounds else 0.0, float(_PRIOR_TRIALS if rounds else 0)
    if len(apart) >= 2:
        again = np.mean([timing.error_to(base) ** 2 / timing.ratio_to(base).estimate ** 2 for timing in fresh.values()])
        pairs = max(float(np.var(apart, ddof=1) - again), 0.0)
        degrees = len(apart) - 1
        variance, weight = (weight * variance + degrees * pairs) / (weight + degrees), weight + degrees
    relative = max(math.sqrt(variance), _LEAST_ERROR)
    exact = [all(p is Precision.FP32 for p in t.plan.values()) for t in timed]
    return [0.0 if same else relative * t.measured.latency_ratio for t, same in zip(timed, exact, strict=True)]
