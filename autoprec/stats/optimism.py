"""The winner's curse: how much better the best of many noisy measurements looks than it is.

Of many measured plans within a bound the fastest is selected. Its measured latency and drop are likely to be better
than its true ones, since luck helped it to be selected. Two steps estimate by how much. First, empirical Bayes
separates the true figures of all plans from the noise: their distribution is the one under which the measured figures
are most likely, without an assumption about its form (Kiefer and Wolfowitz 1956; Jiang and Zhang 2009, "General maximum
likelihood empirical Bayes estimation of normal means"). Then the selection is simulated many times, with true figures
drawn from that distribution and noise of the measured size, and the figures that made a plan win are compared with its
true ones.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from autoprec.stats.intervals import Array

DRAWS = 2000
_GRID, _STEPS = 81, 100
_Z = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisyFigures:
    """The figures of all plans that could have been chosen, as the search saw them: arrays with one element per plan.

    Attributes:
        cost: float64[n], the figure that is minimised, such as the latency over FP32's.
        cost_error: float64[n], its standard error; 0 for FP32.
        limited: float64[n], the figure that the bound limits, such as the drop.
        limited_error: float64[n], its standard error.
        margin: float64[n], what is added to `limited` before it is compared with the bound.
        always: bool[n], whether the plan is a finalist at any cost, if it meets the bound.
    """

    cost: Array
    cost_error: Array
    limited: Array
    limited_error: Array
    margin: Array
    always: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """The rule by which one plan is selected.

    Attributes:
        limit: the bound.
        finalists: the number of cheapest plans within the bound that are measured again.
        fresh_error: the standard error of the cost when it is measured again, relative to the cost.
        shared: the correlation between plans of the noise of `limited`: they are judged on the same samples.
    """

    limit: float
    finalists: int
    fresh_error: float
    shared: float


@dataclass(frozen=True, slots=True)
class Optimism:
    """By how much a winner looks better than it is, on average; a positive figure is too good.

    Attributes:
        cost: the optimism of the cost that the search saw.
        limited: the optimism of the limited figure that the search saw.
        fresh_cost: the optimism of the cost that was measured again, among the finalists.
    """

    cost: float
    limited: float
    fresh_cost: float


def expected_optimism(plans: NoisyFigures, selection: Selection, seed: int = 0, draws: int = DRAWS) -> Optimism:
    """Simulate the selection many times and average how much better the winner looked than it was.

    FP32 is exact, so the draws that it wins are left out.

    Args:
        plans: all plans that could have won, FP32 with errors of 0 among them.
        selection: the rule of selection.
        seed: the seed of the draws.
        draws: the number of simulated selections.
    """
    generator = np.random.default_rng(seed)
    cost_error, limited_error, count = plans.cost_error, plans.limited_error, len(plans.cost)
    cost = drawn_truths(plans.cost, cost_error, draws, generator)
    # Noise that all plans share moves them together and adds nothing to their spread.
    own_error = limited_error * math.sqrt(1 - selection.shared)
    limited = drawn_truths(plans.limited, own_error, draws, generator)
    common, own = generator.normal(size=(draws, 1)), generator.normal(size=(draws, count))
    noise = math.sqrt(selection.shared) * common + math.sqrt(1 - selection.shared) * own
    seen_limited = limited + limited_error * noise
    seen_cost = cost + cost_error * generator.normal(size=cost.shape)
    fresh = cost * (1 + selection.fresh_error * (cost_error > 0) * generator.normal(size=cost.shape))
    accepted = seen_limited + plans.margin <= selection.limit
    winner = _winners(seen_cost, fresh, accepted, plans.always, selection)
    rows = np.flatnonzero((winner >= 0) & (cost_error[winner] > 0))
    if not len(rows):
        return Optimism(0.0, 0.0, 0.0)
    at = rows, winner[rows]
    return Optimism(
        float((cost[at] - seen_cost[at]).mean()),
        float((limited[at] - seen_limited[at]).mean()),
        float((cost[at] - fresh[at]).mean()),
    )


def _winners(
    seen: Array, fresh: Array, accepted: npt.NDArray[np.bool_], always: npt.NDArray[np.bool_], selection: Selection
) -> Any:
    """The index of each draw's winner, -1 where no plan is accepted."""
    order = np.where(accepted, seen, np.inf)
    last = np.sort(order, axis=1)[:, min(selection.finalists, order.shape[1]) - 1, None]
    finalist = accepted & ((order <= last) | always)
    again = np.where(finalist, fresh, np.inf)
    fastest = again.argmin(axis=1)
    rows = np.arange(len(again))
    uniform = np.where(always, again, np.inf)
    rival = uniform.argmin(axis=1)
    # The answer is another plan than the best uniform one only where it is certainly faster.
    surely = again[rows, fastest] < uniform[rows, rival] * (1 - _Z * math.sqrt(2) * selection.fresh_error)
    winner = np.where(np.isfinite(uniform[rows, rival]) & ~surely, rival, fastest)
    return np.where(finalist.any(axis=1), winner, -1)


def drawn_truths(seen: Array, errors: Array, draws: int, generator: np.random.Generator) -> Array:
    """Draw the true figures from what was seen of them.

    Args:
        seen: float64[n], the measured figures.
        errors: float64[n], their standard errors; where one is 0, the figure is exact.
        draws: the number of draws.
        generator: the source of random numbers.

    Returns:
        float64[draws, n].
    """
    truths = np.tile(seen, (draws, 1))
    noisy = np.flatnonzero(errors > 0)
    if len(noisy) == 0:
        return truths
    values, widths = seen[noisy], errors[noisy]
    low, high = values.min(), values.max()
    grid = _grid(values, widths) if high > low else np.array([low])
    likelihood = np.exp(-0.5 * ((values[:, None] - grid) / widths[:, None]) ** 2) / widths[:, None]
    weights = np.full(len(grid), 1 / len(grid))
    for _ in range(_STEPS):
        posterior = likelihood * weights
        posterior /= posterior.sum(axis=1, keepdims=True)
        weights = posterior.mean(axis=0)
    edges = posterior.cumsum(axis=1)
    for index, row in zip(noisy, edges, strict=True):
        picks = np.searchsorted(row, generator.random(draws) * row[-1])
        truths[:, index] = grid[np.minimum(picks, len(grid) - 1)]
    return truths


def _grid(values: Array, widths: Array) -> Array:
    """The values that true figures may have: evenly spaced over the range, and closer together near each figure."""
    near = np.concatenate([values + step * widths for step in (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)])
    inside = near[(near >= values.min()) & (near <= values.max())]
    return np.unique(np.concatenate([np.linspace(values.min(), values.max(), _GRID), inside]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """One figure of the winner: as it was when it was selected, corrected for luck, and measured again.

    Attributes:
        selected: the figure that the search saw.
        optimism: by how much that was expected to look better than the true figure.
        corrected: `selected` plus `optimism`.
        fresh: the figure in rounds, or on samples, of their own.
        fresh_optimism: the expected optimism of the fresh figure, where it took part in the selection.
        error: the standard error of `fresh` less `corrected`.
    """

    selected: float
    optimism: float
    corrected: float = field(init=False)
    fresh: float
    fresh_optimism: float
    error: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "corrected", self.selected + self.optimism)

    @property
    def confirmed(self) -> bool:
        """Whether the fresh figure agrees with the corrected one within their 95 % interval."""
        return abs(self.fresh + self.fresh_optimism - self.corrected) <= _Z * self.error

    def to_record(self) -> dict[str, Any]:
        """The correction as JSON."""
        return {**asdict(self), "borne_out": self.confirmed}
