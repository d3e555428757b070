"""The size of a built model: the bytes of its weights by precision, what conversions add, and a constant.

It is the same linear model as that of the latency with another profile: how many weights a unit has is known before
anything is built, and the built plans show the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from autoprec.plan import Assignment
from autoprec.precision import Array, Precision
from autoprec.study.guide.fitting import LatencyFit
from autoprec.study.guide.latency import Crossing, LatencyModel
from autoprec.study.guide.pricing import Assumed, Pricing
from autoprec.study.guide.solve import Problem

_SIZE = Assumed(
    guess=(1.0, 0.0, 0.0, 0.0, 0.001, 0.0),
    doubt=(0.5, 0.0, 0.0, 0.0, 0.01, 0.3),
    unit_doubts=(0.01, 0.1, 0.5),
    edge_doubts=(0.1, 0.5, 2.0),
    noises=(0.0005, 0.005, 0.03),
    least_unit=0.03,
)


def size_pricing(problem: Problem) -> Pricing:
    """What the sizes of plans are made of, in shares of the bytes of all weights in FP32."""
    units = problem.partition.units
    total = sum(unit.weights for unit in units) * Precision.FP32.bits or 1
    prior = {
        (unit.name, precision): unit.weights * precision.bits / total
        for unit in units
        for precision in {Precision.FP32, *problem.choices[unit.name]}
    }
    return Pricing(problem.partition, prior, problem.carrier, _SIZE)


class SizeFit:
    """The size model fitted to built plans.

    Args:
        pricing: what `size_pricing` gives.
        plans: the built plans.
        sizes: the bytes of each, float64[plans], above 0.

    Attributes:
        unit: the bytes of the largest plan, in shares of which the model predicts sizes.
        fit: the linear model of these shares.
    """

    def __init__(self, pricing: Pricing, plans: Sequence[Assignment], sizes: Array) -> None:
        self.unit = float(max(sizes, default=1.0))
        self.fit = LatencyFit(pricing, plans, sizes / self.unit)


def combined(model: LatencyModel, other: LatencyModel, weight: float) -> LatencyModel:
    """The prices of one model plus `weight` times those of another."""
    own: Mapping[Crossing, float] = {
        key: model.own.get(key, 0.0) + weight * other.own.get(key, 0.0) for key in {*model.own, *other.own}
    }
    unary = {key: price + weight * other.unary.get(key, 0.0) for key, price in model.unary.items()}
    return replace(
        model,
        unary=unary,
        up=model.up + weight * other.up,
        down=model.down + weight * other.down,
        cast=model.cast + weight * other.cast,
        edge=model.edge + weight * other.edge,
        constant=model.constant + weight * other.constant,
        own=own,
    )
