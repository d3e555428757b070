"""Latency as a sum over units plus a price for every boundary where precision changes.

A change of precision costs a conversion and breaks a fusion: on an H200 a plan chosen by sensitivity alone
ran up to 2.5 times slower than plain FP16. Six parameters, fitted to measured plans, explain most of it:
a factor on the profiled sum of units, elements that cross from 8 bits to float, from float to 8 bits and
between float types, the number of such boundaries, and a constant. What is left is given to units by ridge
regression.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from autoprec.precision import Array, Precision
from autoprec.units.records import Edge, Partition

Assignment = Mapping[str, Precision]
_RIDGE = 3.0
"""Weight of the assumption that the units' own corrections are zero, in measured plans."""


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
    """

    unary: Mapping[tuple[str, Precision], float]
    up: float
    down: float
    cast: float
    edge: float
    constant: float

    def boundary(self, edge: Edge, producer: Precision, consumer: Precision) -> float:
        """The price of one edge between two precisions; nothing where they are equal."""
        kind = crossing(producer, consumer)
        if kind is None:
            return 0.0
        return self.edge + edge.elements * {"up": self.up, "down": self.down, "cast": self.cast}[kind]

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


def features(
    partition: Partition, plan: Assignment, carrier: Precision, prior: Mapping[tuple[str, Precision], float]
) -> Array:
    """[profiled sum, elements up, elements down, elements cast, boundaries, 1]."""
    row = np.zeros(6)
    row[0] = sum(prior[(unit.name, plan[unit.name])] for unit in partition.units)
    for edge in partition.edges:
        kind = crossing(plan.get(edge.producer, carrier), plan.get(edge.consumer, carrier))
        if kind is not None:
            row[{"up": 1, "down": 2, "cast": 3}[kind]] += edge.elements
            row[4] += 1
    row[5] = 1.0
    return row


def fit(
    partition: Partition,
    prior: Mapping[tuple[str, Precision], float],
    carrier: Precision,
    measured: Sequence[tuple[Assignment, float]],
) -> LatencyModel:
    """Fit to measured plans.

    Args:
        partition: units and edges.
        prior: (unit, precision) -> profiled share of FP32's latency.
        carrier: precision of what is outside all units.
        measured: plans with their latency relative to FP32.
    """
    rows = np.array([features(partition, plan, carrier, prior) for plan, _ in measured])
    target = np.array([value for _, value in measured])
    largest = max((edge.elements for edge in partition.edges), default=1) or 1
    scale = np.array([1.0, largest, largest, largest, 1.0, 1.0])
    # Before anything mixed was measured a boundary costs what a guess says; each row is one observation.
    guess = np.array([1.0, 0.03, 0.03, 0.01, 0.002, 0.0])
    weight = np.array([3.0, 3.0, 3.0, 3.0, 30.0, 1.0]) * 0.3
    matrix = np.vstack([rows / scale, np.diag(weight)])
    solution, _ = nnls(matrix, np.concatenate([target, weight * guess]))
    residual = target - (rows / scale) @ solution
    corrections = _corrections(partition, measured, residual)
    unary = {key: solution[0] * value + corrections.get(key, 0.0) for key, value in prior.items()}
    up, down, cast, edge = solution[1:5] / scale[1:5]
    return LatencyModel(unary, float(up), float(down), float(cast), float(edge), float(solution[5]))


def _corrections(
    partition: Partition, measured: Sequence[tuple[Assignment, float]], residual: Array
) -> dict[tuple[str, Precision], float]:
    keys = [(unit.name, p) for unit in partition.units for p in sorted({plan[unit.name] for plan, _ in measured})]
    if not keys or len(measured) < 4:
        return {}
    matrix = np.array([[float(plan[name] is p) for name, p in keys] for plan, _ in measured])
    matrix -= matrix.mean(axis=0)  # what all plans share is the constant's
    gram = matrix @ matrix.T + _RIDGE * np.eye(len(measured))
    weights = matrix.T @ np.linalg.solve(gram, residual - residual.mean())
    return {key: float(value) for key, value in zip(keys, weights, strict=True)}
