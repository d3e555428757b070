"""Sums over units against adding up every plan by itself."""

from __future__ import annotations

import numpy as np

from autoprec.study.guide.local import summed
from autoprec.study.guide.plan_table import Indices

AROUND = [[0, 1], [1, 0, 2], [2, *range(12)]]


def test_the_sum_is_that_of_every_plan_by_itself() -> None:
    random = np.random.default_rng(0)
    numbers = random.integers(0, 5, (60, 12))
    weights = random.standard_normal((3, 12, 4))

    def figures(unit: int, rows: Indices) -> np.ndarray:
        seen = np.zeros_like(rows)
        seen[:, AROUND[unit]] = rows[:, AROUND[unit]]  # nothing else may matter
        return np.square(seen) @ weights[unit]

    alone = np.array([sum(figures(unit, row[None])[0] for unit in range(3)) for row in numbers])

    np.testing.assert_allclose(summed(numbers, AROUND, 4, figures), alone, rtol=1e-12, atol=1e-9)
    assert summed(numbers[:0], AROUND, 4, figures).shape == (0, 4)
