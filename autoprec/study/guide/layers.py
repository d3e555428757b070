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

from collections.abc import Iterator, Mapping, Sequence
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
class Learned:
    """What profiles say of some units, which have about equally many parameters that profiled plans depend on.

    Attributes:
        units: the numbers of the units, int[units].
        columns: the columns of these parameters, int[units, width]; filled up with columns of no weight.
        halves: of the covariance of a unit's own parameters, where the common ones are known, this much is gone:
            halves.T @ halves, float64[units, plans, width].
        follows: how far they follow the common parameters, float64[units, width, common].
    """

    units: Indices
    columns: Indices
    halves: Array
    follows: Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Belief:
    """A Gaussian over all parameters: the common ones, and for each unit those of its own.

    Attributes:
        mean: the means, float64[columns].
        shared: the covariance of the common parameters, float64[common, common].
        variance: the variance of each parameter before anything is known, float64[columns].
        blocks: the columns of each unit's own parameters.
        learned: what is known of units.
    """

    mean: Array
    shared: Array
    variance: Array
    blocks: Sequence[Indices]
    learned: Sequence[Learned] = ()

    def covariance(self, rows: Array) -> Array:
        """The covariance of all parameters with the figures that the rows add up to: float64[columns, rows]."""
        count = len(self.shared)
        followed: Array = rows[:, :count].copy()
        for part in self.learned:
            flat = part.columns.reshape(-1)
            followed += rows[:, flat] @ part.follows.reshape(len(flat), count)
        found: Array = self.variance[:, None] * rows.T
        found[:count] = self.shared @ followed.T
        for part in self.learned:
            own = rows.T[part.columns]  # units, width, rows
            moved = part.follows @ found[:count] - np.swapaxes(part.halves, 1, 2) @ (part.halves @ own)
            np.add.at(found, part.columns.reshape(-1), moved.reshape(-1, len(rows)))
        return found

    def drawn(self, random: np.random.Generator) -> Array:
        """One draw of the parameters, float64[columns]."""
        found: Array = self.mean.copy()
        count = len(self.shared)
        found[:count] += _root(self.shared) @ random.standard_normal(count)
        moved = found[:count] - self.mean[:count]
        learned = self.by_unit()
        for unit, columns in enumerate(self.blocks):
            own = np.diag(self.variance[columns])
            if unit in learned:
                places, half, follows = learned[unit]
                own[np.ix_(places, places)] -= half.T @ half
                found[columns[places]] += follows @ moved
            found[columns] += _root(own) @ random.standard_normal(len(columns))
        return found

    def by_unit(self) -> dict[int, tuple[Indices, Array, Array]]:
        """Number of a unit -> the indices in its block of what is known of it, its halves and its follows."""
        found = {}
        for part in self.learned:
            for unit, columns, half, follows in zip(part.units, part.columns, part.halves, part.follows, strict=True):
                places = np.flatnonzero(np.isin(self.blocks[unit], columns))
                real = np.searchsorted(columns[: len(places)], self.blocks[unit][places])
                found[int(unit)] = places, half[:, real], follows[real]
        return found


def before_profiles(pricing: Pricing, guess: Array, deviation: Array) -> Belief:
    """The belief before any profile: every parameter by itself, as it is assumed."""
    variance = deviation**2
    shared = np.diag(variance[: pricing.columns.common])
    return Belief(mean=guess, shared=shared, variance=variance, blocks=pricing.blocks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """The profiles of units that have about equally many parameters.

    Attributes:
        units: the numbers of the units, int[units].
        columns: the columns that the profiled plans depend on, int[units, width].
        real: 1 where a column is one of the unit's, 0 where it only fills up, float64[units, width].
        rows: what each plan is made of, float64[units, plans, width].
        local: the common part of that, float64[units, plans, common].
        shares: what each unit took, float64[units, plans].
    """

    units: Indices
    columns: Indices
    real: Array
    rows: Array
    local: Array
    shares: Array


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
        self._parts = list(self._seen(*pricing.local_rows(plans)))
        self._floor = _FLOOR / max(len(names), 1)

    def _seen(self, local: Array, rows: Array) -> Iterator[_Seen]:
        """The units, those of about equally many parameters that matter together."""
        used = np.abs(rows).sum(axis=0) > 0
        blocks = [columns[used[columns]] for columns in self._pricing.blocks]
        widths = np.array([1 << max(len(columns) - 1, 0).bit_length() for columns in blocks], np.intp)
        for width in np.unique(widths):
            units = np.flatnonzero(widths == width)
            columns = np.zeros((len(units), width), np.intp)
            real = np.zeros((len(units), width))
            for index, unit in enumerate(units):
                own = np.sort(blocks[unit])
                columns[index, : len(own)], real[index, : len(own)] = own, 1.0
            yield _Seen(
                units=units,
                columns=columns,
                real=real,
                rows=np.moveaxis(rows[:, columns], 0, 1) * real[:, None, :],
                local=np.moveaxis(local[:, units], 0, 1),
                shares=self.shares[:, units].T,
            )

    def believe(self, guess: Array, deviation: Array, noise: float) -> Belief:
        """The belief after the profiles.

        Args:
            guess: the means of all parameters before the profiles, float64[columns].
            deviation: their standard deviations.
            noise: the relative standard deviation of a layer's share.
        """
        count, variance = self._pricing.columns.common, deviation**2
        free = np.flatnonzero(deviation[:count] > 0)  # a parameter that is fixed has no finite precision
        precision, pull = np.diag(deviation[free] ** -2.0), np.zeros(len(free))
        whitened = []
        for part in self._parts:
            prior = variance[part.columns] * part.real
            error = noise * (np.maximum(part.shares, 0.0) + self._floor)
            weighted = part.rows * prior[:, None, :]
            gram = weighted @ np.swapaxes(part.rows, 1, 2) + error[:, :, None] ** 2 * np.eye(error.shape[1])
            surprise = part.shares - part.local @ guess[:count] - (part.rows @ guess[part.columns][:, :, None])[..., 0]
            sides = np.concatenate([part.local, surprise[:, :, None], weighted], axis=2)
            solved = np.linalg.solve(np.linalg.cholesky(gram), sides)
            local, short, halves = solved[..., :count], solved[..., count : count + 1], solved[..., count + 1 :]
            seen, flat = local[..., free].reshape(-1, len(free)), short.reshape(-1)
            precision += seen.T @ seen
            pull += seen.T @ flat
            whitened.append((part, local, short, halves))
        covariance = np.linalg.inv(precision)
        moved = np.zeros(count)
        moved[free] = covariance @ pull
        shared = np.zeros((count, count))
        shared[np.ix_(free, free)] = covariance
        mean, learned = guess.copy(), []
        mean[:count] += moved
        for part, local, short, halves in whitened:
            gain = np.swapaxes(halves, 1, 2)
            shift = gain @ (short - (local @ moved)[:, :, None])
            np.add.at(mean, part.columns.reshape(-1), shift.reshape(-1))
            learned.append(Learned(part.units, part.columns, halves, -gain @ local))
        return Belief(mean=mean, shared=shared, variance=variance, blocks=self._pricing.blocks, learned=tuple(learned))


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
