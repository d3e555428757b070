"""Two runs, plans or engines beside each other, unit by unit."""

from __future__ import annotations

import math
from collections.abc import Mapping

from autoprec.files.computed_by import release
from autoprec.report.sections import Card, Cell, Column, Curves, Form, Report, Section, Table
from autoprec.report.subject import Compared

_UNLIKE_CLOCKS = "The two were timed by different runtimes or machines, so a ratio of their latencies says little."
_MATCHED = "Units are matched by name, else by their place in the graph. Where precisions differ, the row is marked."


def comparison_of(one: Compared, other: Compared) -> Report:
    """What differs between two plans with all that is known of them."""
    homes = matched(one, other)
    pairs: list[tuple[str | None, str | None]] = [(unit, homes.get(unit)) for unit in one.plan]
    taken = set(homes.values())
    pairs += [(None, unit) for unit in other.plan if unit not in taken]
    both = [(a, b) for a, b in pairs if a is not None and b is not None]
    changed = sum(one.plan[a] is not other.plan[b] for a, b in both)
    alone = len(pairs) - len(both)
    state = f"{changed} of the {len(both)} units that both plans have differ in precision" + (
        f"; {alone} units are in only one of the two." if alone else "."
    )
    if not both:
        state = "The two plans have no unit in common, so they are most likely plans of different networks."
    sections = [
        _whole(one, other),
        Section(
            key="units",
            title="Unit by unit",
            notes=[_MATCHED],
            table=_units(one, other, pairs).without_empty_columns(),
            plots=_plots(one, other, both),
        ),
    ]
    return Report(
        title="Two plans compared",
        state=state,
        cards=[Card("A", one.name, ""), Card("B", other.name, "")],
        sections=sections,
        written_by=release(),
    )


def matched(one: Compared, other: Compared) -> dict[str, str]:
    """Unit of one -> unit of the other, where they are the same; by key, else by name."""
    by_key: dict[str, list[str]] = {}
    for name, key in other.keys.items():
        by_key.setdefault(key, []).append(name)
    found = {name: name for name in one.plan if name in other.plan}
    taken = set(found.values())
    for name in one.plan:
        same = by_key.get(one.keys.get(name, ""), [])
        if name not in found and len(same) == 1 and same[0] in other.plan and same[0] not in taken:
            found[name] = same[0]
            taken.add(same[0])
    return found


def _whole(one: Compared, other: Compared) -> Section:
    rows: list[list[Cell]] = []
    for name in dict.fromkeys([*one.facts, *other.facts]):
        a, b = one.facts.get(name), other.facts.get(name)
        ratio = b / a if isinstance(a, (int, float)) and isinstance(b, (int, float)) and min(a, b) > 0 else None
        rows.append([name, a, b, ratio])
    for precision in sorted({p for side in (one, other) for p in side.plan.values()}):
        counts = [sum(p is precision for p in side.plan.values()) for side in (one, other)]
        rows.append([f"units in {precision.value.upper()}", *counts, counts[1] / counts[0] if counts[0] else None])
    columns = [Column("figure"), Column("A", Form.NUMBER), Column("B", Form.NUMBER), Column("B / A", Form.RATIO)]
    clocks = {side.facts.get("timed on") for side in (one, other)} - {None}
    notes = [_UNLIKE_CLOCKS] if len(clocks) > 1 else []
    return Section(key="whole", title="The whole", notes=notes, table=Table(columns, rows))


def _units(one: Compared, other: Compared, pairs: list[tuple[str | None, str | None]]) -> Table:
    columns = [
        Column("#", Form.COUNT),
        Column("unit"),
        Column("name in B"),
        Column("planned in A", Form.PRECISION),
        Column("planned in B", Form.PRECISION),
        Column("ran in A", Form.PRECISION),
        Column("ran in B", Form.PRECISION),
        Column("A", Form.NUMBER, "ms"),
        Column("B", Form.NUMBER, "ms"),
        Column("noise / signal in A", Form.TINY),
        Column("noise / signal in B", Form.TINY),
    ]
    rows: list[list[Cell]] = []
    marked = set()
    for i, (a, b) in enumerate(pairs):
        if a is None or b is None or one.plan[a] is not other.plan[b]:
            marked.add(i)
        rows.append(
            [
                i + 1,
                a if a is not None else f"only in B: {b}",
                "" if a == b or a is None else b or "missing",
                _planned(one, a),
                _planned(other, b),
                one.ran.get(a or ""),
                other.ran.get(b or ""),
                one.unit_ms.get(a or ""),
                other.unit_ms.get(b or ""),
                _noise(one, a),
                _noise(other, b),
            ]
        )
    return Table(columns, rows, frozenset(marked))


def _planned(side: Compared, unit: str | None) -> str | None:
    return None if unit is None else side.plan[unit].value


def _noise(side: Compared, unit: str | None) -> float | None:
    return None if unit is None else side.noise.get((unit, side.plan[unit]))


def _plots(one: Compared, other: Compared, both: list[tuple[str, str]]) -> list[Curves]:
    series: Mapping[str, list[float]] = {
        "A": [one.unit_ms.get(a, math.nan) for a, _ in both],
        "B": [other.unit_ms.get(b, math.nan) for _, b in both],
    }
    if not (one.unit_ms and other.unit_ms and both):
        return []
    return [Curves(title="Latency of each unit", y="ms", series=series, logarithmic=False)]
