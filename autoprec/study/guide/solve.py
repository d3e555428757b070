"""The plan that a model predicts to be best within bounds: an exact mixed-integer program.

Binary x[u,p] choose one precision for each unit; continuous z[e,p,q] say which pair of precisions an edge has, and sum
to the x of both its ends, so that without a budget the relaxation of a chain is exact already (the local polytope:
Wainwright and Jordan 2008, section 4.1); with z >= x + x - 1 alone 250 units took half a minute. Either the prices are
minimised within a budget of loss, or the loss within a limit of prices. Solved by HiGHS.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_matrix

from autoprec.plan import Assignment
from autoprec.precision import Array, Precision
from autoprec.study.guide.eliminate import Costs, cheapest_within
from autoprec.study.guide.latency import LatencyModel
from autoprec.units.records import Edge, Partition

_TIME_LIMIT_S = 10.0
MANY_UNITS = 100
"""With more units a proposal must do with less: fewer budgets, some of the neighbours, and a wider gap."""
_UNITS_PER_S = 250
_GAP, _WIDE_GAP = 1e-4, 5e-3  # predicted latencies err by one per cent and more
_SCALINGS, _SAME_SCALE = 4, 0.1


@dataclass(frozen=True, slots=True)
class Problem:
    """What may be chosen.

    Attributes:
        partition: the units and the edges between them.
        choices: unit -> the precisions that it may take; one where it is fixed.
        loss: (unit, precision) -> additive loss; missing means none.
        carrier: the precision of what is outside all units.
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


@dataclass(frozen=True, slots=True)
class Cap:
    """A bound on another figure: what `model` predicts is at most `limit`."""

    model: LatencyModel
    limit: float


def fastest(
    problem: Problem,
    model: LatencyModel,
    budget: float,
    excluded: Sequence[Assignment] = (),
    cap: Cap | None = None,
) -> dict[str, Precision] | None:
    """The assignment of least predicted latency, or whatever `model` prices, whose additive loss is within `budget`.

    Args:
        problem: the choices.
        model: the prices to minimise.
        budget: the most loss, in the units of `problem.loss`.
        excluded: assignments that must not be the solution.
        cap: a bound on a second model's figure, None where there is none.

    Returns:
        The assignment, or None where no other one is within the budget; with more than `MANY_UNITS` units also where
        the best one is excluded.
    """
    if cap is None and len(problem.choices) > MANY_UNITS:
        found = _by_elimination(problem, model, budget)
        if found is not None:
            # The next best one would need the integer program, whose seconds the neighbours of `found` are not worth.
            return None if found in excluded else found
    columns = {
        (name, p): number
        for number, (name, p) in enumerate((n, p) for n, options in problem.choices.items() for p in options)
    }
    rows = _Rows()
    for name, options in problem.choices.items():
        rows.add({columns[(name, p)]: 1.0 for p in options}, 1.0, 1.0)
    ruled_out = _within_budget(problem, columns, budget, rows)
    cost, capped = _price_edges(problem, model, cap, columns, rows)
    if cap is not None:
        rows.add(capped or {0: 0.0}, -np.inf, cap.limit - cap.model.constant)
    _exclude(excluded, problem, columns, rows)
    integrality = np.array([1] * len(columns) + [0] * (len(cost) - len(columns)))
    upper = np.ones(len(cost))
    upper[ruled_out] = 0.0
    count = len(problem.choices)
    gap, limit_s = (_GAP, _TIME_LIMIT_S) if count <= MANY_UNITS else (_WIDE_GAP, max(4.0, count / _UNITS_PER_S))
    with _quiet():
        result = milp(
            np.array(cost),
            integrality=integrality,
            bounds=Bounds(0, upper),
            constraints=rows.constraint(len(cost)),
            options={"time_limit": limit_s, "mip_rel_gap": gap},
        )
    if result.x is None:
        return None
    return {name: max(options, key=lambda p: result.x[columns[(name, p)]]) for name, options in problem.choices.items()}


def _by_elimination(problem: Problem, model: LatencyModel, budget: float) -> dict[str, Precision] | None:
    """The assignment of about the least predicted latency, None where this way finds none.

    It differs from the exact one by about one unit's share, and takes a tenth of a second for 500 units, where the
    program for integers may take many.
    """
    place = {name: index for index, name in enumerate(problem.choices)}
    options = list(problem.choices.values())
    loss = [np.array([problem.loss.get((name, p), 0.0) for p in row]) for name, row in problem.choices.items()]
    own = [np.array([model.unary[name, p] for p in row]) for name, row in problem.choices.items()]
    own = [np.where(lost > budget, np.inf, costs) for costs, lost in zip(own, loss, strict=True)]
    pairs: dict[tuple[int, int], Array] = {}
    for edge in problem.partition.edges:
        before, after = place.get(edge.producer), place.get(edge.consumer)
        rows = (problem.carrier,) if before is None else options[before]
        columns = (problem.carrier,) if after is None else options[after]
        prices = np.array([[model.boundary(edge, p, q) for q in columns] for p in rows])
        if before is not None and after is not None and before != after:
            key, table = ((before, after), prices) if before < after else ((after, before), prices.T)
            pairs[key] = pairs.get(key, 0.0) + table
        elif before is not None and after is None:
            own[before] = own[before] + prices[:, 0]
        elif after is not None and before is None:
            own[after] = own[after] + prices[0]
    chosen = cheapest_within(Costs(own, loss, pairs), budget)
    if chosen is None:
        return None
    return {name: row[choice] for (name, row), choice in zip(problem.choices.items(), chosen, strict=True)}


