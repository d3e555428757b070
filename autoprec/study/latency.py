"""Latency as a sum over units plus a price for every boundary where precision changes.

A change of precision costs a conversion and breaks a fusion: on an H200 a plan chosen by sensitivity alone
ran up to 2.5 times slower than plain FP16. Six parameters explain most of it: a factor on the profiled sum of
units, elements that cross from 8 bits to float, from float to 8 bits and between float types, the number of
such boundaries, and a constant. On top of them every unit and every boundary has a correction of its own. All
are fitted together by Bayesian linear regression to the relative errors: what was not measured yet stays where
the profile puts it, and how far a correction may go is chosen by the evidence of the measurements (MacKay 1992,
"Bayesian Interpolation").
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from autoprec.precision import Array, Precision
from autoprec.units.records import Edge, Partition

Assignment = Mapping[str, Precision]
Prior = Mapping[tuple[str, Precision], float]
Crossing = tuple[str, str, str]

_KINDS = ("up", "down", "cast")


@dataclass(frozen=True, slots=True)
class Assumed:
    """What is taken for true before anything is measured, in shares of FP32's figure.

    Attributes:
        guess: of the six that all plans share: profiled sum, elements up, down and cast, boundaries, constant.
        doubt: how far from the guess the six may lie.
        unit_doubts: how far units may lie from the profile; the evidence chooses.
        edge_doubts: how far boundaries may lie from the guess; likewise.
        noises: of a measurement; likewise.
        least_unit: a unit is as doubtful as one of this share of the mean at least, for the profile may have missed
            it.
    """

    guess: tuple[float, ...]
    doubt: tuple[float, ...]
    unit_doubts: tuple[float, ...]
    edge_doubts: tuple[float, ...]
    noises: tuple[float, ...]
    least_unit: float


LATENCY = Assumed(
    guess=(1.0, 0.03, 0.03, 0.01, 0.002, 0.0),
    doubt=(1.0, 1.0, 1.0, 1.0, 0.1, 0.3),  # boundaries have cost nothing, and ten times the guess
    unit_doubts=(0.1, 0.3, 1.0), edge_doubts=(0.1, 0.5, 2.0), noises=(0.01, 0.03, 0.1), least_unit=0.3,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class LatencyModel:
    """A fitted model; times are in units of FP32's latency.

    Attributes:
        unary: (unit, precision) -> share, after fitting.
        up: for each element that crosses from 8 bits to float.
        down: for each element that crosses from float to 8 bits.
        cast: for each element that crosses between float types.
        edge: for each boundary.
        constant: what no plan changes.
        own: (producer, consumer, way) -> what this boundary costs beyond that.
    """

    unary: Mapping[tuple[str, Precision], float]
    up: float
    down: float
    cast: float
    edge: float
    constant: float
    own: Mapping[Crossing, float] = field(default_factory=dict)

    def boundary(self, edge: Edge, producer: Precision, consumer: Precision) -> float:
        """The price of one edge between two precisions, 0 or more; nothing where they are equal."""
        kind = crossing(producer, consumer)
        if kind is None:
            return 0.0
        shared = self.edge + edge.elements * {"up": self.up, "down": self.down, "cast": self.cast}[kind]
        return max(shared + self.own.get((edge.producer, edge.consumer, kind), 0.0), 0.0)

    def predict(self, partition: Partition, plan: Assignment, carrier: Precision) -> float:
        """Latency of a plan relative to FP32."""
        total = self.constant + sum(self.unary[(unit.name, plan[unit.name])] for unit in partition.units)
        for edge in partition.edges:
            total += self.boundary(edge, plan.get(edge.producer, carrier), plan.get(edge.consumer, carrier))
        return total


def crossing(producer: Precision, consumer: Precision) -> str | None:
    """Which way an edge crosses: "up" from 8 bits, "down" to 8 bits, "cast" between floats, None not at all."""
    if producer is consumer:
        return None
    if producer.is_quantized and not consumer.is_quantized:
        return "up"
    if consumer.is_quantized:
        return "down"
    return "cast"


class Pricing:
    """What the latency of one partition's plans is made of: rows of a linear model.

    Args:
        partition: units and edges.
        prior: (unit, precision) -> profiled share of FP32's latency.
        carrier: precision of what is outside all units.
    """

    def __init__(self, partition: Partition, prior: Prior, carrier: Precision, assumed: Assumed = LATENCY) -> None:
        self.partition, self.prior, self.carrier, self.assumed = partition, prior, carrier, assumed
        self.largest = max((edge.elements for edge in partition.edges), default=1) or 1
        self.units = {key: place for place, key in enumerate(prior)}
        self.edges: dict[Crossing, int] = {}
        for edge, kind in itertools.product(partition.edges, _KINDS):
            self.edges.setdefault((edge.producer, edge.consumer, kind), len(self.edges))
        mean = sum(prior.values()) / max(len(prior), 1) or 1.0 / max(len(partition.units), 1)
        self.unit_scale = np.array([value + assumed.least_unit * mean for value in prior.values()])
        size = {(e.producer, e.consumer): e.elements / self.largest for e in partition.edges}
        self.edge_scale = np.array([assumed.guess[1] * size[key[:2]] + assumed.guess[4] for key in self.edges])

    def parts(self, plans: Sequence[Assignment]) -> tuple[Array, Array, Array]:
        """What each plan is made of.

        Returns:
            float64[plans, 6]: profiled sum, elements up, down and cast over the largest, boundaries, 1;
            float64[plans, (unit, precision)]: whether it has it; float64[plans, crossings]: whether it makes it.
        """
        count = len(plans)
        shared, units = np.zeros((count, 6)), np.zeros((count, len(self.units)))
        edges = np.zeros((count, len(self.edges)))
        shared[:, 5] = 1.0
        profiled = np.array(list(self.prior.values()))
        places = np.array([[self.units[unit.name, plan[unit.name]] for unit in self.partition.units] for plan in plans])
        if places.size:
            np.put_along_axis(units, places.reshape(count, -1), 1.0, axis=1)
            shared[:, 0] = profiled[places].sum(axis=1)
        for row, plan in enumerate(plans):
            for edge in self.partition.edges:
                before, after = plan.get(edge.producer, self.carrier), plan.get(edge.consumer, self.carrier)
                if before is after:
                    continue
                kind = crossing(before, after) or ""
                shared[row, 1 + _KINDS.index(kind)] += edge.elements / self.largest
                shared[row, 4] += 1
                edges[row, self.edges[edge.producer, edge.consumer, kind]] += 1
        return shared, units, edges

    def rows(self, plans: Sequence[Assignment]) -> Array:
        """float64[plans, parameters]; units and edges in units of their scales."""
        shared, units, edges = self.parts(plans)
        return np.concatenate([shared, units * self.unit_scale, edges * self.edge_scale], axis=1)

    def model(self, weights: Array) -> LatencyModel:
        """The model of these parameters."""
        share, up, down, cast, edge, constant = weights[:6]
        middle = 6 + len(self.units)
        per_unit = weights[6:middle] * self.unit_scale
        unary = {key: float(share * value + per_unit[self.units[key]]) for key, value in self.prior.items()}
        own = {
            key: float(value)
            for key, value in zip(self.edges, weights[middle:] * self.edge_scale, strict=True)
            if value
        }
        return LatencyModel(
            unary, float(up / self.largest), float(down / self.largest), float(cast / self.largest), float(edge),
            float(constant), own,
        )  # fmt: skip


class LatencyFit:
    """The linear model fitted to measured plans, with what it still does not know.

    Args:
        pricing: of the partition.
        measured: plans with their latency relative to FP32, which is above 0.
    """

    def __init__(self, pricing: Pricing, measured: Sequence[tuple[Assignment, float]]) -> None:
        self.pricing = pricing
        self._target = np.array([value for _, value in measured])
        self._rows = pricing.rows([plan for plan, _ in measured]) / self._target[:, None]  # relative errors count
        self._guess = np.zeros(self._rows.shape[1])
        self._guess[:6] = pricing.assumed.guess
        self._deviation, self._noise = self._likeliest()
        self._solve()

    @property
    def model(self) -> LatencyModel:
        """The most likely prices."""
        return self.pricing.model(self._weights)

    def predict(self, plans: Sequence[Assignment]) -> tuple[Array, Array]:
        """Latency of each plan relative to FP32, and its standard deviation: of the prices, and of what has none."""
        rows = self.pricing.rows(plans)
        known = (rows * self._deviation**2) @ self._rows.T
        doubt = ((rows * self._deviation) ** 2).sum(axis=1) - (known * self._solved(known.T).T).sum(axis=1)
        mean = rows @ self._weights
        return mean, np.sqrt(np.maximum(doubt, 0.0) + (self._noise * mean) ** 2)

    def drawn(self, random: np.random.Generator) -> LatencyModel:
        """Prices as they might be, given the measurements (Thompson 1933; drawn as by Matheron's rule)."""
        start = self._guess + self._deviation * random.standard_normal(len(self._guess))
        noise = self._noise * random.standard_normal(len(self._target))
        surprise = 1.0 - self._rows @ start - noise
        drawn = start + self._deviation**2 * (self._rows.T @ self._solved(surprise))
        drawn[:6] = np.maximum(drawn[:6], 0.0)
        return self.pricing.model(drawn)

    def _likeliest(self) -> tuple[Array, float]:
        """Deviations of all parameters, and the noise, that make the measurements most likely."""
        assumed, middle = self.pricing.assumed, 6 + len(self.pricing.units)
        parts = (slice(0, 6), slice(6, middle), slice(middle, None))
        shared = np.ones(len(self._guess))
        shared[:6] = assumed.doubt
        grams = [(self._rows[:, part] * shared[part] ** 2) @ self._rows[:, part].T for part in parts]
        surprise = 1.0 - self._rows @ self._guess
        best, chosen = -np.inf, (assumed.unit_doubts[1], assumed.edge_doubts[1], assumed.noises[1])
        for unit, edge, noise in itertools.product(assumed.unit_doubts, assumed.edge_doubts, assumed.noises):
            gram = grams[0] + unit**2 * grams[1] + edge**2 * grams[2] + noise**2 * np.eye(len(surprise))
            factor = np.linalg.cholesky(gram)
            scaled = np.linalg.solve(factor, surprise)
            evidence = -0.5 * float(scaled @ scaled) - float(np.log(np.diag(factor)).sum())
            if evidence > best:
                best, chosen = evidence, (unit, edge, noise)
        shared[parts[1]], shared[parts[2]] = chosen[0], chosen[1]
        return shared, chosen[2]

    def _solve(self) -> None:
        """The posterior's mean; of the six that would be negative, each is fixed at 0 in turn."""
        for _ in range(6):
            gram = (self._rows * self._deviation**2) @ self._rows.T + self._noise**2 * np.eye(len(self._target))
            self._factor = cho_factor(gram)
            surprise = 1.0 - self._rows @ self._guess
            self._weights = self._guess + self._deviation**2 * (self._rows.T @ self._solved(surprise))
            worst = int(np.argmin(self._weights[:6]))
            if self._weights[worst] >= 0:
                break
            self._guess[worst] = self._deviation[worst] = 0.0

    def _solved(self, values: Array) -> Array:
        result: Array = cho_solve(self._factor, values)
        return result


def fit(
    partition: Partition, prior: Prior, carrier: Precision, measured: Sequence[tuple[Assignment, float]]
) -> LatencyModel:
    """Fit to measured plans.

    Args:
        partition: units and edges.
        prior: (unit, precision) -> profiled share of FP32's latency.
        carrier: precision of what is outside all units.
        measured: plans with their latency relative to FP32.
    """
    return LatencyFit(Pricing(partition, prior, carrier), measured).model
