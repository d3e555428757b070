"""What the runtime's own profiles of measured plans say of each unit, before whole plans are looked at.

A profile says of every unit what its kernels and the conversions for them took in that plan. That is as many figures as
units, where the clock gives one: on an H200 ten profiled plans foretold unseen ones with errors of 3.7, 1.5 and 4.4 %
on three networks, 32, 24 and 45 that were only timed with 3.9, 2.5 and 3.9 %. Sums of layers stand for whole engines:
a linear function of units, boundaries and their number explained the latencies of 44 to 65 plans to 0.5 to 1.7 %.

Units are independent but for the parameters that all share, so each is a small Gaussian regression, and what they have
in common is solved for once: the Schur complement of a bordered block-diagonal system.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autoprec.precision import Array
from autoprec.study.guide.latency import Columns, Pricing, Timed

FEWEST = 3
"""Profiled plans, below which milliseconds cannot be told from what profiling adds to each layer."""
_RIDGE = 0.001
_FLOOR = 0.15
"""A layer's error is as if it took this share of a mean layer longer, for the shortest are timed no better."""


@dataclass(frozen=True, slots=True)
class Belief:
    """A Gaussian over all parameters: those that plans share, and for each unit those of its own.

    Attributes:
        mean: of all columns.
        shared: covariance of the shared ones.
        blocks: for each unit its columns, their covariance where the shared ones are known, and how far they follow
            the shared ones.
    """

    mean: Array
    shared: Array
    blocks: tuple[tuple[Columns, Array, Array], ...]

    def covariance(self, rows: Array) -> Array:
        """Of all parameters with what the rows come to: float64[columns, rows]."""
        count = len(self.shared)
        found = np.zeros((len(self.mean), len(rows)))
        found[:count] = self.shared @ self._followed(rows).T
        for columns, own, follows in self.blocks:
            found[columns] = own @ rows[:, columns].T + follows @ found[:count]
        return found

    def drawn(self, random: np.random.Generator) -> Array:
        """Parameters as they might be."""
        found: Array = self.mean.copy()
        count = len(self.shared)
        found[:count] += _root(self.shared) @ random.standard_normal(count)
        moved = found[:count] - self.mean[:count]
        for columns, own, follows in self.blocks:
            found[columns] += follows @ moved + _root(own) @ random.standard_normal(len(columns))
        return found

    def _followed(self, rows: Array) -> Array:
        """The rows' shared columns, and what their own columns follow of them."""
        found: Array = rows[:, : len(self.shared)].copy()
        for columns, _, follows in self.blocks:
            found += rows[:, columns] @ follows
        return found


def before_profiles(pricing: Pricing, guess: Array, deviation: Array) -> Belief:
    """Nothing but what is assumed: every parameter by itself."""
    count = pricing.count
    blocks = tuple(
        (columns, np.diag(deviation[columns] ** 2), np.zeros((len(columns), count))) for columns in pricing.blocks
    )
    return Belief(guess, np.diag(deviation[:count] ** 2), blocks)


class Layers:
    """The profiles of measured plans, as shares of FP32's latency.

    Args:
        pricing: of the partition.
        profiled: plans with their profiles, at least `FEWEST`.
    """

    def __init__(self, pricing: Pricing, profiled: Sequence[Timed]) -> None:
        self._pricing = pricing
        names = [unit.name for unit in pricing.partition.units]
        took = np.array([[(timed.layers_ms or {}).get(name, 0.0) for name in names] for timed in profiled])
        share, extra = _line(took, np.array([timed.latency for timed in profiled]))
        self.shares = np.where(took > 0, share * took - extra, 0.0)
        self._local, self._rows = pricing.local_rows([timed.plan for timed in profiled])
        self._floor = _FLOOR / max(len(names), 1)

    def believe(self, guess: Array, deviation: Array, noise: float) -> Belief:
        """What the profiles say.

        Args:
            guess: of all parameters.
            deviation: from it.
            noise: of a layer's share, relative.
        """
        count = self._pricing.count
        free = np.flatnonzero(deviation[:count] > 0)  # what is fixed has no precision
        precision, pull = np.diag(deviation[free] ** -2.0), np.zeros(len(free))
        units = []
        for index, columns in enumerate(self._pricing.blocks):
            rows, prior = self._rows[:, columns], deviation[columns] ** 2
            local = self._local[:, index]
            error = noise * (np.maximum(self.shares[:, index], 0.0) + self._floor)
            gram = (rows * prior) @ rows.T + np.diag(error**2)
            surprise = self.shares[:, index] - local @ guess[:count] - rows @ guess[columns]
            root = np.linalg.cholesky(gram)
            seen, short = np.linalg.solve(root, local[:, free]), np.linalg.solve(root, surprise)
            precision += seen.T @ seen
            pull += seen.T @ short
            units.append((columns, rows, prior, local, gram, surprise))
        covariance = np.linalg.inv(precision)
        moved = np.zeros(count)
        moved[free] = covariance @ pull
        shared = np.zeros((count, count))
        shared[np.ix_(free, free)] = covariance
        mean, blocks = guess.copy(), []
        mean[:count] += moved
        for columns, rows, prior, local, gram, surprise in units:
            gain = np.linalg.solve(gram, rows * prior).T
            mean[columns] += gain @ (surprise - local @ moved)
            blocks.append((columns, np.diag(prior) - gain @ (rows * prior), -gain @ local))
        return Belief(mean, shared, tuple(blocks))


def _line(took: Array, latency: Array) -> tuple[float, float]:
    """Latency for each millisecond of layers, and what profiling adds to each layer, in shares of FP32's latency."""
    total, layers = took.sum(axis=1), (took > 0).sum(axis=1)
    start = float(np.median(latency / total))
    rows = np.column_stack([total * start, -layers / layers.mean()]) / latency[:, None]
    penalty = _RIDGE * np.eye(2)
    found = np.linalg.solve(rows.T @ rows + penalty, rows.T @ np.ones(len(latency)) + penalty @ np.array([1.0, 0.0]))
    return float(found[0] * start), float(found[1] / layers.mean())


def _root(covariance: Array) -> Array:
    """A square root of a covariance that may be singular."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