def most_accurate(
    problem: Problem, cap: Cap, budget: float = math.inf, excluded: Sequence[Assignment] = ()
) -> dict[str, Precision] | None:
    """The assignment of least additive loss whose predicted latency is within the cap, and the loss within `budget`.

    Losses span many powers of ten, more than the solver's tolerances. So the first solution only sets the scale: what
    alone loses more than all of it cannot be part of a better one.

    Returns:
        The assignment, or None where nothing is fast enough.
    """
    scale, found = budget, None
    largest = max((abs(loss) for loss in problem.loss.values()), default=0.0) or 1.0
    for _ in range(_SCALINGS):
        unit = scale if 0 < scale < math.inf else largest
        prices = {
            (n, p): problem.loss.get((n, p), 0.0) / unit for n, options in problem.choices.items() for p in options
        }
        better = fastest(
            problem,
            LatencyModel(unary=prices, up=0.0, down=0.0, cast=0.0, edge=0.0, constant=0.0),
            min(scale, budget),
            excluded,
            cap,
        )
        if better is None:
            break
        total = problem.total_loss(better)
        if found is not None and total >= problem.total_loss(found):
            break
        exact = unit is not largest and total >= _SAME_SCALE * scale
        found, scale = better, total * (1 + 1e-9)
        if exact or total <= 0:
            break
    return found


def _exclude(
    excluded: Sequence[Assignment], problem: Problem, columns: Mapping[tuple[str, Precision], int], rows: _Rows
) -> None:
    """Let no solution be one of these assignments."""
    for plan in excluded:
        chosen = [columns[(name, p)] for name, p in plan.items() if (name, p) in columns]
        if len(chosen) == len(problem.choices):
            rows.add(dict.fromkeys(chosen, 1.0), -np.inf, len(chosen) - 1.0)


def _within_budget(
    problem: Problem, columns: Mapping[tuple[str, Precision], int], budget: float, rows: _Rows
) -> list[int]:
    """Bound the loss, and give the columns that alone exceed it.

    Losses span many powers of ten: in units of the budget, and with what alone exceeds it ruled out, they are safe
    from the solver's tolerances.
    """
    if not math.isfinite(budget):
        return []
    unit = budget if budget > 0 else 1.0
    losses = {columns[key]: problem.loss.get(key, 0.0) / unit for key in columns}
    limit = budget / unit
    rows.add({c: v for c, v in losses.items() if 0 < v <= limit} or {0: 0.0}, -np.inf, limit)
    return [column for column, loss in losses.items() if loss > limit]


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
    cap: Cap | None,
    columns: Mapping[tuple[str, Precision], int],
    rows: _Rows,
) -> tuple[list[float], dict[int, float]]:
    """The objective's price of each column, with one more for each boundary, and the cap's prices by column."""
    cost = [model.unary[key] for key in columns]
    capped = {} if cap is None else {column: cap.model.unary[key] for key, column in columns.items()}
    for edge in problem.partition.edges:
        before = problem.choices.get(edge.producer, (problem.carrier,))
        after = problem.choices.get(edge.consumer, (problem.carrier,))
        prices = {(p, q): model.boundary(edge, p, q) for p in before for q in after}
        second = {key: 0.0 if cap is None else cap.model.boundary(edge, *key) for key in prices}
        if not any(prices.values()) and not any(second.values()):
            continue
        ends = [name for name in (edge.producer, edge.consumer) if name in problem.choices]
        if len(ends) == 2:
            indices = _pairs(edge, prices, columns, cost, rows)
        else:  # where one side is outside all units, the other's own
            indices = (
                {(p, q): columns[ends[0], p if ends[0] == edge.producer else q] for p, q in prices} if ends else {}
            )
        for key, column in indices.items():
            cost[column] += prices[key]
            if second[key] > 0:
                capped[column] = capped.get(column, 0.0) + second[key]
    return cost, capped


def _pairs(
    edge: Edge,
    pairs: Iterable[tuple[Precision, Precision]],
    columns: Mapping[tuple[str, Precision], int],
    cost: list[float],
    rows: _Rows,
) -> dict[tuple[Precision, Precision], int]:
    """A column for each pair of precisions of an edge, tied to those of its ends."""
    found, sums = {}, dict[tuple[str, Precision], dict[int, float]]()
    for p, q in pairs:
        cost.append(0.0)
        found[p, q] = len(cost) - 1
        for end in {(edge.producer, p), (edge.consumer, q)}:
            sums.setdefault(end, {columns[end]: -1.0})[found[p, q]] = 1.0
    for terms in sums.values():
        rows.add(terms, 0.0, 0.0)
    return found
