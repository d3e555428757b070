"""Plans that differ a little from a plan: what a search tries round the best plan that it has.

Local search on the true metric beats the optimum of a proxy (others report 27 of 30 settings). Blocks and pairs along
an edge matter beside single units, because a lone unit in another precision pays for two boundaries.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.study.guide.plan_table import NUMBER, PRECISIONS, Indices, Numbers, PlanTable
from autoprec.study.guide.solve import Problem

_EXCHANGES = 400
"""The most exchanges of two units round one plan."""
_SINGLES, _PAIRS, _BLOCKS = 400, 400, 1000
"""The most single units, pairs along edges and blocks that are changed round one plan: all of them up to 100 units."""
_BY_BITS = [NUMBER[precision] for precision in sorted(PRECISIONS)]

Allowed = npt.NDArray[np.bool_]


def neighbours(problem: Problem, plan: Assignment, random: np.random.Generator) -> PlanTable:
    """Changes of single units, of pairs along an edge and of contiguous blocks, and exchanges of two units.

    Some plans come twice.

    Args:
        problem: what may be chosen.
        plan: the plan in the middle.
        random: draws some of the changes where there are very many.
    """
    names = tuple(problem.choices)
    middle = PlanTable.of(names, [plan]).numbers[0]
    allowed = np.zeros((len(names), len(PRECISIONS)), np.bool_)
    for index, options in enumerate(problem.choices.values()):
        allowed[index, [NUMBER[p] for p in options]] = True
    place = {name: index for index, name in enumerate(names)}
    edges = [(edge.producer, edge.consumer) for edge in problem.partition.edges]
    pairs = [np.array([place[a], place[b]]) for a, b in edges if a in place and b in place]
    blocks = [(first, length) for length in _lengths(len(names)) for first in range(len(names) - length + 1)]
    rows: list[Numbers] = []
    for index in _some(len(names), _SINGLES, random):
        rows += _changed(allowed, middle, slice(index, index + 1))
    for index in _some(len(pairs), _PAIRS, random):
        rows += _changed(allowed, middle, pairs[index])
    for index in _some(len(blocks), _BLOCKS, random):
        first, length = blocks[index]
        rows += _changed(allowed, middle, slice(first, first + length))
    rows += _exchanged(allowed, middle, random)
    return PlanTable(names, np.array(rows, np.int8).reshape(len(rows), len(names)))


def drawn(problem: Problem, plan: Assignment, random: np.random.Generator) -> dict[str, Precision]:
    """The plan with one to three random contiguous blocks in random precisions."""
    names = list(problem.choices)
    found = dict(plan)
    for _ in range(int(random.integers(1, 4))):
        first, last = sorted(random.integers(0, len(names) + 1, 2))
        offered = sorted({p for name in names[first:last] for p in problem.choices[name]})
        if offered:
            wanted = offered[int(random.integers(len(offered)))]
            found |= {name: wanted for name in names[first:last] if wanted in problem.choices[name]}
    return found


def uniform_assignments(problem: Problem) -> Iterator[dict[str, Precision]]:
    """For each precision the plan that has it wherever possible."""
    for precision in sorted({p for options in problem.choices.values() for p in options}, reverse=True):
        yield everywhere(problem.choices, precision, problem.carrier)


def everywhere(
    choices: Mapping[str, Sequence[Precision]], precision: Precision, carrier: Precision
) -> dict[str, Precision]:
    """`precision` wherever possible, elsewhere a unit's first choice, or the carrier if `precision` is of 8 bits.

    A unit without an 8-bit kernel runs in the type that 8-bit kernels write then: a keyword transformer in INT8 took
    1.22 of FP16's latency on an H200 with its normalisations in FP32, and 0.83 with them in FP16.
    """
    wanted = (precision, carrier) if precision.is_quantized else (precision,)
    return {name: next((p for p in wanted if p in options), options[0]) for name, options in choices.items()}


def _some(count: int, most: int, random: np.random.Generator) -> Sequence[int]:
    """All indices below `count`, or `most` of them, in order."""
    return range(count) if count <= most else sorted(random.choice(count, most, replace=False).tolist())


def _changed(allowed: Allowed, middle: Numbers, where: slice | Indices) -> Iterator[Numbers]:
    """The plan with some units in each precision that one of them may take, where that is another plan."""
    for number in _BY_BITS:
        moved = allowed[where, number] & (middle[where] != number)
        if moved.any():
            row = middle.copy()
            row[where] = np.where(moved, number, middle[where])
            yield row


def _exchanged(allowed: Allowed, middle: Numbers, random: np.random.Generator) -> Iterator[Numbers]:
    """The plan with the precisions of two units exchanged."""
    units = np.arange(len(middle))
    first, second = np.triu_indices(len(middle), 1)
    taken = allowed[units[:, None], middle[None, :]]  # whether a unit may have the precision of another one
    fits = taken & taken.T & (middle[:, None] != middle[None, :])
    found = np.flatnonzero(fits[first, second])
    if len(found) > _EXCHANGES:
        found = found[random.choice(len(found), _EXCHANGES, replace=False)]
    for a, b in zip(first[found], second[found], strict=True):
        row = middle.copy()
        row[a], row[b] = middle[b], middle[a]
        yield row


def _lengths(count: int) -> list[int]:
    """2, 3, 4, 6, 8, 12, ...: up to all but one."""
    found, length = [], 2
    while length < count:
        found.append(length)
        length = max(length + 1, int(length * 1.5))
    return found
