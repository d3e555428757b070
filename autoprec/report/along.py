"""The network unit by unit: its plan with the boundaries, its sensitivities and times, and what ran."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.proof.verification import UnitStatus
from autoprec.report.answer import shown_plan, shown_trial
from autoprec.report.counts import told
from autoprec.report.read import RunRecord
from autoprec.report.sections import Arc, Cell, Column, Curves, Drawing, Form, Part, Section, Table

_STATUS = {status.value: status.text for status in UnitStatus}
_MOST_ARCS = 400
_PLAN_COLUMNS = (
    Column("#", Form.COUNT),
    Column("unit"),
    Column("kind"),
    Column("planned", Form.PRECISION),
    Column("ran", Form.PRECISION),
    Column("outcome"),
    Column("share of MACs", Form.SHARE),
    Column("converted inputs"),
    Column("why"),
)
_UNITS_NOTE = (
    "Sensitivity: the power of the error at the network's outputs divided by the power of the outputs, where only this "
    "unit runs in that precision. Latency: from the runtime's profiler, with all units in one precision. Profiling "
    "takes time itself, so compare units with each other rather than with the latency of the whole network."
)


def plan_section(run: RunRecord) -> Section | None:
    """The plan drawn along the network, and each unit with what it was asked for and what ran."""
    plan, names = shown_plan(run), run.units
    if not plan or not names:
        return None
    index = {name: i for i, name in enumerate(names)}
    arcs = _arcs(run, plan, index)
    drawing = Drawing(len(names), _parts(names, plan), arcs[:_MOST_ARCS])
    ran: Mapping[str, Any] = (run.result.get("verification") or {}).get("units", {})
    reasons = _reasons(run)
    total = sum(unit.macs for unit in run.network.units.values()) or 1 if run.network is not None else 1
    incoming: dict[int, list[str]] = {}
    for arc in arcs:
        incoming.setdefault(arc.end, []).append(arc.text)
    rows: list[list[Cell]] = [
        [
            i + 1,
            name,
            _kind(run, name),
            plan[name].value if name in plan else None,
            _ran(ran.get(name)),
            _outcome(ran.get(name)),
            _mac_share(run, name, total),
            "; ".join(incoming.get(i, [])),
            reasons.get(name, ""),
        ]
        for name, i in index.items()
    ]
    marked = frozenset(i for i, name in enumerate(names) if (ran.get(name) or {}).get("status") == "not honoured")
    return Section(
        key="plan",
        title="The plan along the network",
        notes=_plan_notes(run, plan, arcs),
        table=Table(_PLAN_COLUMNS, rows, marked),
        drawing=drawing,
    )


def _plan_notes(run: RunRecord, plan: Assignment, arcs: Sequence[Arc]) -> list[str]:
    counts = {p.value.upper(): sum(q is p for q in plan.values()) for p in Precision if p in plan.values()}
    notes = [f"{len(plan)} units: " + ", ".join(f"{n} in {p}" for p, n in counts.items()) + "."]
    if not arcs:
        notes.append("No unit reads a value in another precision than its own, so nothing is converted.")
    elif run.network is not None:
        notes.append(
            f"{told(len(arcs), 'boundary', 'boundaries')} between precisions: there a value is converted on its way "
            f"from one unit to another, which costs time. Arcs show them."
        )
    else:
        notes.append(
            "An older version of autoprec made this run and did not store which unit reads which, so arcs join units "
            "that follow each other in the network."
        )
    counts_ran = (run.result.get("verification") or {}).get("counts") or {}
    ran = ", ".join(f"{n} {_STATUS.get(s, s)}" for s, n in counts_ran.items() if n)
    return [*notes, *([f"Units as they ran: {ran}."] if ran else [])]


def _kind(run: RunRecord, name: str) -> str:
    return run.network.units[name].kind if run.network is not None else ""


def _mac_share(run: RunRecord, name: str, total: int) -> float | None:
    return run.network.units[name].macs / total if run.network is not None else None


def _ran(found: Mapping[str, Any] | None) -> str | None:
    return None if found is None or found.get("ran") is None else str(found["ran"])


def _outcome(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return ""
    text = _STATUS.get(str(found["status"]), str(found["status"]))
    kernel = found.get("operator") or found.get("layer") or ""
    into = f" into {found['into']}" if found.get("into") else ""
    return f"{text}{into}" + (f" ({kernel})" if kernel else "")


def _reasons(run: RunRecord) -> dict[str, str]:
    """Why a unit had no choice, and whether the user fixed it; what was searched is told by the sensitivities."""
    if run.study is None:
        return {}
    return {name: "pinned by the user" if unit.pinned else unit.fixed or "" for name, unit in run.study.units.items()}


def _parts(names: Sequence[str], plan: Assignment) -> list[Part]:
    parts: list[Part] = []
    for i, name in enumerate(names):
        precision = plan[name].value if name in plan else "unknown"
        if parts and parts[-1].precision == precision:
            first = parts[-1].first
            text = f"units {first + 1} to {i + 1}: {precision.upper()}, from {names[first]} to {name}"
            parts[-1] = Part(precision=precision, first=first, last=i, text=text)
        else:
            parts.append(Part(precision=precision, first=i, last=i, text=f"unit {i + 1}: {precision.upper()}, {name}"))
    return parts


def _arcs(run: RunRecord, plan: Assignment, index: Mapping[str, int]) -> list[Arc]:
    """The edges whose two units have different precisions; of the network's ends only units count."""
    if run.network is None:
        names = list(index)
        pairs = [(one, other, 0) for one, other in pairwise(names)]
    else:
        pairs = [(edge.producer, edge.consumer, edge.elements) for edge in run.network.edges]
    arcs = []
    for producer, consumer, elements in pairs:
        if producer in plan and consumer in plan and plan[producer] is not plan[consumer]:
            size = f", {elements:,} elements" if elements else ""
            text = f"{plan[producer].value.upper()} to {plan[consumer].value.upper()} from {producer}{size}"
            arcs.append(Arc(index[producer], index[consumer], text))
    return arcs


