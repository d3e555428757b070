"""What the runtime's own profiles of measured plans say of each unit, before whole plans are looked at.

A profile says of every unit what its kernels and the conversions for them took in that plan. That is one figure for
each unit, where the clock gives one for the plan: on an H200 ten profiled plans predicted unseen ones with errors of
3.7, 1.5 and 4.4 % on three networks, where 32, 24 and 45 plans that were only timed gave 3.9, 2.5 and 3.9 %. Sums of
layers stand for whole engines: a linear function of units, boundaries and their number explained the latencies of 44 to
65 plans to 0.5 to 1.7 %.

Units are independent but for the parameters that all share. So each unit is a small Gaussian regression, and the common
parameters are solved for once: the Schur complement of a bordered block-diagonal system.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoprec.plan import Assignment
from autoprec.precision import Array
from autoprec.study.guide.columns import Indices
from autoprec.study.guide.pricing import Pricing

FEWEST = 3
"""With fewer profiled plans, milliseconds cannot be separated from what profiling adds to each layer."""
_RIDGE = 0.001
_FLOOR = 0.15
"""A layer's error is taken as if the layer took this share of a mean layer longer: short layers are timed no better."""


@dataclass(frozen=True, slots=True)
class Belief:
    """A Gaussian over all parameters: the common ones, and for each unit those of its own.

    Attributes:
        mean: the means, float64[columns].
        shared: the covariance of the common parameters, float64[common, common].
        blocks: for each unit its columns, their covariance where the common parameters are known, and how far they
            follow the common parameters.
    """

    mean: Array
    shared: Array
    blocks: tuple[tuple[Indices, Array, Array], ...]

    def covariance(self, rows: Array) -> Array:
        """The covariance of all parameters with the figures that the rows add up to: float64[columns, rows]."""
        count = len(self.shared)
        found = np.zeros((len(self.mean), len(rows)))
        found[:count] = self.shared @ self._followed(rows).T
        for columns, own, follows in self.blocks:
            found[columns] = own @ rows[:, columns].T + follows @ found[:count]
        return found

    def drawn(self, random: np.random.Generator) -> Array:
        """One draw of the parameters, float64[columns]."""
        found: Array = self.mean.copy()
        count = len(self.shared)
        found[:count] += _root(self.shared) @ random.standard_normal(count)
        moved = found[:count] - self.mean[:count]
        for columns, own, follows in self.blocks:
            found[columns] += follows @ moved + _root(own) @ random.standard_normal(len(columns))
        return found

    def _followed(self, rows: Array) -> Array:
        """The rows' common columns, with what their own columns follow of them."""
        found: Array = rows[:, : len(self.shared)].copy()
        for columns, _, follows in self.blocks:
            found += rows[:, columns] @ follows
        return found


def before_profiles(pricing: Pricing, guess: Array, deviation: Array) -> Belief:
    """The belief before any profile: every parameter by itself, as it is assumed."""
    count = pricing.columns.common
    blocks = tuple(
        (columns, np.diag(deviation[columns] ** 2), np.zeros((len(columns), count))) for columns in pricing.blocks
    )
    return Belief(guess, np.diag(deviation[:count] ** 2), blocks)


class Layers:
    """The profiles of measured plans, as shares of FP32's latency.

    Args:
        pricing: the pricing of the partition.
        plans: the plans that were profiled, at least `FEWEST`.
        latencies: the latency of each relative to FP32's, float64[plans].
        profiles: one mapping for each plan: unit -> milliseconds.

    Attributes:
        shares: what each unit took, as a share of FP32's latency, float64[plans, units].
    """

    def __init__(
        self, pricing: Pricing, plans: Sequence[Assignment], latencies: Array, profiles: Sequence[Mapping[str, float]]
    ) -> None:
        self._pricing = pricing
        names = [unit.name for unit in pricing.partition.units]
        took = np.array([[profile.get(name, 0.0) for name in names] for profile in profiles])
        share, extra = _line(took, latencies)
        self.shares = np.where(took > 0, share * took - extra, 0.0)
        self._local, self._rows = pricing.local_rows(plans)
        self._floor = _FLOOR / max(len(names), 1)

    def believe(self, guess: Array, deviation: Array, noise: float) -> Belief:
        """The belief after the profiles.

        Args:
            guess: the means of all parameters before the profiles, float64[columns].
            deviation: their standard deviations.
            noise: the relative standard deviation of a layer's share.
        """
        count = self._pricing.columns.common
        free = np.flatnonzero(deviation[:count] > 0)  # a parameter that is fixed has no finite precision
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
