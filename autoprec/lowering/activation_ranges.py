"""The range of the value that a pair on an activation quantises."""

from __future__ import annotations

from autoprec.lowering.placement import ActivationPoint
from autoprec.precision import Precision
from autoprec.ranges.bins import Range
from autoprec.ranges.table import RangeTable, known_range


def range_of(ranges: RangeTable | None, point: ActivationPoint, name: str) -> Range:
    """Return the range of a value that a pair quantises.

    Raises:
        PlanError: the value has no calibrated range.
    """
    if point.fixed_scale is not None and ranges is not None:
        return Range(0.0, 1.0)
    return known_range(ranges, name, exact=point.precision is Precision.FP8)