def units_section(run: RunRecord) -> Section | None:
    """The sensitivity and the time of each unit along the network."""
    names = run.units
    precisions = [p for p in Precision if any(entry[1] is p for entry in run.sensitivities)]
    plans = [plan for plan, row in run.unit_ms.items() if row]
    layers = _measured_layers(run)
    if not names or not (precisions or plans):
        return None
    noise = {
        p.value: [e.noise if (e := run.sensitivities.get((name, p))) is not None else math.nan for name in names]
        for p in precisions
    }
    times = {plan: [run.unit_ms[plan].get(name, math.nan) for name in names] for plan in plans}
    if layers:
        times["answer"] = [layers.get(name, math.nan) for name in names]
    plots = [
        Curves(title="Sensitivity", y="noise / signal at the outputs", series=noise, logarithmic=True),
        Curves(title="Latency of each unit", y="ms", series=times, logarithmic=False),
    ]
    columns = _units_columns(precisions, times)
    plan = shown_plan(run)
    rows: list[list[Cell]] = [
        [
            i + 1,
            name,
            plan[name].value if name in plan else None,
            *(None if math.isnan(noise[p.value][i]) else noise[p.value][i] for p in precisions),
            *(None if math.isnan(times[key][i]) else times[key][i] for key in times),
        ]
        for i, name in enumerate(names)
    ]
    return Section(
        key="units",
        title="Sensitivity and latency of each unit",
        notes=[_UNITS_NOTE],
        table=Table(columns, rows),
        plots=[plot for plot in plots if plot.series],
    )


def _units_columns(precisions: Sequence[Precision], times: Mapping[str, Sequence[float]]) -> list[Column]:
    return [
        Column("#", Form.COUNT),
        Column("unit"),
        Column("planned", Form.PRECISION),
        *(Column(f"noise / signal in {p.value.upper()}", Form.TINY) for p in precisions),
        *(Column(plan, Form.NUMBER, "ms") for plan in times),
    ]


def _measured_layers(run: RunRecord) -> Mapping[str, float]:
    """The milliseconds of each unit in the plan that is shown, where it is not uniform and the runtime tells them."""
    trial = shown_trial(run)
    return {} if trial is None or trial.uniform else trial.measured.layers_ms or {}
