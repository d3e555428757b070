"""The size of a built model: the bytes of its weights by precision, what conversions add, and a constant.

The same linear model as that of latency, from another profile: how many weights a unit has is known before anything
is built, and what is built shows the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.study.guide.fitting import LatencyFit
from autoprec.study.guide.latency import Assumed, Crossing, LatencyModel, Pricing, Timed
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
    """What the sizes of plans are made of, in shares of all weights in FP32."""
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
        pricing: of `size_pricing`.
        built: plans with their bytes, which are above 0.

    Attributes:
        unit: bytes of the largest plan; sizes are in shares of it.
    """

    def __init__(self, pricing: Pricing, built: Sequence[tuple[Assignment, float]]) -> None:
        self.unit = max((size for _, size in built), default=1.0)
        self.fit = LatencyFit(pricing, [Timed(plan, size / self.unit) for plan, size in built])


def combined(model: LatencyModel, other: LatencyModel, weight: float) -> LatencyModel:
    """The prices of one model and `weight` times those of another."""
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
