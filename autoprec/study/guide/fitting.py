"""The latency model fitted to measured plans, with what it still does not know.

All parameters are fitted together by Bayesian linear regression to the relative errors: what was not measured yet
stays where the profile puts it, and how far a correction may go is chosen by the evidence of the measurements (MacKay
1992, "Bayesian Interpolation"). Where measured plans were profiled too, `autoprec.study.guide.layers` says first what
that tells of each unit, unless latencies were foretold better without.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from autoprec.plan import Assignment
from autoprec.precision import Array, Precision
from autoprec.study.guide.latency import SHARED, LatencyModel, Pricing, Prior, Timed
from autoprec.study.guide.layers import FEWEST, Belief, Layers, before_profiles
from autoprec.units.records import Partition

_LAYER_NOISES = (0.05, 0.15, 0.5)
_CHUNK = 512
Doubts = tuple[float, float, float | None]


class LatencyFit:
    """The linear model fitted to measured plans.

    Args:
        pricing: of the partition.
        measured: plans with their latencies relative to FP32.
    """

    def __init__(self, pricing: Pricing, measured: Sequence[Timed]) -> None:
        self.pricing = pricing
        self._target = np.array([timed.latency for timed in measured])
        rows = pricing.rows([timed.plan for timed in measured])
        self._rows = rows / self._target[:, None]  # relative errors count
        profiled = [timed for timed in measured if timed.layers_ms]
        self._layers = Layers(pricing, profiled) if len(profiled) >= FEWEST else None
        self._fixed: list[int] = []
        doubts, self._noise = self._likeliest()
        for _ in range(SHARED):  # of the shared ones that would be negative, each is fixed at 0 in turn
            self._belief = self._believed(*doubts)
            self._solve()
            worst = int(np.argmin(self._weights[:SHARED]))
            if self._weights[worst] >= 0:
                break
            self._fixed.append(worst)

    @property
    def model(self) -> LatencyModel:
        """The most likely prices."""
        return self.pricing.model(self._weights)

    def predict(self, plans: Sequence[Assignment]) -> tuple[Array, Array]:
        """Latency of each plan relative to FP32, and its standard deviation: of the prices, and of what has none."""
        means, doubts = [], []
        for first in range(0, len(plans), _CHUNK):
            rows = self.pricing.rows(plans[first : first + _CHUNK])
            spread = self._belief.covariance(rows)
            known = self._rows @ spread
            means.append(rows @ self._weights)
            doubts.append(np.einsum("rc,cr->r", rows, spread) - (known * self._solved(known)).sum(axis=0))
        mean, doubt = np.concatenate([*means, np.zeros(0)]), np.concatenate([*doubts, np.zeros(0)])
        return mean, np.sqrt(np.maximum(doubt, 0.0) + (self._noise * mean) ** 2)

    def drawn(self, random: np.random.Generator) -> LatencyModel:
        """Prices as they might be, given the measurements (Thompson 1933; drawn as by Matheron's rule)."""
        start = self._belief.drawn(random)
        noise = self._noise * random.standard_normal(len(self._target))
        drawn = start + self._seen @ self._solved(1.0 - self._rows @ start - noise)
        drawn[:SHARED] = np.maximum(drawn[:SHARED], 0.0)
        return self.pricing.model(drawn)

    def _likeliest(self) -> tuple[Doubts, float]:
        """How far parameters may lie from the guess, what profiles are worth, and the noise, by the evidence."""
        assumed = self.pricing.assumed
        layers = (None, *(_LAYER_NOISES if self._layers is not None else ()))
        found = [
            (*self._evidence(self._believed(*doubts)), index, doubts)
            for index, doubts in enumerate(itertools.product(assumed.unit_doubts, assumed.edge_doubts, layers))
        ]
        _, noise, _, doubts = max(found)
        return doubts, noise

    def _believed(self, unit: float, edge: float, layers: float | None) -> Belief:
        """What is believed before whole plans are looked at; `layers` is the noise of profiles, None without them."""
        assumed = self._assumed(unit, edge, profiled=layers is not None)
        if self._layers is None or layers is None:
            return before_profiles(self.pricing, *assumed)
        return self._layers.believe(*assumed, layers)

    def _assumed(self, unit: float, edge: float, *, profiled: bool) -> tuple[Array, Array]:
        """What is guessed of all parameters, and how far each may be from it.

        Whole plans are too few to tell the one side of a boundary from the other, or one pair of precisions from the
        others of its kind.
        """
        assumed, pricing = self.pricing.assumed, self.pricing
        guess, deviation = (np.zeros(self._rows.shape[1]) for _ in range(2))
        guess[:SHARED], deviation[:SHARED] = assumed.guess, assumed.doubt
        if profiled:
            deviation[SHARED : pricing.count] = np.tile(assumed.pair_doubts, (pricing.count - SHARED) // 3)
        deviation[pricing.units], deviation[pricing.edges] = unit, edge
        if not profiled:
            deviation[pricing.outgoing] = 0.0
        guess[self._fixed] = deviation[self._fixed] = 0.0
        return guess, deviation

    def _evidence(self, belief: Belief) -> tuple[float, float]:
        """How likely the latencies are by what is believed, as a logarithm, and the noise that makes them likeliest."""
        gram, surprise = self._rows @ belief.covariance(self._rows), 1.0 - self._rows @ belief.mean
        found = []
        for noise in self.pricing.assumed.noises:
            root = np.linalg.cholesky(gram + noise**2 * np.eye(len(surprise)))
            short = np.linalg.solve(root, surprise)
            found.append((-0.5 * float(short @ short) - float(np.log(np.diag(root)).sum()), noise))
        return max(found)

    def _solve(self) -> None:
        """The parameters' mean, given the latencies."""
        self._seen = self._belief.covariance(self._rows)
        gram = self._rows @ self._seen + self._noise**2 * np.eye(len(self._target))
        self._factor = cho_factor(gram)
        self._weights = self._belief.mean + self._seen @ self._solved(1.0 - self._rows @ self._belief.mean)

    def _solved(self, values: Array) -> Array:
        result: Array = cho_solve(self._factor, values)
        return result


def fit(partition: Partition, prior: Prior, carrier: Precision, measured: Sequence[Timed]) -> LatencyModel:
    """Fit to measured plans.

    Args:
        partition: units and edges.
        prior: (unit, precision) -> profiled share of FP32's latency.
        carrier: precision of what is outside all units.
        measured: plans with their latencies relative to FP32.
    """
    return LatencyFit(Pricing(partition, prior, carrier), measured).model
