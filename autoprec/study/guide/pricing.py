"""What a figure of a plan is made of: the rows of a linear model, whose columns `columns.py` explains."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoprec.plan import Assignment
from autoprec.precision import Array, Precision
from autoprec.study.guide.columns import (
    BOUNDARIES,
    CAST,
    CONSTANT,
    DOWN,
    EACH,
    INTO,
    OUTOF,
    PROFILED,
    SHARED,
    UP,
    Columns,
    Indices,
)
from autoprec.study.guide.latency import Crossing, LatencyModel
from autoprec.study.guide.local import summed
from autoprec.study.guide.plan_table import NUMBER, PRECISIONS, PlanTable
from autoprec.units.records import Edge, Partition

Prior = Mapping[tuple[str, Precision], float]
UnitFigures = Callable[[int, Array, Array], Array]


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """What is assumed before anything is measured, in shares of FP32's figure.

    Attributes:
        guess: the six parameters that all plans share: the factor on the profiled sum, the price of an element up,
            down and cast, the price of a boundary, and the constant.
        doubt: the standard deviations of the six.
        unit_doubts: standard deviations of units from the profile, from which the evidence chooses.
        edge_doubts: standard deviations of boundaries from the guess, likewise.
        pair_doubts: the standard deviations of boundaries of one pair of precisions from those of their kind: for an
            element that enters a unit, for one that leaves a unit, and for each boundary.
        noises: standard deviations of a measurement, from which the evidence chooses.
        least_unit: the share of the mean unit that is added to each unit before its doubt is taken, because the
            profile may have missed the unit.
    """

    guess: tuple[float, ...]
    doubt: tuple[float, ...]
    unit_doubts: tuple[float, ...]
    edge_doubts: tuple[float, ...]
    noises: tuple[float, ...]
    least_unit: float
    pair_doubts: tuple[float, float, float] = (0.0, 0.0, 0.0)


LATENCY = Assumed(
    guess=(1.0, 0.03, 0.03, 0.01, 0.002, 0.0),
    doubt=(1.0, 1.0, 1.0, 1.0, 0.1, 0.3),  # measured boundaries have cost nothing, and ten times the guess
    unit_doubts=(0.1, 0.3, 1.0),
    edge_doubts=(0.1, 0.5, 2.0),
    noises=(0.01, 0.03, 0.1),
    least_unit=0.3,
    pair_doubts=(0.1, 0.1, 0.02),
)


class Pricing:
    """What the latency, or another figure, of one partition's plans is made of.

    Args:
        partition: units and edges.
        prior: (unit, precision) -> profiled share of FP32's figure.
        carrier: the precision of what is outside all units.
        assumed: what is assumed before anything is measured.

    Attributes:
        columns: the columns of the linear model.
        scales: the unit of each parameter after the common ones, float64[total - common].
        blocks: the columns that belong to each unit alone.
        largest: the elements of the largest edge, in which elements are counted.
    """

    def __init__(self, partition: Partition, prior: Prior, carrier: Precision, assumed: Assumed = LATENCY) -> None:
        self.partition, self.prior, self.carrier, self.assumed = partition, prior, carrier, assumed
        self.largest = max((edge.elements for edge in partition.edges), default=1) or 1
        self.columns = Columns(partition, prior, sorted({p for _, p in prior} | {carrier}))
        self.scales = self._scaled()
        self.blocks = self.columns.blocks()
        self._pair_numbers = self.columns.pair_numbers()
        self._edges_of: list[list[tuple[Edge, int, bool]]] = [[] for _ in partition.units]
        for edge in partition.edges:
            before, after = (self.columns.places.get(end) for end in (edge.producer, edge.consumer))
            if after is not None and before is not None:
                self._edges_of[before].append((edge, self.columns.before(edge), False))
            if after is not None or before is not None:
                entered = before if after is None else after
                self._edges_of[entered or 0].append((edge, self.columns.after(edge), True))
        self._around = [self._places_around(unit) for unit in range(len(partition.units))]

    def rows(self, plans: Sequence[Assignment]) -> Array:
        """What each plan is made of, float64[plans, columns]."""
        rows = np.zeros((len(plans), self.columns.total))
        rows[:, CONSTANT] = 1.0
        numbers = self._numbers(plans)
        for index, unit in enumerate(self.partition.units):
            self._add_unit(rows, rows, unit.name, numbers[:, index])
        for edge, plan, pair in self._crossed(numbers):
            self._add_edge((rows, rows, rows), edge, plan, pair)
        rows[:, self.columns.common :] *= self.scales
        return rows

    def local_rows(self, plans: Sequence[Assignment]) -> tuple[Array, Array]:
        """The same by unit: float64[plans, units, common columns], and float64[plans, columns] as `rows` gives."""
        common = self.columns.common
        rows = np.zeros((len(plans), self.columns.total))
        local = np.zeros((len(plans), len(self.partition.units), common))
        numbers = self._numbers(plans)
        for index, unit in enumerate(self.partition.units):
            self._add_unit(local[:, index], rows, unit.name, numbers[:, index])
        nowhere = np.zeros((len(plans), common))
        for edge, plan, pair in self._crossed(numbers):
            before, after = self.columns.places.get(edge.producer), self.columns.places.get(edge.consumer)
            into = nowhere if after is None and before is None else local[:, before if after is None else after]
            outof = nowhere if after is None or before is None else local[:, before]
            self._add_edge((into, outof, rows), edge, plan, pair)
        rows[:, common:] *= self.scales
        return local, rows

    def summed(self, plans: Sequence[Assignment], width: int, figures: UnitFigures) -> Array:
        """Add up figures of all units in each plan.

        Args:
            plans: the plans.
            width: how many figures there are.
            figures: gives the figures of a unit, float64[rows, width], of the number of the unit, and what rows are
                made of in the common columns, float64[rows, common], and in the unit's own, float64[rows, own].

        Returns:
            float64[plans, width], without what the constant adds.
        """

        def of_unit(unit: int, numbers: Indices) -> Array:
            return figures(unit, *self._unit_rows(unit, numbers))

        return summed(self._numbers(plans), self._around, width, of_unit)

    def _unit_rows(self, unit: int, numbers: Indices) -> tuple[Array, Array]:
        """What plans are made of in the common columns by one unit, and in the unit's own columns."""
        columns, block = self.columns, self.blocks[unit]
        common, own = np.zeros((len(numbers), columns.common)), np.zeros((len(numbers), len(block)))
        name = self.partition.units[unit].name
        chosen, profiled = self._of_unit(name, numbers[:, unit])
        common[:, PROFILED] = profiled
        own[np.arange(len(numbers)), np.searchsorted(block, chosen)] = 1.0
        for edge, first, into in self._edges_of[unit]:
            before, after = (columns.places.get(end, -1) for end in (edge.producer, edge.consumer))
            pairs = self._pair_numbers[numbers[:, before], numbers[:, after]]
            at = np.flatnonzero(pairs >= 0)
            pairs, size = pairs[at], edge.elements / self.largest
            self._add_common(common, size, at, pairs, into)
            own[at, np.searchsorted(block, first + pairs)] += 1
        return common, own * self.scales[block - columns.common]

    def model(self, weights: Array) -> LatencyModel:
        """The model with these parameters, float64[columns]."""
        columns = self.columns
        scaled = weights[columns.common :] * self.scales
        unary = {
            key: float(weights[PROFILED] * value + scaled[columns.units[key] - columns.common])
            for key, value in self.prior.items()
        }
        return LatencyModel(
            unary=unary,
            up=float(weights[UP] / self.largest),
            down=float(weights[DOWN] / self.largest),
            cast=float(weights[CAST] / self.largest),
            edge=float(weights[BOUNDARIES]),
            constant=float(weights[CONSTANT]),
            own=dict(self._own(weights[SHARED : columns.common].reshape(-1, 3), scaled)),
        )

    def _own(self, pairs: Array, scaled: Array) -> Iterator[tuple[Crossing, float]]:
        """What boundaries cost beyond what all boundaries of their kind do."""
        columns = self.columns
        for edge in self.partition.edges:
            after, before = columns.after(edge) - columns.common, columns.before(edge) - columns.common
            between = columns.is_between(edge)
            for index, (producer, consumer) in enumerate(columns.pairs):
                into, outof, each = pairs[index, INTO], pairs[index, OUTOF], pairs[index, EACH]
                price = each + (into + (outof if between else 0.0)) * edge.elements / self.largest
                price += scaled[after + index] + (scaled[before + index] if between else 0.0)
                if price:
                    yield (edge.producer, edge.consumer, producer, consumer), float(price)

    def _places_around(self, unit: int) -> list[int]:
        """The places of precisions that the part of a unit depends on, its own first."""
        ends = [end for edge, _, _ in self._edges_of[unit] for end in (edge.producer, edge.consumer)]
        return list(dict.fromkeys([unit, *(self.columns.places.get(end, len(self.blocks)) for end in ends)]))

    def _scaled(self) -> Array:
        """Doubts are relative: a parameter's unit is its unit's profiled share, or what its boundary should cost."""
        assumed, prior = self.assumed, self.prior
        size: dict[tuple[str, str], float] = {}
        for edge in self.partition.edges:
            ends = edge.producer, edge.consumer
            size[ends] = max(size.get(ends, 0.0), edge.elements / self.largest)
        mean = sum(prior.values()) / max(len(prior), 1) or 1.0 / max(len(self.partition.units), 1)
        of_units = [value + assumed.least_unit * mean for value in prior.values()]
        of_edges = [assumed.guess[UP] * size[ends] + assumed.guess[BOUNDARIES] for ends in self.columns.edges]
        return np.concatenate([of_units, np.repeat(of_edges, 2 * len(self.columns.pairs))])

    def _numbers(self, plans: Sequence[Assignment]) -> Indices:
        """int[plans, units + 1]: the number of each unit's precision; the last is that of the outside."""
        table = PlanTable.of(self.columns.places, plans)
        number = np.full(len(PRECISIONS), -1, np.intp)
        for index, precision in enumerate(self.columns.precisions):
            number[NUMBER[precision]] = index
        found = number[table.numbers]
        if (found < 0).any():
            raise KeyError("a plan has a precision that no unit has a profiled share in")
        outside = np.full((len(table), 1), number[NUMBER[self.carrier]])
        return np.concatenate([found, outside], axis=1)

    def _crossed(self, numbers: Indices) -> Iterator[tuple[Edge, Indices, Indices]]:
        """Each edge, the plans in which it is a boundary, and the number of the pair in each of them."""
        pair, places = self._pair_numbers, self.columns.places
        for edge in self.partition.edges:
            before, after = (numbers[:, places.get(name, -1)] for name in (edge.producer, edge.consumer))
            found = pair[before, after]
            plans = np.flatnonzero(found >= 0)
            if len(plans):
                yield edge, plans, found[plans]

    def _add_unit(self, common: Array, rows: Array, name: str, numbers: Indices) -> None:
        """Add a unit, whose precision in each plan has this number."""
        columns, profiled = self._of_unit(name, numbers)
        common[:, PROFILED] += profiled
        rows[np.arange(len(numbers)), columns] = 1.0

    def _of_unit(self, name: str, numbers: Indices) -> tuple[Indices, Array]:
        """The column of a unit in precisions of these numbers, and its profiled share."""
        precisions = self.columns.precisions
        columns = np.array([self.columns.units.get((name, p), -1) for p in precisions])[numbers]
        profiled = np.array([self.prior.get((name, p), 0.0) for p in precisions])
        if (columns < 0).any():
            raise KeyError(f"unit {name} has no profiled share in one of its precisions")
        return columns, profiled[numbers]

    def _add_edge(self, rows: tuple[Array, Array, Array], edge: Edge, plans: Indices, pairs: Indices) -> None:
        """Add a boundary to the common columns of the unit after and of the unit before, and to its own columns."""
        into, outof, own = rows
        columns, size = self.columns, edge.elements / self.largest
        self._add_common(into, size, plans, pairs, True)
        own[plans, columns.after(edge) + pairs] += 1
        if columns.is_between(edge):
            self._add_common(outof, size, plans, pairs, False)
            own[plans, columns.before(edge) + pairs] += 1

    def _add_common(self, common: Array, size: float, plans: Indices, pairs: Indices, into: bool) -> None:
        """Add a boundary to the common columns of the unit that it enters, or of the one that it leaves."""
        columns = self.columns
        if not into:
            common[plans, columns.of_pairs(pairs, OUTOF)] += size
            return
        common[plans, columns.kinds[pairs]] += size
        common[plans, BOUNDARIES] += 1
        common[plans, columns.of_pairs(pairs, INTO)] += size
        common[plans, columns.of_pairs(pairs, EACH)] += 1
