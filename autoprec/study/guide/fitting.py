"""The latency model fitted to measured plans, with what it still does not know.

All parameters are fitted together by Bayesian linear regression to the relative errors: what was not measured yet
stays where the profile puts it, and how far a correction may go is chosen by the evidence of the measurements (MacKay
1992, "Bayesian Interpolation"). Where measured plans were profiled too, `autoprec.study.guide.layers` says first what
the profiles tell of each unit, unless the latencies are predicted better without them.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from autoprec.plan import Assignment
from autoprec.precision import Array
from autoprec.study.guide.columns import CONSTANT, SHARED
from autoprec.study.guide.latency import LatencyModel
from autoprec.study.guide.layers import FEWEST, Belief, Layers, before_profiles
from autoprec.study.guide.pricing import Pricing

_LAYER_NOISES = (0.05, 0.15, 0.5)
Profile = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Doubts:
    """How far parameters may lie from what is assumed.

    Attributes:
        unit: the standard deviation of units.
        edge: the standard deviation of boundaries.
        layers: the relative standard deviation of profiled layers, None where profiles are not used.
    """

    unit: float
    edge: float
    layers: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Posterior:
    """The parameters, given the latencies.

    Attributes:
        belief: what was believed before the latencies.
        seen: the covariance of all parameters with the measured plans, float64[columns, plans].
        factor: the Cholesky factor of the measured plans' covariance.
        weights: the means of the parameters, float64[columns].
    """

    belief: Belief
    seen: Array
    factor: Any
    weights: Array

    def solved(self, values: Array) -> Array:
        """The solution of the measured plans' covariance for these values."""
        result: Array = cho_solve(self.factor, values)
        return result


