"""The plan that a latency model calls fastest within a budget of loss: an exact mixed-integer program.

Binary x[u,p] choose one precision for each unit; continuous z[e,..] >= x[producer,p] + x[consumer,q] - 1
price the boundaries. Solved by HiGHS.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_matrix

from autoprec.precision import Precision
from autoprec.study.latency import Assignment, LatencyModel
from autoprec.units.records import Partition

_TIME_LIMIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Problem:
    """What may be chosen.

    Attributes:
        partition: units and edges.
        choices: unit -> precisions it may take; one where it is fixed.
        loss: (unit, precision) -> additive loss, missing means none.
        carrier: precision of what is outside all units.
    """

    partition: Partition
    choices: Mapping[str, Sequence[Precision]]
    loss: Mapping[tuple[str, Precision], float]
    carrier: Precision

    def total_loss(self, plan: Assignment) -> float:
        """The additive loss of a plan."""
        return sum(self.loss.get((name, p), 0.0) for name, p in plan.items())


@dataclass
class _Rows:
    """Sparse rows of inequality constraints: low <= sum of coefficient * variable <= high."""

    entries: list[tuple[int, int, float]] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)

    def add(self, terms: Mapping[int, float], low: float, high: float) -> None:
        self.entries += [(len(self.low), column, value) for column, value in terms.items()]
        self.low.append(low)
        self.high.append(high)

    def constraint(self, columns: int) -> LinearConstraint:
        rows, cols, values = zip(*self.entries, strict=True)
        return LinearConstraint(coo_matrix((values, (rows, cols)), (len(self.low), columns)), self.low, self.high)


def fastest(
    problem: Problem, model: LatencyModel, budget: float, excluded: Sequence[Assignment] = ()
) -> dict[str, Precision] | None:
    """The assignment of least predicted latency whose additive loss is within `budget`.

    Args:
        problem: the choices.
        model: prices.
        budget: the most loss, in the units of `problem.loss`.
        excluded: assignments that must not come out again.

    Returns:
        The assignment, or None where nothing is left within the budget.
    """
    columns = {
        (name, p): number
        for number, (name, p) in enumerate((n, p) for n, options in problem.choices.items() for p in options)
    }
    cost = [model.unary[key] for key in columns]
    rows = _Rows()
    for name, options in problem.choices.items():
        rows.add({columns[(name, p)]: 1.0 for p in options}, 1.0, 1.0)
    # Losses span many powers of ten: in units of the budget, and with what alone exceeds it ruled out, they are safe
    # from the solver's tolerances.
    ruled_out: list[int] = []
    if math.isfinite(budget):
        unit = budget if budget > 0 else 1.0
        losses = {columns[key]: problem.loss.get(key, 0.0) / unit for key in columns}
        limit = budget / unit
        ruled_out = [column for column, loss in losses.items() if loss > limit]
        rows.add({c: v for c, v in losses.items() if 0 < v <= limit} or {0: 0.0}, -np.inf, limit)
    _price_edges(problem, model, columns, cost, rows)
    for plan in excluded:
        chosen = [columns[(name, p)] for name, p in plan.items() if (name, p) in columns]
        if len(chosen) == len(problem.choices):
            rows.add(dict.fromkeys(chosen, 1.0), -np.inf, len(chosen) - 1.0)
    integrality = np.array([1] * len(columns) + [0] * (len(cost) - len(columns)))
    upper = np.ones(len(cost))
    upper[ruled_out] = 0.0
    with _quiet():
        result = milp(
            np.array(cost), integrality=integrality, bounds=Bounds(0, upper), constraints=rows.constraint(len(cost)),
            options={"time_limit": _TIME_LIMIT_S, "mip_rel_gap": 1e-4},
        )  # fmt: skip
    if result.x is None:
        return None
    return {name: max(options, key=lambda p: result.x[columns[(name, p)]]) for name, options in problem.choices.items()}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """HiGHS prints warnings of its own to the process's standard output, which may be somebody's JSON."""
    try:
        sys.stdout.flush()
        kept = os.dup(1)
    except (OSError, ValueError):  # there is no standard output
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _price_edges(
    problem: Problem,
    model: LatencyModel,
    columns: Mapping[tuple[str, Precision], int],
    cost: list[float],
    rows: _Rows,
) -> None:
    for edge in problem.partition.edges:
        before = problem.choices.get(edge.producer, (problem.carrier,))
        after = problem.choices.get(edge.consumer, (problem.carrier,))
        for p in before:
            for q in after:
                price = model.boundary(edge, p, q)
                if price <= 0:
                    continue
                terms = [columns[key] for key in ((edge.producer, p), (edge.consumer, q)) if key in columns]
                if len(terms) < 2:  # one side is outside all units
                    for column in terms:
                        cost[column] += price
                    continue
                cost.append(price)
                rows.add({len(cost) - 1: -1.0, terms[0]: 1.0, terms[1]: 1.0}, -np.inf, 1.0)
