"""Latency as a sum over units plus a price for every boundary where precision changes.

A change of precision costs a conversion and breaks a fusion: on an H200 a plan chosen by sensitivity alone
ran up to 2.5 times slower than plain FP16. Six parameters explain most of it: a factor on the profiled sum of
units, elements that cross from 8 bits to float, from float to 8 bits and between float types, the number of
such boundaries, and a constant. On top of them each pair of precisions, every unit and every boundary has a
correction of its own; `autoprec.study.guide.fitting` fits all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from autoprec.plan import Assignment
from autoprec.precision import Array, Precision
from autoprec.units.records import Edge, Partition

Prior = Mapping[tuple[str, Precision], float]
Columns = npt.NDArray[np.intp]
Crossing = tuple[str, str, Precision, Precision]
"""A boundary: the unit before, the unit after, and their precisions."""

SHARED = 6
"""Parameters that all plans share: a factor on the profiled sum, elements up, down and cast, boundaries, a constant."""
_KINDS = ("up", "down", "cast")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """What is taken for true before anything is measured, in shares of FP32's figure.

    Attributes:
        guess: of the six that all plans share: profiled sum, elements up, down and cast, boundaries, constant.
        doubt: how far from the guess the six may lie.
        unit_doubts: how far units may lie from the profile; the evidence chooses.
        edge_doubts: how far boundaries may lie from the guess; likewise.
        pair_doubts: how far boundaries of one pair of precisions may together lie from those of their kind: for each
            element that enters a unit, for each that leaves one, and for each boundary.
        noises: of a measurement; likewise.
        least_unit: a unit is as doubtful as one of this share of the mean at least, for the profile may have missed
            it.
    """

    guess: tuple[float, ...]
    doubt: tuple[float, ...]
    unit_doubts: tuple[float, ...]
    edge_doubts: tuple[float, ...]
    noises: tuple[float, ...]
    least_unit: float
    pair_doubts: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Timed:
    """A plan that was timed.

    Attributes:
        plan: unit -> precision.
        latency: relative to FP32, above 0.
        layers_ms: unit -> milliseconds of its kernels, and of what converts for them, by the runtime's own profile;
            None where there is none.
    """

    plan: Assignment
    latency: float
    layers_ms: Mapping[str, float] | None = None


LATENCY = Assumed(
    guess=(1.0, 0.03, 0.03, 0.01, 0.002, 0.0),
    doubt=(1.0, 1.0, 1.0, 1.0, 0.1, 0.3),  # boundaries have cost nothing, and ten times the guess
    unit_doubts=(0.1, 0.3, 1.0),
    edge_doubts=(0.1, 0.5, 2.0),
    noises=(0.01, 0.03, 0.1),
    least_unit=0.3,
    pair_doubts=(0.1, 0.1, 0.02),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyModel:
    """A fitted model; times are in units of FP32's latency.

    Attributes:
        unary: (unit, precision) -> share, after fitting.
        up: for each element that crosses from 8 bits to float.
        down: for each element that crosses from float to 8 bits.
        cast: for each element that crosses between float types.
        edge: for each boundary.
        constant: what no plan changes.
        own: what a boundary costs beyond that.
    """

    unary: Mapping[tuple[str, Precision], float]
    up: float
    down: float
    cast: float
    edge: float
    constant: float
    own: Mapping[Crossing, float] = field(default_factory=dict)

    def boundary(self, edge: Edge, producer: Precision, consumer: Precision) -> float:
        """The price of one edge between two precisions, 0 or more; nothing where they are equal."""
        kind = crossing(producer, consumer)
        if kind is None:
            return 0.0
        shared = self.edge + edge.elements * {"up": self.up, "down": self.down, "cast": self.cast}[kind]
        return max(shared + self.own.get((edge.producer, edge.consumer, producer, consumer), 0.0), 0.0)

    def predict(self, partition: Partition, plan: Assignment, carrier: Precision) -> float:
        """Latency of a plan relative to FP32."""
        total = self.constant + sum(self.unary[(unit.name, plan[unit.name])] for unit in partition.units)
        for edge in partition.edges:
            total += self.boundary(edge, plan.get(edge.producer, carrier), plan.get(edge.consumer, carrier))
        return total


def crossing(producer: Precision, consumer: Precision) -> str | None:
    """Which way an edge crosses: "up" from 8 bits, "down" to 8 bits, "cast" between floats, None not at all."""
    if producer is consumer:
        return None
    if producer.is_quantized and not consumer.is_quantized:
        return "up"
    if consumer.is_quantized:
        return "down"
    return "cast"


class Pricing:
    """What the latency of one partition's plans is made of: rows of a linear model.

    Its columns are the shared parameters, those of each pair of precisions (elements that enter a unit, elements that
    leave one, boundaries), one for each unit and precision, and two for each edge and pair: what the unit after and the
    one before have to do with it.

    Args:
        partition: units and edges.
        prior: (unit, precision) -> profiled share of FP32's latency.
        carrier: precision of what is outside all units.
        assumed: what is taken for true before anything is measured.

    Attributes:
        count: of the columns that no unit has to itself.
        scales: of the other columns; these parameters are in units of it.
        blocks: for each unit the columns that are its own.
    """

    def __init__(self, partition: Partition, prior: Prior, carrier: Precision, assumed: Assumed = LATENCY) -> None:
        self.partition, self.prior, self.carrier, self.assumed = partition, prior, carrier, assumed
        self.largest = max((edge.elements for edge in partition.edges), default=1) or 1
        self._precisions = sorted({p for _, p in prior} | {carrier})
        self._pairs = [(p, q) for p in self._precisions for q in self._precisions if p is not q]
        self._kinds = np.array([1 + _KINDS.index(crossing(*pair) or "") for pair in self._pairs], dtype=np.intp)
        """Of each pair the shared column of its elements."""
        self.count = SHARED + 3 * len(self._pairs)
        self._places = {unit.name: place for place, unit in enumerate(partition.units)}
        self._units = {key: self.count + place for place, key in enumerate(prior)}
        self._edges: dict[tuple[str, str], int] = {}
        """(producer, consumer) -> first of its columns: one for each pair at the unit after, then at the one before."""
        size: dict[tuple[str, str], float] = {}
        for edge in partition.edges:
            ends = edge.producer, edge.consumer
            size[ends] = max(size.get(ends, 0.0), edge.elements / self.largest)
            self._edges.setdefault(ends, self.count + len(prior) + 2 * len(self._pairs) * len(self._edges))
        mean = sum(prior.values()) / max(len(prior), 1) or 1.0 / max(len(partition.units), 1)
        of_units = [value + assumed.least_unit * mean for value in prior.values()]
        of_edges = [assumed.guess[1] * size[ends] + assumed.guess[4] for ends in self._edges]
        self.scales = np.concatenate([of_units, np.repeat(of_edges, 2 * len(self._pairs))])
        self.blocks = self._owned()

    @property
    def units(self) -> slice:
        """The columns of units and precisions."""
        return slice(self.count, self.count + len(self.prior))

    @property
    def edges(self) -> slice:
        """The columns of edges and pairs."""
        return slice(self.count + len(self.prior), self.count + len(self.scales))

    @property
    def outgoing(self) -> Columns:
        """Of these columns those of the unit before."""
        indices = np.arange(2 * len(self._pairs) * len(self._edges))
        found: Columns = self.edges.start + indices[indices // len(self._pairs) % 2 == 1]
        return found

    def rows(self, plans: Sequence[Assignment]) -> Array:
        """float64[plans, columns]: what each plan is made of."""
        rows = np.zeros((len(plans), self.count + len(self.scales)))
        rows[:, SHARED - 1] = 1.0
        codes = self._codes(plans)
        for index, unit in enumerate(self.partition.units):
            self._add_unit(rows, rows, unit.name, codes[:, index])
        for edge, plan, pair in self._crossed(codes):
            self._add_edge((rows, rows, rows), edge, plan, pair)
        rows[:, self.count :] *= self.scales
        return rows

    def local_rows(self, plans: Sequence[Assignment]) -> tuple[Array, Array]:
        """The same, unit by unit: float64[plans, units, shared columns], and float64[plans, all columns] as `rows`."""
        rows = np.zeros((len(plans), self.count + len(self.scales)))
        local = np.zeros((len(plans), len(self.partition.units), self.count))
        codes = self._codes(plans)
        for index, unit in enumerate(self.partition.units):
            self._add_unit(local[:, index], rows, unit.name, codes[:, index])
        nowhere = np.zeros((len(plans), self.count))
        for edge, plan, pair in self._crossed(codes):
            before, after = self._places.get(edge.producer), self._places.get(edge.consumer)
            into = nowhere if after is None and before is None else local[:, before if after is None else after]
            outof = nowhere if after is None or before is None else local[:, before]
            self._add_edge((into, outof, rows), edge, plan, pair)
        rows[:, self.count :] *= self.scales
        return local, rows

    def model(self, weights: Array) -> LatencyModel:
        """The model of these parameters."""
        share, up, down, cast, each, constant = weights[:SHARED]
        scaled = weights[self.count :] * self.scales
        unary = {key: float(share * value + scaled[self._units[key] - self.count]) for key, value in self.prior.items()}
        return LatencyModel(
            unary=unary,
            up=float(up / self.largest),
            down=float(down / self.largest),
            cast=float(cast / self.largest),
            edge=float(each),
            constant=float(constant),
            own=dict(self._own(weights[SHARED : self.count].reshape(-1, 3), scaled)),
        )

    def _own(self, pairs: Array, scaled: Array) -> Iterator[tuple[Crossing, float]]:
        """What boundaries cost beyond what all of their kind do."""
        for edge in self.partition.edges:
            first = self._edges[edge.producer, edge.consumer] - self.count
            between = edge.producer in self._places and edge.consumer in self._places
            for index, (before, after) in enumerate(self._pairs):
                into, outof, each = pairs[index]
                price = each + (into + (outof if between else 0.0)) * edge.elements / self.largest
                price += scaled[first + index] + (scaled[first + len(self._pairs) + index] if between else 0.0)
                if price:
                    yield (edge.producer, edge.consumer, before, after), float(price)

    def _owned(self) -> list[Columns]:
        """For each unit its columns: of its precisions, of edges into it, and out of it."""
        found: list[list[int]] = [[] for _ in self.partition.units]
        for (name, _), column in self._units.items():
            if name in self._places:
                found[self._places[name]].append(column)
        pairs = len(self._pairs)
        for (producer, consumer), first in self._edges.items():
            before, after = self._places.get(producer), self._places.get(consumer)
            into = before if after is None else after
            if into is not None:
                found[into] += range(first, first + pairs)
            if before is not None and after is not None:
                found[before] += range(first + pairs, first + 2 * pairs)
        return [np.array(columns, dtype=np.intp) for columns in found]

    def _codes(self, plans: Sequence[Assignment]) -> Columns:
        """int[plans, units + 1]: number of each unit's precision; the last is the outside's."""
        number = {p: index for index, p in enumerate(self._precisions)}
        names = list(self._places)
        rows = [[*(number[plan[name]] for name in names), number[self.carrier]] for plan in plans]
        return np.array(rows, dtype=np.intp).reshape(len(rows), len(names) + 1)

    def _crossed(self, codes: Columns) -> Iterator[tuple[Edge, Columns, Columns]]:
        """Each edge, the plans in which it is a boundary, and the pairs."""
        pair = np.full((len(self._precisions),) * 2, -1, dtype=np.intp)
        for place, (p, q) in enumerate(self._pairs):
            pair[self._precisions.index(p), self._precisions.index(q)] = place
        for edge in self.partition.edges:
            before, after = (codes[:, self._places.get(name, -1)] for name in (edge.producer, edge.consumer))
            found = pair[before, after]
            plans = np.flatnonzero(found >= 0)
            if len(plans):
                yield edge, plans, found[plans]

    def _add_unit(self, shared: Array, rows: Array, name: str, codes: Columns) -> None:
        columns = np.array([self._units.get((name, p), -1) for p in self._precisions])[codes]
        profiled = np.array([self.prior.get((name, p), 0.0) for p in self._precisions])
        if (columns < 0).any():
            raise KeyError(f"unit {name} has no profiled share in one of its precisions")
        shared[:, 0] += profiled[codes]
        rows[np.arange(len(codes)), columns] = 1.0

    def _add_edge(self, where: tuple[Array, Array, Array], edge: Edge, plans: Columns, pairs: Columns) -> None:
        """Add a boundary to the shared columns of the unit after and of the one before, and to its own columns."""
        into, outof, rows = where
        size, kinds = edge.elements / self.largest, self._kinds[pairs]
        into[plans, kinds] += size
        into[plans, SHARED - 2] += 1
        into[plans, SHARED + 3 * pairs] += size
        into[plans, SHARED + 3 * pairs + 2] += 1
        first = self._edges[edge.producer, edge.consumer]
        rows[plans, first + pairs] += 1
        if edge.producer in self._places and edge.consumer in self._places:
            outof[plans, SHARED + 3 * pairs + 1] += size
            rows[plans, first + len(self._pairs) + pairs] += 1
