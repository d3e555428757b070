"""Many plans of the same units in little memory: a search looks at ten thousand plans of a thousand units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

from autoprec.plan import Assignment
from autoprec.precision import Precision

Numbers = npt.NDArray[np.int8]
Indices = npt.NDArray[np.intp]

PRECISIONS = tuple(Precision)
NUMBER = {precision: number for number, precision in enumerate(PRECISIONS)}
"""The number of each precision in a table."""

Key = bytes


@dataclass(frozen=True, slots=True, eq=False)
class PlanTable(Sequence[Assignment]):
    """Plans, each of which is a row of numbers of precisions; as a sequence it gives them as assignments.

    Attributes:
        names: the units.
        numbers: the number of each unit's precision, int8[plans, units].
    """

    names: tuple[str, ...]
    numbers: Numbers

    @classmethod
    def of(cls, names: Iterable[str], plans: Sequence[Assignment]) -> PlanTable:
        """The table of these plans; a table of the same units is given back as it is.

        Raises:
            KeyError: a plan lacks a unit.
        """
        names = tuple(names)
        if isinstance(plans, PlanTable) and plans.names == names:
            return plans
        rows = [[NUMBER[plan[name]] for name in names] for plan in plans]
        return cls(names, np.array(rows, np.int8).reshape(len(rows), len(names)))

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> dict[str, Precision]: ...
    @overload
    def __getitem__(self, index: slice) -> PlanTable: ...
    def __getitem__(self, index: int | slice) -> dict[str, Precision] | PlanTable:
        if isinstance(index, slice):
            return PlanTable(self.names, self.numbers[index])
        return {name: PRECISIONS[number] for name, number in zip(self.names, self.numbers[index].tolist(), strict=True)}

    def taken(self, indices: Sequence[int] | Indices) -> PlanTable:
        """The plans with these indices."""
        return PlanTable(self.names, self.numbers[np.asarray(indices, np.intp)])

    def keys(self) -> Iterator[Key]:
        """The key of each plan, as `plan_key` gives it."""
        order = sorted(range(len(self.names)), key=self.names.__getitem__)
        for row in self.numbers[:, order]:
            yield row.tobytes()


def plan_key(plan: Assignment) -> Key:
    """A plan as a key of sets and dictionaries, which does not depend on the order of its units."""
    return bytes(NUMBER[plan[name]] for name in sorted(plan))


def kinds_of(codes: npt.NDArray[np.int64], most: int) -> tuple[Indices, Indices]:
    """Which rows have equal codes.

    Args:
        codes: a code of each row, from 0 on, int64[rows].
        most: a number above all codes.

    Returns:
        For each kind the index of one of its rows, and for each row the number of its kind.
    """
    if most > _DENSE_CODES:
        _, first, kinds = np.unique(codes, return_index=True, return_inverse=True)
        return first, kinds.reshape(-1)
    one = np.full(most, -1, np.intp)
    one[codes] = np.arange(len(codes))
    present = np.flatnonzero(one >= 0)
    number = np.empty(most, np.intp)
    number[present] = np.arange(len(present))
    return one[present], number[codes]


_DENSE_CODES = 1 << 13
