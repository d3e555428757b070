"""What the answer owes to luck, beside what fresh rounds and samples say of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from autoprec.precision import Array
from autoprec.run.answer.candidate import Candidate
from autoprec.run.answer.side_by_side import SideBySide
from autoprec.run.settings import Settings
from autoprec.stats.optimism import Correction, NoisyFigures, Optimism, Selection, expected_optimism
from autoprec.study.outcome import FINALISTS, SearchOutcome
from autoprec.study.trial import Trial

_SHARED, _MOST_SHARED = 0.1, 0.95
"""The correlation of two plans' losses where it is not known yet (0.09 was measured on ResNet-20), and the highest one
that is believed."""
_LEAST_ERROR = 1e-6  # Even a clock that seems exact has some noise; only FP32's ratio to itself has none.
_PRIOR_TRIALS = 5
"""The noise that the rounds show counts as much as that of this many plans that were timed twice."""
_WORTH_ROOM = 1.05
"""A plan likely to meet the bound on other samples too is preferred if it is at most this much slower than the fastest
one."""


@dataclass(frozen=True, slots=True)
class SelectionBias:
    """The answer's latency and drop, corrected for the luck that helped it to be chosen.

    Attributes:
        plans: the number of timed plans within the bound, from which it was chosen.
        latency: the correction of the latency over the clock's unit.
        drop: the correction of the metric's drop.
    """

    plans: int
    latency: Correction
    drop: Correction

    def to_record(self) -> dict[str, Any]:
        """The bias as JSON."""
        return {"plans": self.plans, "latency": self.latency.to_record(), "drop": self.drop.to_record()}


def selection_bias_of(
    found: SearchOutcome, chosen: Candidate, side: SideBySide, settings: Settings, shared: float | None
) -> SelectionBias | None:
    """What the answer owes to luck; None where nothing was chosen: the answer is FP32, or no plan met the bound.

    None also for other objectives than the latency: the luck of their answers is not modelled.

    Args:
        found: the search.
        chosen: the answer, on held-out samples.
        side: what the shared rounds showed.
        settings: say the bound and the confidence that plans were accepted at.
        shared: the correlation of two plans' losses sample by sample, None where it is not known.
    """
    if settings.aim != "latency":
        return None
    timed = _timed(found)
    index = next((n for n, t in enumerate(timed) if dict(t.plan) == dict(chosen.plan)), None)
    figures = _figures(timed, side, settings.confidence)
    if not found.feasible or index is None or not figures.cost_error[index]:
        return None
    ratio, fresh_error = chosen.timing.ratio_to(side.unit_timing).estimate, chosen.timing.error_to(side.unit_timing)
    share = _SHARED if shared is None else float(np.clip(shared, 0.0, _MOST_SHARED))
    luck = _optimism(figures, settings.max_drop, fresh_error / ratio, share, seed=settings.seed)
    drop_error = chosen.drop.error(settings.confidence or 0.95) or 0.0
    return SelectionBias(
        sum(t.feasible for t in timed),
        Correction(
            selected=float(figures.cost[index]),
            optimism=luck.cost,
            fresh=ratio,
            fresh_optimism=luck.fresh_cost,
            error=math.hypot(figures.cost_error[index], fresh_error),
        ),
        Correction(
            selected=float(figures.limited[index]),
            optimism=luck.limited,
            fresh=chosen.drop.estimate,
            fresh_optimism=0.0,
            error=math.hypot(figures.limited_error[index], drop_error),
        ),
    )


def without_lucky(found: SearchOutcome, side: SideBySide, settings: Settings) -> tuple[SideBySide, tuple[str, ...]]:
    """The finalists without those that met the bound here but are expected to miss it on other samples.

    Uniform plans stay, since they were not picked out of many; where the user asked for a confidence, all stay, since
    intervals leave room. The expectation is uncertain itself, so it is followed only where that costs little latency.

    Returns:
        What is left, and one sentence for each finalist that was set aside.
    """
    if settings.confidence is not None or settings.aim != "latency":
        return side, ()
    bound = settings.max_drop
    luck = max(_drop_luck(found, side, bound, settings.seed), 0.0)
    left = [name for name in side.trials if name in side.uniform or side.drop(name) + luck <= bound]
    fastest, rest = (min((side.ms(name) for name in names), default=math.inf) for names in (side.trials, left))
    if rest > _WORTH_ROOM * fastest:
        return side, ()
    aside = tuple(
        f"{name}: its drop was {side.drop(name):.4f} in the search, but about {side.drop(name) + luck:.4f} is expected "
        f"on other samples, since the best of many plans looks better than it is; at most {bound:g} is allowed"
        for name in side.trials
        if name not in left
    )
    return side.only(left), aside


def shared_noise(losses: Sequence[Array]) -> float | None:
    """How far the losses of plans go together sample by sample: the median correlation; None for fewer than two."""
    varied = [loss for loss in losses if np.ptp(loss) > 0]
    if len(varied) < 2:
        return None
    found = np.corrcoef(varied)
    return float(np.median(found[np.triu_indices(len(varied), 1)]))


def _drop_luck(found: SearchOutcome, side: SideBySide, limit: float, seed: int) -> float:
    """By how much the drop of the fastest plan that meets the bound is expected to look better than it is."""
    others = [timing for name, timing in side.timings.items() if name != side.unit]
    ratios = [timing.error_to(side.unit_timing) / timing.ratio_to(side.unit_timing).estimate for timing in others]
    fresh = float(np.median(ratios)) if ratios else 0.0
    return _optimism(_figures(_timed(found), side, None), limit, fresh, _SHARED, seed=seed).limited


def _optimism(figures: NoisyFigures, limit: float, fresh_error: float, shared: float, *, seed: int) -> Optimism:
    selection = Selection(limit=limit, finalists=FINALISTS, fresh_error=fresh_error, shared=shared)
    return expected_optimism(figures, selection, seed)


def _timed(found: SearchOutcome) -> list[Trial]:
    return [t for t in found.trials if t.measured.timed and math.isfinite(t.measured.judged_drop)]


def _figures(timed: Sequence[Trial], side: SideBySide, confidence: float | None) -> NoisyFigures:
    """What the choice saw of each of these trials.

    A plan judged by the upper end of an interval has its estimate below that, by the margin.
    """
    steps = 0.0 if confidence is None else NormalDist().inv_cdf((1 + confidence) / 2)
    known = [t.measured.drop_error for t in timed if t.measured.drop_error]
    usual = float(np.median(known)) if known else 0.0
    cost_errors = _ratio_errors(timed, side)
    drop_errors = np.array(
        [
            0.0 if error == 0 else usual if t.measured.drop_error is None else t.measured.drop_error
            for t, error in zip(timed, cost_errors, strict=True)
        ]
    )
    margins = steps * drop_errors
    return NoisyFigures(
        cost=np.array([t.measured.latency_ratio for t in timed]),
        cost_error=np.array(cost_errors),
        limited=np.array([t.measured.judged_drop for t in timed]) - margins,
        limited_error=drop_errors,
        margin=margins,
        always=np.array([t.uniform for t in timed]),
    )


def _ratio_errors(timed: Sequence[Trial], side: SideBySide) -> list[float]:
    """The standard error of each trial's latency ratio; 0 for the clock's unit.

    The rounds of one engine do not show by how much another engine of the same plan would differ. Finalists, which
    were built and timed twice, do.
    """
    rounds = [t.measured.ratio_error / t.measured.latency_ratio for t in timed if t.measured.ratio_error]
    names = {trial.number: name for name, trial in side.trials.items()}
    twice = [t for t in timed if t.number in names and names[t.number] != side.unit]
    fresh = {t.number: side.timings[names[t.number]] for t in twice}
    apart = [math.log(t.measured.latency_ratio / fresh[t.number].ratio_to(side.unit_timing).estimate) for t in twice]
    variance, weight = float(np.median(rounds)) ** 2 if rounds else 0.0, float(_PRIOR_TRIALS if rounds else 0)
    if len(apart) >= 2:
        again = np.mean(
            [t.error_to(side.unit_timing) ** 2 / t.ratio_to(side.unit_timing).estimate ** 2 for t in fresh.values()]
        )
        pairs = max(float(np.var(apart, ddof=1) - again), 0.0)
        degrees = len(apart) - 1
        variance, weight = (weight * variance + degrees * pairs) / (weight + degrees), weight + degrees
    relative = max(math.sqrt(variance), _LEAST_ERROR)
    exact = [dict(t.plan) == dict(side.uniform.get(side.unit, {})) for t in timed]
    return [0.0 if same else relative * t.measured.latency_ratio for t, same in zip(timed, exact, strict=True)]
