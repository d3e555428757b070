"""Why a unit stayed in a high precision, and what would help: pure functions over what a run has stored."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from autoprec.calibrate.drift import ValueDrift
from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable
from autoprec.report.answer import shown_plan
from autoprec.report.counts import told
from autoprec.report.origin import kept_share
from autoprec.report.read import RunRecord
from autoprec.report.sections import Column, Form, Section, Table

_MUCH = 0.5
"""A unit that alone makes this share of the noise that the answer has is a cause by itself."""
_DRIFT = 1.1
_BEYOND = 0.001
_SATURATED = 0.8
_OUTLIER = 8.0


class Cause(str, Enum):
    """Why the lower precision was not used."""

    OVERFLOW = "overflow in FP16"
    NO_GAIN = "no gain in time"
    DRIFT = "drift of its range"
    SATURATION = "saturation"
    OUTLIER = "outlier channel"
    OWN_ERROR = "its own rounding error"
    ACCUMULATED = "accumulated error"
    UNKNOWN = "not measured"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitFigures:
    """What is known of one unit.

    Attributes:
        planned: the precision that it has.
        lower: the lowest one that it might have had.
        values: its values: name -> (what calibration saw, what INT8 keeps of it as a share, other samples).
        noise: noise / signal in the lower precision, NaN where it was not measured.
        allowed: noise / signal of the answer as a whole, NaN likewise.
        total: the noise / signal that all units add in the lower precision, each one alone, NaN likewise.
        mean: the same for each unit on average.
        halves: whether FP16 would compute it or carry its values in a lower precision.
        planned_ms: the milliseconds in its precision, by the profile of a uniform plan.
        lower_ms: those in the lower one.
    """

    planned: Precision
    lower: Precision
    values: Mapping[str, tuple[float, float, ValueDrift | None]]
    noise: float = math.nan
    allowed: float = math.nan
    total: float = math.nan
    mean: float = math.nan
    halves: bool = False
    planned_ms: float = math.nan
    lower_ms: float = math.nan


@dataclass(frozen=True, slots=True)
class Advice:
    """The main cause of one unit.

    Attributes:
        cause: the cause.
        figure: its figure, as a sentence.
        remedy: what would help.
    """

    cause: Cause
    figure: str
    remedy: str


def advice_of(unit: UnitFigures) -> Advice:
    """The cause that explains most, and what would help."""
    if math.isnan(unit.noise) and math.isnan(unit.total):
        return _unknown(unit)
    of_error = [*(_of_range(unit) if unit.lower.is_quantized else ()), _own(unit)]
    no_gain = _no_gain(unit)
    if unit.noise < unit.mean:  # the error of such a unit is seldom what keeps it from a faster precision
        of_error = [no_gain, *of_error]
    found = next((advice for advice in (_overflow(unit), *of_error, no_gain) if advice is not None), _accumulated(unit))
    if no_gain is None or found is no_gain:
        return found
    return replace(found, figure=f"{found.figure}; nor is it faster: {no_gain.figure}")


def _unknown(unit: UnitFigures) -> Advice:
    figure = f"no unit was measured in {unit.lower.value.upper()}, so nobody knows what this one would lose"
    return _overflow(unit) or Advice(Cause.UNKNOWN, figure, "allow more time by --timeout, or leave it out")


def _overflow(unit: UnitFigures) -> Advice | None:
    if not (unit.halves or unit.lower is Precision.FP16) or not unit.values:
        return None
    name, peak = max(((name, _peak(seen, drift)) for name, (seen, _, drift) in unit.values.items()), key=lambda r: r[1])
    if not peak > Precision.FP16.largest:
        return None
    figure = f"{name} reaches {peak:,.0f}; the largest FP16 number is {Precision.FP16.largest:,.0f}"
    return Advice(
        Cause.OVERFLOW, figure, "offer BF16 by --space, which has the range of FP32, or scale the values down"
    )


def _no_gain(unit: UnitFigures) -> Advice | None:
    if not unit.lower_ms >= unit.planned_ms:
        return None
    lower, planned = unit.lower.value.upper(), unit.planned.value.upper()
    figure = f"{unit.lower_ms:.3g} ms in {lower}, {unit.planned_ms:.3g} ms in {planned}"
    return Advice(Cause.NO_GAIN, figure, "nothing to do: the lower precision is not faster on this machine")


def _peak(seen: float, drift: ValueDrift | None) -> float:
    """The largest magnitude on the calibration samples and on others."""
    return seen if drift is None else max(seen, abs(drift.low), abs(drift.high))


def _of_range(unit: UnitFigures) -> list[Advice | None]:
    # Calibrators clip the range of a value with an outlier channel, so that saturation follows from it.
    return [_drift(unit), _outlier(unit), _saturation(unit)]


def _drift(unit: UnitFigures) -> Advice | None:
    rows = [
        (max(abs(drift.low), abs(drift.high)) / seen, drift.beyond, name)
        for name, (seen, _, drift) in unit.values.items()
        if drift is not None and seen > 0
    ]
    factor, beyond, name = max(rows, default=(0.0, 0.0, ""))
    if factor < _DRIFT or beyond < _BEYOND:
        return None
    figure = f"{name} reaches {factor:.2f} times its calibrated range; {beyond:.2%} of its values saturate"
    return Advice(Cause.DRIFT, figure, "calibrate with samples that are like the evaluation data, or with more samples")


def _saturation(unit: UnitFigures) -> Advice | None:
    kept, name = min(((kept, name) for name, (_, kept, _) in unit.values.items()), default=(1.0, ""))
    if kept > _SATURATED:
        return None
    figure = f"INT8 keeps {kept:.0%} of the range of {name}; larger values saturate"
    return Advice(Cause.SATURATION, figure, "try --recipe minmax, which keeps the whole range, or a higher percentile")


def _outlier(unit: UnitFigures) -> Advice | None:
    rows = [(drift.channel_ratio, name) for name, (_, _, drift) in unit.values.items() if drift is not None]
    ratio, name = max(rows, default=(1.0, ""))
    if ratio < _OUTLIER:
        return None
    figure = f"one channel of {name} is on average {ratio:.0f} times as large as the median channel"
    return Advice(
        Cause.OUTLIER,
        figure,
        "tune with --repairs auto, which moves the scale of that channel into the weights behind it where that pays",
    )


def _own(unit: UnitFigures) -> Advice | None:
    if unit.noise >= _MUCH * unit.allowed:
        figure = f"alone it adds noise / signal {unit.noise:.2g}; the whole answer has {unit.allowed:.2g}"
    elif unit.total > 0 and unit.noise >= _MUCH * unit.total:
        share = f"{unit.noise / unit.total:.0%} of what all units add in {unit.lower.value.upper()}"
        figure = f"alone it adds noise / signal {unit.noise:.2g}, {share}"
    else:
        return None
    return Advice(
        Cause.OWN_ERROR, figure, "offer a precision between the two by --space, or train with quantisation (QAT)"
    )


def _accumulated(unit: UnitFigures) -> Advice:
    alone = "" if math.isnan(unit.noise) else f"alone it adds noise / signal {unit.noise:.2g}"
    whole = "" if math.isnan(unit.allowed) else f"; all units of the answer together have {unit.allowed:.2g}"
    figure = f"{alone}{whole}" or "it was not measured alone"
    return Advice(
        Cause.ACCUMULATED, figure, "allow a larger --max-drop, or give more samples, which narrow the interval"
    )


def advice_section(run: RunRecord) -> Section | None:
    """The cause of each unit that is kept in a higher precision than it might have."""
    plan = shown_plan(run)
    if run.study is None or not plan:
        return None
    rows = []
    for name, unit in run.study.units.items():
        lower = min(unit.choices, key=lambda p: (p.bits, p.value))
        if unit.pinned or name not in plan or lower.bits >= plan[name].bits:
            continue
        advice = advice_of(_figures(run, name, plan, lower))
        rows.append([name, plan[name].value, lower.value, str(advice.cause), advice.figure, advice.remedy])
    if not rows:
        return None
    columns = [
        Column("unit"),
        Column("planned", Form.PRECISION),
        Column("instead of", Form.PRECISION),
        Column("main cause"),
        Column("figure"),
        Column("what would help"),
    ]
    counts = {str(c): sum(row[3] == str(c) for row in rows) for c in Cause}
    causes = ", ".join(f"{name} ({count})" for name, count in counts.items() if count)
    kept = told(len(rows), "unit is", "units are")
    return Section(
        key="advice",
        title="Units kept in a higher precision, and what would help",
        notes=[f"{kept} in a higher precision than the lowest one offered. Main causes: {causes}."],
        table=Table(columns, rows),
    )


def _figures(run: RunRecord, name: str, plan: Assignment, lower: Precision) -> UnitFigures:
    entry = run.sensitivities.get((name, lower))
    answer = (run.result.get("candidates") or {}).get(run.result.get("chosen"), {})
    decibels = answer.get("sqnr_db")
    noises = [found.noise for (_, precision), found in run.sensitivities.items() if precision is lower]
    offered = () if run.study is None else run.study.units[name].choices
    carried = run.study is not None and lower.is_quantized and run.study.carrier is Precision.FP16
    high_ms, low_ms = (run.unit_ms.get(f"uniform {p.value}", {}).get(name, math.nan) for p in (plan[name], lower))
    return UnitFigures(
        planned=plan[name],
        lower=lower,
        values=_values(run, name),
        noise=math.nan if entry is None else entry.noise,
        allowed=math.nan if decibels is None else 10 ** (-decibels / 10),
        total=sum(noises) if noises else math.nan,
        mean=sum(noises) / len(noises) if noises else math.nan,
        halves=carried or (plan[name] is not Precision.FP16 and Precision.FP16 in offered),
        planned_ms=high_ms,
        lower_ms=low_ms,
    )


def _values(run: RunRecord, unit: str) -> dict[str, tuple[float, float, ValueDrift | None]]:
    """The values that the unit makes and reads, by name."""
    if run.ranges is None or run.network is None:
        return {}
    drifts = {} if run.causes is None else run.causes.values
    names: Sequence[str] = [
        *run.network.units[unit].outputs,
        *(edge.tensor for edge in run.network.edges if edge.consumer == unit),
    ]
    return {name: (*_seen(run.ranges, name), drifts.get(name)) for name in names if name in run.ranges.extent}


def _seen(table: RangeTable, name: str) -> tuple[float, float]:
    span = table.extent[name]
    return max(abs(span.low), abs(span.high)), kept_share(table, name)