class LatencyFit:
    """The linear model fitted to measured plans.

    Args:
        pricing: what the figures of plans are made of.
        plans: the measured plans.
        latencies: the latency of each relative to FP32's, float64[plans], above 0.
        profiles: for each plan unit -> milliseconds of its kernels and of the conversions of its inputs, None for a
            plan that was not profiled; by default none was.
    """

    def __init__(
        self,
        pricing: Pricing,
        plans: Sequence[Assignment],
        latencies: Array,
        profiles: Sequence[Profile | None] | None = None,
    ) -> None:
        self.pricing = pricing
        self._rows = pricing.rows(plans) / latencies[:, None]  # relative errors count
        kept = [(index, profile) for index, profile in enumerate(profiles or ()) if profile]
        self._layers: Layers | None = None
        if len(kept) >= FEWEST:
            indices = [index for index, _ in kept]
            profiled = [plans[index] for index in indices]
            self._layers = Layers(pricing, profiled, latencies[indices], [profile for _, profile in kept])
        doubts, self._noise = self._likeliest()
        self._posterior = self._fitted(doubts)

    @property
    def model(self) -> LatencyModel:
        """The most likely prices."""
        return self.pricing.model(self._posterior.weights)

    def predict(self, plans: Sequence[Assignment]) -> tuple[Array, Array]:
        """The latency of each plan relative to FP32's, and its standard deviation, float64[plans] each.

        The deviation is that of the prices and of the measurement together.
        """
        posterior, belief = self._posterior, self._posterior.belief
        count, free = len(belief.shared), np.flatnonzero(np.diag(belief.shared) > 0)
        linear = np.column_stack([posterior.weights, posterior.seen])
        learned, width = belief.by_unit(), linear.shape[1]

        def figures(unit: int, common: Array, own: Array) -> Array:
            """The mean, the covariances with measured plans, what follows common parameters, and the variance."""
            columns = belief.blocks[unit]
            followed, variance = common[:, free], own**2 @ belief.variance[columns]
            if unit in learned:
                places, half, follows = learned[unit]
                followed = followed + own[:, places] @ follows[:, free]
                variance = variance - np.square(own[:, places] @ half.T).sum(axis=1)
            return np.column_stack([common @ linear[:count] + own @ linear[columns], followed, variance])

        found = self.pricing.summed(plans, width + len(free) + 1, figures)
        found[:, :width] += linear[CONSTANT]
        found[:, width:-1] += free == CONSTANT
        mean, known, followed = found[:, 0], found[:, 1:width], found[:, width:-1]
        doubt = found[:, -1] + ((followed @ belief.shared[np.ix_(free, free)]) * followed).sum(axis=1)
        doubt -= (known * posterior.solved(known.T).T).sum(axis=1)
        return mean, np.sqrt(np.maximum(doubt, 0.0) + (self._noise * mean) ** 2)

    def drawn(self, random: np.random.Generator) -> LatencyModel:
        """One draw of the prices, given the measurements (Thompson 1933; drawn by Matheron's rule)."""
        start = self._posterior.belief.drawn(random)
        noise = self._noise * random.standard_normal(len(self._rows))
        drawn = start + self._posterior.seen @ self._posterior.solved(1.0 - self._rows @ start - noise)
        drawn[:SHARED] = np.maximum(drawn[:SHARED], 0.0)
        return self.pricing.model(drawn)

    def _fitted(self, doubts: _Doubts) -> _Posterior:
        """The posterior in which no shared parameter is negative: each that would be is fixed at 0 in turn."""
        fixed: list[int] = []
        posterior = self._solved(self._believed(doubts, fixed))
        while len(fixed) < SHARED - 1 and posterior.weights[:SHARED].min() < 0:
            fixed.append(int(np.argmin(posterior.weights[:SHARED])))
            posterior = self._solved(self._believed(doubts, fixed))
        return posterior

    def _likeliest(self) -> tuple[_Doubts, float]:
        """How far parameters may lie from what is assumed, and the noise, by the evidence."""
        assumed = self.pricing.assumed
        layers = (None, *(_LAYER_NOISES if self._layers is not None else ()))
        found = []
        for index, doubts in enumerate(itertools.product(assumed.unit_doubts, assumed.edge_doubts, layers)):
            evidence, noise = self._evidence(self._believed(_Doubts(*doubts), []))
            found.append((evidence, noise, index, _Doubts(*doubts)))
        _, noise, _, likeliest = max(found, key=lambda row: row[:3])
        return likeliest, noise

    def _believed(self, doubts: _Doubts, fixed: Sequence[int]) -> Belief:
        """What is believed before whole plans are looked at; shared parameters that are fixed are 0."""
        assumed = self._assumed(doubts, fixed)
        if self._layers is None or doubts.layers is None:
            return before_profiles(self.pricing, *assumed)
        return self._layers.believe(*assumed, doubts.layers)

    def _assumed(self, doubts: _Doubts, fixed: Sequence[int]) -> tuple[Array, Array]:
        """The guess of all parameters, and the standard deviation of each.

        Whole plans are too few to tell the one side of a boundary from the other, or one pair of precisions from the
        others of its kind. So these parameters are free only where profiles are used.
        """
        assumed, columns, profiled = self.pricing.assumed, self.pricing.columns, doubts.layers is not None
        guess, deviation = (np.zeros(columns.total) for _ in range(2))
        guess[:SHARED], deviation[:SHARED] = assumed.guess, assumed.doubt
        if profiled:
            deviation[SHARED : columns.common] = np.tile(assumed.pair_doubts, len(columns.pairs))
        deviation[columns.of_units], deviation[columns.of_edges] = doubts.unit, doubts.edge
        if not profiled:
            deviation[columns.outgoing] = 0.0
        guess[list(fixed)] = deviation[list(fixed)] = 0.0
        return guess, deviation

    def _evidence(self, belief: Belief) -> tuple[float, float]:
        """The logarithm of how likely the latencies are by a belief, and the noise that makes them likeliest."""
        gram, surprise = self._rows @ belief.covariance(self._rows), 1.0 - self._rows @ belief.mean
        found = []
        for noise in self.pricing.assumed.noises:
            root = np.linalg.cholesky(gram + noise**2 * np.eye(len(surprise)))
            short = np.linalg.solve(root, surprise)
            found.append((-0.5 * float(short @ short) - float(np.log(np.diag(root)).sum()), noise))
        return max(found)

    def _solved(self, belief: Belief) -> _Posterior:
        seen = belief.covariance(self._rows)
        factor = cho_factor(self._rows @ seen + self._noise**2 * np.eye(len(self._rows)))
        solved: Array = cho_solve(factor, 1.0 - self._rows @ belief.mean)
        return _Posterior(belief=belief, seen=seen, factor=factor, weights=belief.mean + seen @ solved)
