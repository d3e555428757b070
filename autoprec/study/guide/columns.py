"""Which column of the linear model belongs to which parameter: all index conventions are here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from autoprec.precision import FLOATS, Precision
from autoprec.units.records import Edge, Partition

Indices = npt.NDArray[np.intp]

PROFILED, UP, DOWN, CAST, BOUNDARIES, CONSTANT = range(6)
"""The columns that all plans share: a factor on the profiled sum of units; elements that cross from 8 bits to float,
from float to 8 bits, and between float types; the number of boundaries; and a constant."""
SHARED = 6
"""The number of these columns."""
_KIND_COLUMNS = {"up": UP, "down": DOWN, "cast": CAST}
INTO, OUTOF, EACH = range(3)
"""The three columns of a pair of precisions: elements that enter a unit, elements that leave one, boundaries."""
_PER_PAIR = 3


def crossing(producer: Precision, consumer: Precision) -> str | None:
    """Which way an edge crosses: "up" from 8 bits, "down" to 8 bits, "cast" between floats, None not at all.

    A unit that quantises what it reads at run time takes and gives floats.
    """
    if producer is consumer:
        return None
    if producer.needs_ranges and not consumer.needs_ranges:
        return "up"
    if consumer.needs_ranges:
        return "down"
    return "cast" if producer in FLOATS and consumer in FLOATS else None


class Columns:
    """The columns of the linear model of one partition.

    They lie in four groups, one after the other::

        group     columns                          parameters
        shared    SHARED                           what all plans share
        pairs     3 for each pair of precisions    what boundaries of one pair have in common
        units     1 for each unit and precision    the correction of a unit
        edges     2 for each edge and pair         the correction of a boundary: first, for all pairs, the part of the
                                                   unit after it, then, for all pairs, the part of the unit before it

    Args:
        partition: units and edges.
        profiled: the pairs of unit and precision that have a profiled share, in the order of their columns.
        precisions: all precisions, in order.

    Attributes:
        precisions: all precisions, in order.
        pairs: all pairs of precisions, of the unit before and the unit after it, between which there is a boundary.
        kinds: the shared column of the elements, one for each pair.
        common: the number of columns that no unit has to itself: the shared ones and those of the pairs.
        places: unit -> its number.
        units: (unit, precision) -> its column.
        edges: (producer, consumer) -> the first of its columns.
        total: the number of all columns.
    """

    def __init__(
        self, partition: Partition, profiled: Iterable[tuple[str, Precision]], precisions: Sequence[Precision]
    ) -> None:
        self.precisions = tuple(precisions)
        self.pairs = tuple((p, q) for p in precisions for q in precisions if crossing(p, q) is not None)
        self.kinds = np.array([_KIND_COLUMNS[crossing(*pair) or ""] for pair in self.pairs], dtype=np.intp)
        self.common = SHARED + _PER_PAIR * len(self.pairs)
        self.places = {unit.name: number for number, unit in enumerate(partition.units)}
        self.units = {key: self.common + number for number, key in enumerate(profiled)}
        self._first_edge = self.common + len(self.units)
        self.edges: dict[tuple[str, str], int] = {}
        for edge in partition.edges:  # parallel edges of one pair of units share their columns
            ends = edge.producer, edge.consumer
            self.edges.setdefault(ends, self._first_edge + 2 * len(self.pairs) * len(self.edges))
        self.total = self._first_edge + 2 * len(self.pairs) * len(self.edges)

    @property
    def of_units(self) -> slice:
        """The columns of units and precisions."""
        return slice(self.common, self._first_edge)

    @property
    def of_edges(self) -> slice:
        """The columns of edges and pairs."""
        return slice(self._first_edge, self.total)

    @property
    def outgoing(self) -> Indices:
        """Those of the edges' columns that are the part of the unit before."""
        numbers = np.arange(self.total - self._first_edge)
        found: Indices = self._first_edge + numbers[numbers // len(self.pairs) % 2 == 1]
        return found

    def of_pairs(self, pairs: Indices, part: int) -> Indices:
        """For each of these pairs, given by number, the column of one part: INTO, OUTOF or EACH."""
        found: Indices = SHARED + _PER_PAIR * pairs + part
        return found

    def after(self, edge: Edge) -> int:
        """The first of an edge's columns for the part of the unit after it; the pairs follow in order."""
        return self.edges[edge.producer, edge.consumer]

    def before(self, edge: Edge) -> int:
        """The first of an edge's columns for the part of the unit before it; the pairs follow in order."""
        return self.after(edge) + len(self.pairs)

    def is_between(self, edge: Edge) -> bool:
        """Whether both ends of the edge are units; where only one is, it has all of the boundary."""
        return edge.producer in self.places and edge.consumer in self.places

    def pair_numbers(self) -> Indices:
        """int[precisions, precisions]: the number of the pair of two precisions, -1 where there is no boundary."""
        found = np.full((len(self.precisions),) * 2, -1, dtype=np.intp)
        for number, (p, q) in enumerate(self.pairs):
            found[self.precisions.index(p), self.precisions.index(q)] = number
        return found

    def blocks(self) -> list[Indices]:
        """For each unit its own columns: of its precisions, of edges into it, and of edges out of it."""
        found: list[list[int]] = [[] for _ in self.places]
        for (name, _), column in self.units.items():
            if name in self.places:
                found[self.places[name]].append(column)
        pairs = len(self.pairs)
        for (producer, consumer), first in self.edges.items():
            before, after = self.places.get(producer), self.places.get(consumer)
            into = before if after is None else after
            if into is not None:
                found[into] += range(first, first + pairs)
            if before is not None and after is not None:
                found[before] += range(first + pairs, first + 2 * pairs)
        return [np.array(columns, dtype=np.intp) for columns in found]
