"""Figures of many plans as sums over units, of which each looks at its own precision and at those of its neighbours.

Plans that a search looks at once differ from each other in few units. So a unit has few surroundings among them, and
its part is computed once for each, not once for each plan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from autoprec.precision import Array
from autoprec.study.guide.plan_table import Indices, kinds_of

_LARGEST_CODE = 1 << 40


def summed(
    numbers: Indices, around: Sequence[Sequence[int]], width: int, figures: Callable[[int, Indices], Array]
) -> Array:
    """Add up the figures of all units in each plan.

    Args:
        numbers: the numbers of precisions, int[plans, places]; the first places are the units.
        around: for each unit the places that its figures depend on, its own first.
        width: how many figures there are.
        figures: gives the figures of a unit, float64[rows, width], for rows of `numbers`.

    Returns:
        float64[plans, width].
    """
    found = np.zeros((len(numbers), width))
    if not len(numbers):
        return found
    columns = np.ascontiguousarray(numbers.T)
    choices = int(numbers.max(initial=0)) + 1
    total = np.zeros(width)
    for unit, places in enumerate(around):
        one, kinds = _surroundings(columns, places, choices)
        parts = figures(unit, numbers[one])
        usual = int(np.argmax(np.bincount(kinds)))
        total += parts[usual]
        if len(one) > 1:
            others = np.flatnonzero(kinds != usual)
            found[others] += (parts - parts[usual])[kinds[others]]
    return found + total


def _surroundings(columns: Indices, places: Sequence[int], choices: int) -> tuple[Indices, Indices]:
    """The kinds of surroundings of a unit: one plan of each kind, and the kind of each plan."""
    codes, most = columns[places[0]].astype(np.int64), choices
    for place in places[1:]:
        if most > _LARGEST_CODE:
            one, codes = kinds_of(codes, most)
            most = len(one)
        codes = codes * choices + columns[place]
        most *= choices
    return kinds_of(codes, most)
