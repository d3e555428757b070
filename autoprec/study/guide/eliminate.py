"""Choices of least cost for very many units, without a solver for integers.

A price of loss makes of the bound on the loss a part of the cost. What is left are costs of units and of pairs of
units, of which the least is found exactly by eliminating one unit after the other (bucket elimination: Dechter 1999).
The price is that at which the cheapest choices within the budget and the cheapest beyond it cost the same (Lagrangian
relaxation: Everett 1963); what the budget still allows after that is spent on single units.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoprec.precision import Array

_LARGEST_TABLE = 1 << 14
_ROUNDS = 40

Choices = tuple[int, ...]
Pairs = Mapping[tuple[int, int], Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """The elimination of one unit.

    Attributes:
        unit: the unit.
        behind: the units that are eliminated later and that its cost depends on, in that order.
        table: the costs of its pairs, with an axis for the unit and one for each of `behind`.
        target: the step that reads the result, -1 where no unit is left that it depends on.
        shape: the shape in which that step adds the result to its own table.
    """

    unit: int
    behind: tuple[int, ...]
    table: Array
    target: int
    shape: tuple[int, ...]


class Elimination:
    """The order in which units are eliminated.

    Args:
        counts: how many choices each unit has.
        pairs: (unit, unit) -> the cost of each pair of their choices, float64[choices, choices].

    Attributes:
        fits: whether all tables are small; where the units are too tangled there is no solution.
    """

    def __init__(self, counts: Sequence[int], pairs: Pairs) -> None:
        self._counts, self._pairs = counts, pairs
        self._steps: list[_Step] = []
        order = self._order()
        self.fits = order is not None
        place = {unit: index for index, (unit, _) in enumerate(order or ())}
        own: list[list[tuple[int, Array]]] = [[] for _ in counts]
        for (a, b), table in pairs.items() if self.fits else ():
            first, other, turned = (a, b, table) if place[a] < place[b] else (b, a, table.T)
            own[first].append((other, turned))
        for unit, around in order or ():
            behind = tuple(sorted(around, key=place.__getitem__))
            self._steps.append(self._step(unit, behind, own[unit], place, order or []))

    def _order(self) -> list[tuple[int, set[int]]] | None:
        """Each unit with those that it touches when it is eliminated; the one that touches fewest goes first."""
        around: list[set[int]] = [set() for _ in self._counts]
        for a, b in self._pairs:
            around[a].add(b)
            around[b].add(a)
        heap = [(len(near), unit) for unit, near in enumerate(around)]
        heapq.heapify(heap)
        found: list[tuple[int, set[int]]] = []
        gone: set[int] = set()
        while heap:
            size, unit = heapq.heappop(heap)
            near = around[unit]
            if unit in gone or size != len(near):
                continue
            if math.prod(self._counts[other] for other in {unit, *near}) > _LARGEST_TABLE:
                return None
            gone.add(unit)
            found.append((unit, near))
            for other in near:
                around[other] = (around[other] | near) - {unit, other}
                heapq.heappush(heap, (len(around[other]), other))
        return found

    def _step(
        self,
        unit: int,
        behind: tuple[int, ...],
        own: Sequence[tuple[int, Array]],
        place: Mapping[int, int],
        order: Sequence[tuple[int, set[int]]],
    ) -> _Step:
        table = np.zeros((self._counts[unit], *(self._counts[other] for other in behind)))
        for other, costs in own:
            shape = [1] * table.ndim
            shape[0], shape[1 + behind.index(other)] = costs.shape
            table += costs.reshape(shape)
        if not behind:
            return _Step(unit=unit, behind=behind, table=table, target=-1, shape=())
        target = behind[0]
        axes = [target, *sorted(order[place[target]][1], key=place.__getitem__)]
        shape = [self._counts[other] if other in behind else 1 for other in axes]
        return _Step(unit=unit, behind=behind, table=table, target=place[target], shape=tuple(shape))

    def least(self, costs: Sequence[Array]) -> Choices:
        """The choices of least cost; `costs` are those of each unit's choices, infinite where one is ruled out."""
        tables = [step.table + costs[step.unit].reshape(-1, *[1] * len(step.behind)) for step in self._steps]
        chosen: list[Array] = []
        for index, step in enumerate(self._steps):
            table = tables[index]
            chosen.append(table.argmin(axis=0))
            if step.target >= 0:
                tables[step.target] = tables[step.target] + table.min(axis=0).reshape(step.shape)
        found = [0] * len(self._counts)
        for step, best in zip(reversed(self._steps), reversed(chosen), strict=True):
            found[step.unit] = int(best[tuple(found[other] for other in step.behind)])
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Costs:
    """What choices cost and lose.

    Attributes:
        own: the cost of each choice of each unit, infinite where it is ruled out.
        loss: the loss of each.
        pairs: (unit, unit) -> the cost of each pair of choices.
    """

    own: Sequence[Array]
    loss: Sequence[Array]
    pairs: Pairs

    def of(self, choices: Choices) -> tuple[float, float]:
        """The cost and the loss of these choices."""
        cost = sum(float(costs[choice]) for costs, choice in zip(self.own, choices, strict=True))
        cost += sum(float(table[choices[a], choices[b]]) for (a, b), table in self.pairs.items())
        return cost, sum(float(lost[choice]) for lost, choice in zip(self.loss, choices, strict=True))


def cheapest_within(costs: Costs, budget: float) -> Choices | None:
    """The choices of about the least cost whose loss is within the budget.

    Returns:
        The choices; None where there are none, or where the units are too tangled for this way.
    """
    elimination = Elimination([len(own) for own in costs.own], costs.pairs)
    if not elimination.fits:
        return None
    over = elimination.least(costs.own)
    cost, loss = costs.of(over)
    if loss <= budget or not math.isfinite(cost):
        return over if loss <= budget and math.isfinite(cost) else None
    both = list(zip(costs.own, costs.loss, strict=True))
    within = tuple(int(np.where(np.isfinite(own), lost, np.inf).argmin()) for own, lost in both)
    best = costs.of(within)
    if best[1] > budget:
        return None
    for _ in range(_ROUNDS):
        price = (best[0] - cost) / (loss - best[1])
        middle = elimination.least([own + price * lost for own, lost in both])
        figures = costs.of(middle)
        if figures[0] + price * figures[1] >= (best[0] + price * best[1]) * (1 - 1e-9) - 1e-12:
            break  # no choices lie between the two
        if figures[1] <= budget:
            within, best = middle, figures
        else:
            cost, loss = figures
    return _spent(costs, within, budget - best[1])


def _spent(costs: Costs, choices: Choices, left: float) -> Choices:
    """Spend what is left of the budget on single units, the one that saves most first."""
    around: list[list[tuple[int, Array]]] = [[] for _ in costs.own]
    for (a, b), table in costs.pairs.items():
        around[a].append((b, table))
        around[b].append((a, table.T))
    found = list(choices)
    while True:
        best, change = -1e-12, None
        for unit, (own, lost) in enumerate(zip(costs.own, costs.loss, strict=True)):
            here = own + sum(table[:, found[other]] for other, table in around[unit])
            saved = np.where(lost - lost[found[unit]] <= left, here - here[found[unit]], np.inf)
            choice = int(saved.argmin())
            if saved[choice] < best:
                best, change = float(saved[choice]), (unit, choice)
        if change is None:
            return tuple(found)
        unit, choice = change
        left -= float(costs.loss[unit][choice] - costs.loss[unit][found[unit]])
        found[unit] = choice
