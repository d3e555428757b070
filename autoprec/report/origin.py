"""Where a report's figures come from: ranges, time, data, machine, and the command that gives them again."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from autoprec.ranges.bins import Range
from autoprec.ranges.table import RangeTable
from autoprec.report.counts import told
from autoprec.report.read import RunRecord
from autoprec.report.sections import Cell, Column, Form, Section, Table

_WORST = 30
_CLIPPING = (
    Column("tensor"),
    Column("made by unit"),
    Column("kept from", Form.NUMBER),
    Column("to", Form.NUMBER),
    Column("seen from", Form.NUMBER),
    Column("to ", Form.NUMBER),
    Column("share of the range kept", Form.SHARE),
    Column("calibrator"),
)
_USUAL = {
    "recipe": "default",
    "batch": 16,
    "trials": 40,
    "seed": 0,
    "sampler": "guided",
    "max_drop": 0.01,
    "repairs": "none",
}
_OPTIONS = {
    "calib": "--calib",
    "evaluate": "--eval",
    "metric": "--metric",
    "direction": "--direction",
    "max_drop": "--max-drop",
    "max_latency": "--max-latency",
    "objective": "--objective",
    "confidence": "--confidence",
    "space": "--space",
    "recipe": "--recipe",
    "batch": "--batch",
    "trials": "--trials",
    "timeout_s": "--timeout",
    "seed": "--seed",
    "sampler": "--sampler",
    "repairs": "--repairs",
}


def clipping_section(run: RunRecord) -> Section | None:
    """The ranges of which the calibrator cuts most."""
    if run.ranges is None or not run.ranges.clipped:
        return None
    table = run.ranges
    worst = sorted(table.clipped, key=lambda name: kept_share(table, name))[:_WORST]
    makers = {} if run.network is None else {v: name for name, unit in run.network.units.items() for v in unit.outputs}
    rows: list[list[Cell]] = [
        [
            name,
            makers.get(name, ""),
            table.clipped[name].low,
            table.clipped[name].high,
            table.extent[name].low,
            table.extent[name].high,
            kept_share(table, name),
            table.chosen.get(name, table.method),
        ]
        for name in worst
    ]
    clipped = sum(kept_share(table, name) < 0.995 for name in table.clipped)
    return Section(
        key="clipping",
        title="Clipping of the worst ranges",
        notes=[
            (
                f"For INT8, the calibrator keeps less than the whole range of {clipped} of {len(table.clipped)} "
                f"tensors, as seen on {table.samples} calibration samples. Values beyond the kept range saturate. "
                f"Where the share kept is small, a few outliers are far larger than the rest."
            )
        ],
        table=Table(_CLIPPING, rows),
    )


def kept_share(table: RangeTable, name: str) -> float:
    """The width of the range that INT8 keeps, as a share of the width that was seen."""
    seen = _width(table.extent[name])
    return min(_width(table.clipped[name]) / seen, 1.0) if seen > 0 else 1.0


def _width(span: Range) -> float:
    return max(abs(span.low), abs(span.high)) if span.low < 0 < span.high else span.high - span.low


def time_section(run: RunRecord) -> Section | None:
    """The seconds of each stage."""
    seconds: Mapping[str, float] = run.result.get("seconds") or {}
    if not seconds:
        return None
    total = sum(seconds.values()) or 1.0
    rows: list[list[Cell]] = [[name, value, value / total] for name, value in seconds.items()]
    spent, notes = run.result.get("spent") or {}, [f"{total:.1f} s in total. The search ended because "]
    notes[0] += f"{run.result.get('stopped', 'it had nothing left to try')}."
    if spent:
        notes.append(
            f"Of the search, {spent.get('build_s', 0):.1f} s were spent on building engines, "
            f"{spent.get('evaluate_s', 0):.1f} s on scoring samples and {spent.get('clock_s', 0):.1f} s on timing."
        )
    if run.result.get("left_out"):
        notes.append(f"Left out for lack of time: {'; '.join(run.result['left_out'])}.")
    columns = [Column("stage"), Column("time", Form.NUMBER, "s"), Column("share", Form.SHARE)]
    return Section(key="time", title="Where the time went", notes=notes, table=Table(columns, rows))


def origin_section(run: RunRecord) -> Section:
    """Data, machine and fingerprints, and the command that repeats the run."""
    rows: list[list[Cell]] = [["model", run.model], ["run directory", str(run.root)]]
    if run.study is not None:
        rows += [
            ["samples", run.study.splits],
            ["metric", run.study.metric],
            ["backend", f"{run.study.backend}; around 8-bit units it computes in {run.study.carrier.value.upper()}"],
        ]
        rows += [[f"machine: {key}", value] for key, value in run.study.machine.items()]
        rows += [[f"fingerprint: {key}", value] for key, value in run.study.fingerprints.items()]
    for key, title in (("calibrator", "calibrator"), ("sampler", "sampler"), ("autoprec", "autoprec")):
        if run.result.get(key):
            rows.append([title, str(run.result[key])])
    measured_by: Mapping[str, int] = run.result.get("measured_by") or {}
    rows += [[f"measured by {process}", f"{count} plans"] for process, count in measured_by.items()]
    notes = [str(note) for note in run.result.get("notes") or []]
    left = {} if run.network is None else run.network.left_alone
    notes += [
        f"{told(count, 'node is', 'nodes are')} in no unit: {reason}." for reason, count in list(left.items())[:10]
    ]
    return Section(
        key="origin",
        title="Fingerprints, and how to repeat this",
        notes=notes,
        table=Table([Column("what"), Column("value")], rows),
        code=command_of(run),
    )


def command_of(run: RunRecord) -> str:
    """The command line that gives the same run again, empty where its settings are not known."""
    if not run.settings:
        return ""
    line = ["autoprec", "tune", str(run.settings.get("model", run.model))]
    for name, option in _OPTIONS.items():
        value = run.settings.get(name)
        if name == "objective" and run.settings.get("counted"):
            value = f"{value or 'latency'}:{run.settings['counted']}"
        if value is not None and _USUAL.get(name) != value:
            line += [option, _plain(value)]
    if run.settings.get("max_latency_ms") is not None:
        line += ["--max-latency", f"{run.settings['max_latency_ms']:g}ms"]
    line += _repeated("--pin", run.settings.get("pins") or ())
    line += _repeated("--situation", run.settings.get("situations") or ())
    if run.study is not None:
        line += ["--backend", run.study.backend]
    if run.threads is not None:
        line += ["--threads", str(run.threads)]
    line += ["--target", ",".join(run.targets)] if run.targets else []
    return shlex.join([*line, "--out", str(run.root)])


def _repeated(option: str, values: Iterable[str]) -> list[str]:
    return [word for value in values for word in (option, str(value))]


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
