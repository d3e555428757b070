"""What the best of many noisy measurements owes to luck, and what is left when that is taken off.

Whoever measures many plans and takes the fastest that seems to be within the bound takes one whose latency and drop
are likely to be better on the day than they are: the winner's curse. Two steps estimate by how much. The true figures
of all plans are told apart from the noise by empirical Bayes: their distribution is the one that makes what was seen
likeliest, whatever its form (Kiefer and Wolfowitz 1956; Jiang and Zhang 2009, "General maximum likelihood empirical
Bayes estimation of normal means"). Then the choice is made anew many times, on true figures drawn from it and noise of
the size that was measured, and what the winners seemed to be is compared with what they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

DRAWS = 2000
_GRID, _STEPS = 81, 100
_Z = 1.96


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A plan as the search saw it.

    Attributes:
        cost: what is minimised, such as latency over FP32's.
        cost_error: standard error of it; 0 for FP32.
        limited: what the bound is on, such as the drop.
        limited_error: of it.
        margin: what is added to `limited` before it is compared with the bound.
        always: whether it is a finalist whatever its cost, if it meets the bound.
    """

    cost: float
    cost_error: float
    limited: float
    limited_error: float
    margin: float = 0.0
    always: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """How the winner is chosen.

    Attributes:
        limit: the bound.
        finalists: so many of the cheapest that meet it are measured again.
        fresh_error: standard error of the cost then, relative to the cost.
        shared: correlation of the noise of `limited` between plans: they are judged on the same samples.
    """

    limit: float
    finalists: int
    fresh_error: float
    shared: float


@dataclass(frozen=True, slots=True)
class Optimism:
    """By how much a winner looks better than it is, on average; above 0 is too good.

    Attributes:
        cost: as the search saw it.
        limited: likewise.
        fresh_cost: as measured again, among the finalists.
    """

    cost: float
    limited: float
    fresh_cost: float


def expected_optimism(plans: Sequence[Seen], choice: Choice, seed: int = 0, draws: int = DRAWS) -> Optimism:
    """Choose anew many times, and see what winners other than FP32 owe to luck.

    Args:
        plans: all that could have won, FP32 with errors of 0 among them.
        choice: how.
        seed: of the draws.
        draws: how many choices are made.
    """
    generator = np.random.default_rng(seed)
    cost_error, limited_error = (np.array([getattr(p, n) for p in plans]) for n in ("cost_error", "limited_error"))
    cost = drawn_truths(np.array([p.cost for p in plans]), cost_error, draws, generator)
    # What all plans share of the noise moves them together, and is no part of their spread.
    own_error = limited_error * math.sqrt(1 - choice.shared)
    limited = drawn_truths(np.array([p.limited for p in plans]), own_error, draws, generator)
    common, own = generator.normal(size=(draws, 1)), generator.normal(size=(draws, len(plans)))
    noise = math.sqrt(choice.shared) * common + math.sqrt(1 - choice.shared) * own
    seen_limited = limited + limited_error * noise
    seen_cost = cost + cost_error * generator.normal(size=cost.shape)
    fresh = cost * (1 + choice.fresh_error * (cost_error > 0) * generator.normal(size=cost.shape))
    margin, always = np.array([p.margin for p in plans]), np.array([p.always for p in plans])
    accepted = seen_limited + margin <= choice.limit
    winner = _winners(seen_cost, fresh, accepted, always, choice)
    rows = np.flatnonzero((winner >= 0) & (cost_error[winner] > 0))
    if not len(rows):
        return Optimism(0.0, 0.0, 0.0)
    at = rows, winner[rows]
    return Optimism(
        float((cost[at] - seen_cost[at]).mean()),
        float((limited[at] - seen_limited[at]).mean()),
        float((cost[at] - fresh[at]).mean()),
    )


def _winners(seen: Array, fresh: Array, accepted: npt.NDArray[Any], always: npt.NDArray[Any], choice: Choice) -> Any:
    """The place of each draw's winner, -1 where no plan is accepted."""
    order = np.where(accepted, seen, np.inf)
    last = np.sort(order, axis=1)[:, min(choice.finalists, order.shape[1]) - 1, None]
    finalist = accepted & ((order <= last) | always)
    again = np.where(finalist, fresh, np.inf)
    fastest = again.argmin(axis=1)
    rows = np.arange(len(again))
    uniform = np.where(always, again, np.inf)
    rival = uniform.argmin(axis=1)
    # The answer is another than the best uniform plan only where it is surely faster.
    surely = again[rows, fastest] < uniform[rows, rival] * (1 - _Z * math.sqrt(2) * choice.fresh_error)
    winner = np.where(np.isfinite(uniform[rows, rival]) & ~surely, rival, fastest)
    return np.where(finalist.any(axis=1), winner, -1)


def drawn_truths(seen: Array, errors: Array, draws: int, generator: np.random.Generator) -> Array:
    """Draws of what each figure may truly be: float64[draws, n].

    Args:
        seen: float64[n].
        errors: standard error of each; where it is 0 the figure is true.
        draws: how many.
        generator: of the draws.
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
    """Places where true figures may lie: even ones over the whole range, and finer ones round each figure."""
    near = np.concatenate([values + step * widths for step in (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)])
    inside = near[(near >= values.min()) & (near <= values.max())]
    return np.unique(np.concatenate([np.linspace(values.min(), values.max(), _GRID), inside]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """One figure of the winner: as it was when it was chosen, without its luck, and measured afresh.

    Attributes:
        selected: as the search saw it.
        optimism: by how much it was expected to look better than it is.
        corrected: `selected` without that.
        fresh: in rounds, or on samples, of their own.
        fresh_optimism: what is expected of the fresh figure, where it took part in the choice.
        error: standard error of `fresh` less `corrected`.
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
    def borne_out(self) -> bool:
        """Whether the fresh figure agrees with the corrected one within their 95 % interval."""
        return abs(self.fresh + self.fresh_optimism - self.corrected) <= _Z * self.error

    def to_record(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "borne_out": self.borne_out}
