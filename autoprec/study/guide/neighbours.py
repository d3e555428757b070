"""Plans that differ a little from a plan: what a search tries round the best plan that it has.

Local search on the true metric beats the optimum of a proxy (others report 27 of 30 settings). Blocks and pairs along
an edge matter beside single units, because a lone unit in another precision pays for two boundaries.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.study.guide.solve import Problem

_EXCHANGES = 400
"""The most exchanges of two units round one plan."""


def neighbours(problem: Problem, plan: Assignment, random: np.random.Generator) -> Iterator[dict[str, Precision]]:
    """Changes of single units, of pairs along an edge and of contiguous blocks, and exchanges of two units.

    Some plans come twice.

    Args:
        problem: what may be chosen.
        plan: the plan in the middle.
        random: draws some of the exchanges where there are very many.
    """
    names = list(problem.choices)
    for name in names:
        yield from _changed(problem, plan, (name,))
    for edge in problem.partition.edges:
        if edge.producer in problem.choices and edge.consumer in problem.choices:
            yield from _changed(problem, plan, (edge.producer, edge.consumer))
    for length in _lengths(len(names)):
        for first in range(len(names) - length + 1):
            yield from _changed(problem, plan, names[first : first + length])
    yield from _exchanged(problem, plan, names, random)


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


def _changed(problem: Problem, plan: Assignment, names: tuple[str, ...] | list[str]) -> Iterator[dict[str, Precision]]:
    for precision in sorted({p for name in names for p in problem.choices[name]}):
        moved = {name: precision for name in names if precision in problem.choices[name]}
        if any(plan[name] is not p for name, p in moved.items()):
            yield {**plan, **moved}


def _exchanged(
    problem: Problem, plan: Assignment, names: list[str], random: np.random.Generator
) -> Iterator[dict[str, Precision]]:
    pairs = [
        (a, b)
        for a, b in itertools.combinations(names, 2)
        if plan[a] is not plan[b] and plan[b] in problem.choices[a] and plan[a] in problem.choices[b]
    ]
    if len(pairs) > _EXCHANGES:
        pairs = [pairs[index] for index in random.choice(len(pairs), _EXCHANGES, replace=False)]
    for a, b in pairs:
        yield {**plan, a: plan[b], b: plan[a]}


def _lengths(count: int) -> list[int]:
    """2, 3, 4, 6, 8, 12, ...: up to all but one."""
    found, length = [], 2
    while length < count:
        found.append(length)
        length = max(length + 1, int(length * 1.5))
    return found
