"""Latency as a sum over units plus a price for every boundary where the precision changes.

A change of precision costs a conversion and breaks a fusion: on an H200 a plan that was chosen by sensitivity alone
ran up to 2.5 times slower than plain FP16. Six parameters explain most of it: a factor on the profiled sum of
units, elements that cross from 8 bits to float, from float to 8 bits and between float types, the number of
such boundaries, and a constant. On top of them each pair of precisions, every unit and every boundary has a
correction of its own; `autoprec.study.guide.fitting` fits all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.study.guide.columns import crossing
from autoprec.units.records import Edge, Partition

Crossing = tuple[str, str, Precision, Precision]
"""A boundary: the unit before, the unit after, and their precisions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyModel:
    """A fitted model; all prices are in units of FP32's latency.

    Attributes:
        unary: (unit, precision) -> the price of the unit.
        up: the price of each element that crosses from 8 bits to float.
        down: the price of each element that crosses from float to 8 bits.
        cast: the price of each element that crosses between float types.
        edge: the price of each boundary.
        constant: what every plan costs.
        own: the price of a single boundary beyond all this.
    """

    unary: Mapping[tuple[str, Precision], float]
    up: float
    down: float
    cast: float
    edge: float
    constant: float
    own: Mapping[Crossing, float] = field(default_factory=dict)

    def boundary(self, edge: Edge, producer: Precision, consumer: Precision) -> float:
        """The price of one edge between two precisions: 0 or more, and 0 where they are equal."""
        kind = crossing(producer, consumer)
        if kind is None:
            return 0.0
        shared = self.edge + edge.elements * {"up": self.up, "down": self.down, "cast": self.cast}[kind]
        return max(shared + self.own.get((edge.producer, edge.consumer, producer, consumer), 0.0), 0.0)

    def predict(self, partition: Partition, plan: Assignment, carrier: Precision) -> float:
        """The latency of a plan relative to FP32's."""
        total = self.constant + sum(self.unary[(unit.name, plan[unit.name])] for unit in partition.units)
        for edge in partition.edges:
            total += self.boundary(edge, plan.get(edge.producer, carrier), plan.get(edge.consumer, carrier))
        return total
