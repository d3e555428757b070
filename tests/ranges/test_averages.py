"""Moving averages over batches, and weighted means of calibrators."""

from __future__ import annotations

import numpy as np
import pytest

from autoprec.errors import DataError
from autoprec.ranges.averages import MovingRange, blended_range
from autoprec.ranges.bins import Range


def test_the_average_is_the_recursion_of_the_paper() -> None:
    moving = MovingRange(0.25)
    for batch in ([-1.0, 4.0], [-3.0, 8.0], [-1.0, 2.0]):
        moving.update(np.array(batch, np.float32))
    low = 0.75 * (0.75 * -1 + 0.25 * -3) + 0.25 * -1
    high = 0.75 * (0.75 * 4 + 0.25 * 8) + 0.25 * 2
    assert moving.span(symmetric=False) == Range(low, high)
    assert moving.span(symmetric=True) == Range(-high, high)


@pytest.mark.parametrize(
    ("values", "low", "high"), [([2.0, 3.0], 0.0, 3.0), ([-2.0, -1.0], -2.0, 0.0), ([0.0], 0.0, 1.0)]
)
def test_a_range_contains_zero_and_has_a_width(values: list[float], low: float, high: float) -> None:
    moving = MovingRange(1.0)
    moving.update(np.array([100.0]))
    moving.update(np.zeros(0))
    moving.update(np.array(values))
    assert moving.span(symmetric=False) == Range(low, high)


def test_without_values_there_is_no_range() -> None:
    with pytest.raises(DataError, match="at least one value"):
        MovingRange(0.1).span(symmetric=True)


def test_a_blend_weighs_the_bounds() -> None:
    spans = {"minmax": Range(-4.0, 8.0), "mse": Range(-1.0, 2.0)}
    assert blended_range(spans, {"minmax": 1.0, "mse": 2.0}) == Range(-2.0, 4.0)
