"""The answer of a run: the figures that a reader wants first, beside those of every uniform plan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from autoprec.files.json import infinite_if_none
from autoprec.metrics.bounds import told_in_points
from autoprec.plan import Assignment
from autoprec.report.read import RunRecord, latency_share
from autoprec.report.sections import Card, Cell, Column, Figure, Form, Section, Table, shown
from autoprec.study.trial import Trial

_SURE = 0.95


def drop_form(metric: str) -> Form:
    """How a drop of a metric is written."""
    return Form.POINTS if told_in_points(metric) else Form.NUMBER


def drop_unit(metric: str) -> str:
    """The unit of a drop of a metric."""
    return "percentage points" if told_in_points(metric) else metric


def drop_text(drop: float, metric: str) -> str:
    """A drop or a bound on it with its unit."""
    points = "percentage point" if 100 * drop == 1 else "percentage points"
    return f"{100 * drop:.3g} {points} of {metric}" if told_in_points(metric) else f"{drop:.3g} of {metric}"


def shown_trial(run: RunRecord) -> Trial | None:
    """The measured plan that the report is about: the answer, or while there is none the best one so far."""
    if run.study is None or not run.trials:
        return None
    goal, answer = run.study.goal, run.study.answer
    if answer is not None:
        found = next((t for t in run.trials if dict(t.plan) == dict(answer.plan)), None)
        if found is not None:
            return found
    able = [trial for trial in run.trials if trial.feasible]
    if able:
        return min(able, key=lambda trial: trial.cost(goal))
    return min(run.trials, key=lambda trial: trial.short_of(goal))


def shown_plan(run: RunRecord) -> Assignment:
    """The plan that the report is about; empty before any was measured."""
    if run.study is not None and run.study.answer is not None:
        return run.study.answer.plan
    trial = shown_trial(run)
    return {} if trial is None else trial.plan


def state_text(run: RunRecord) -> str:
    """What became of the run."""
    if run.finished:
        reason = str(run.result.get("reason", "the run has ended"))
        return f"{reason[:1].upper()}{reason[1:]}."
    trial = shown_trial(run)
    if trial is None:
        return "The run has not ended, and no plan has been measured yet. The same `autoprec tune` command resumes it."
    within = "is the best so far" if trial.feasible else "is nearest to the bound, which none meets so far"
    return (
        f"The run has not ended: of {len(run.trials)} measured plans, {trial.name} {within}. Nothing below is "
        f"confirmed on held-out samples yet. The same `autoprec tune` command resumes the run."
    )


def answer_cards(run: RunRecord) -> list[Card]:
    """The answer in a few figures."""
    if not run.finished:
        trial = shown_trial(run)
        return [] if trial is None else _cards_so_far(run, trial)
    candidates: Mapping[str, Any] = run.result["candidates"]
    chosen, metric = candidates[run.result["chosen"]], str(run.result["metric"])
    unit = run.clock_unit
    compared = candidates.get(f"uniform {unit.lower()}", chosen)
    ratio, drop, level = latency_share(chosen), chosen["estimated_drop"], run.result.get("confidence") or _SURE
    speed = 1 / ratio["estimate"]
    estimate, low, high = (infinite_if_none(drop[key]) for key in ("estimate", "low", "high"))
    form = drop_form(metric)
    ratio_text = f"{ratio['estimate']:.3f} of {unit}'s latency ({ratio['low']:.3f} to {ratio['high']:.3f})"
    cards = [
        Card("Answer", str(run.result["chosen"]), _precision_text(chosen["mac_share"])),
        Card(
            "Speed",
            f"{speed:.2f} x {unit}",
            f"{chosen['latency_ms']:.3g} ms a batch instead of {compared['latency_ms']:.3g} ms; {ratio_text}, "
            f"{run.result['clock']}",
        ),
        Card(
            f"Drop of {metric}",
            _in_points(estimate, form),
            f"{level:.0%} confidence interval {shown(low, form)} to {shown(high, form)} on {drop['samples']} held-out "
            f"samples; {_verdict(run, drop, estimate)}",
        ),
        Card("Size", f"{chosen['bytes'] / max(compared['bytes'], 1):.2f} x {unit}", f"{chosen['bytes']:,} bytes"),
    ]
    return cards


def _verdict(run: RunRecord, drop: Mapping[str, Any], estimate: float) -> str:
    """Whether the bound is met, in the unit that the drop is written in."""
    bound, metric = run.result.get("max_drop"), str(run.result["metric"])
    if bound is None or not math.isfinite(estimate):
        return str(run.result["verdict"])
    needed = drop["samples_to_certify"]
    better = "; below zero is better than the model compared with" if estimate < 0 else ""
    if drop["certified"]:
        return f"certified: the whole interval is within the bound of {drop_text(bound, metric)}{better}"
    missing = "the estimate itself exceeds" if needed is None else f"it takes about {needed:,} samples to certify"
    return f"not certified: {missing} the bound of {drop_text(bound, metric)}{better}"


def _in_points(drop: float, form: Form) -> str:
    return f"{shown(drop, form)} points" if form is Form.POINTS else shown(drop, form)


def _precision_text(shares: Mapping[str, float]) -> str:
    return ", ".join(f"{share:.0%} {name.upper()}" for name, share in shares.items()) + " of the multiply-accumulates"


def _cards_so_far(run: RunRecord, trial: Trial) -> list[Card]:
    m, metric = trial.measured, run.study.metric if run.study is not None else ""
    timed = f"{1 / m.latency_ratio:.2f} x {run.clock_unit}" if m.timed and m.latency_ratio else "not timed"
    return [
        Card("Best so far", trial.name, trial.origin),
        Card("Speed", timed, f"{m.latency_ratio:.3f} of {run.clock_unit}'s latency, as timed in the search"),
        Card(f"Drop of {metric}", _in_points(m.judged_drop, drop_form(metric)), "on selection samples, not confirmed"),
    ]


def answer_section(run: RunRecord) -> Section:
    """The answer beside FP32 and every uniform plan."""
    if not run.finished:
        return Section(key="candidates", title="Beside uniform precisions", table=_uniform_trials(run))
    metric, chosen = str(run.result["metric"]), run.result["chosen"]
    level = run.result.get("confidence") or _SURE
    form, bound = drop_form(metric), run.result["max_drop"]
    columns = [
        Column("plan"),
        Column(_latency_title(run), Form.NUMBER, "ms"),
        Column(f"latency / {run.clock_unit}", Form.RATIO),
        Column(f"drop ({level:.0%} confidence interval)", form, drop_unit(metric)),
        *([Column("bound")] if bound is not None else []),
        Column(metric, Form.NUMBER),
        Column("size", Form.COUNT, "bytes"),
        Column(f"size / {run.clock_unit}", Form.RATIO),
        *(column for name in _beside(run) for column in _situation_columns(name, run.clock_unit)),
        *([Column("throughput", Form.COUNT, "samples/s")] if run.result.get("objective") == "throughput" else []),
        Column("multiply-accumulates"),
    ]
    candidates: Mapping[str, Any] = run.result["candidates"]
    unit_bytes = max(candidates.get(f"uniform {run.clock_unit.lower()}", {}).get("bytes", 0), 1)
    rows = [_candidate_row(run, name, c, unit_bytes) for name, c in candidates.items()]
    marked = frozenset(i for i, name in enumerate(candidates) if name == chosen)
    notes = [f"{text}." for text in run.result.get("passed_over", [])]
    unlike = run.result.get("unlike_decisions")
    notes += _bias_notes(run, form)
    return Section(
        key="candidates",
        title=f"Beside {run.clock_unit} and every uniform precision",
        notes=[*([f"Warning: {unlike}."] if unlike else []), *notes],
        table=Table(columns, rows, marked),
    )


def _bias_notes(run: RunRecord, form: Form) -> list[str]:
    """What the answer owes to having been chosen."""
    bias = run.result.get("winners_curse")
    if not bias:
        return []
    latency, drop = bias["latency"], bias["drop"]
    told = [
        f"Selection bias: the best of {bias['plans']} plans within the bound tends to look better than it is.",
        "So it was measured again, and the table holds the new figures.",
        f"Latency / {run.clock_unit}: {latency['selected']:.3f} in the search, {latency['fresh']:.3f} timed again.",
        f"Drop: {shown(drop['selected'], form)} in the search, {shown(drop['fresh'], form)} on held-out samples.",
    ]
    return [" ".join(told)]


def _latency_title(run: RunRecord) -> str:
    counted = (run.result.get("situations") or {}).get("counted")
    return "latency" if counted is None else f"latency, {str(counted).partition(':')[0]}"


def _beside(run: RunRecord) -> list[str]:
    """The situations that only the answer and its rivals were timed in."""
    situations: Mapping[str, Any] = run.result.get("situations") or {}
    counted = str(situations.get("counted", "")).partition(":")[0]
    timed = run.result["candidates"][run.result["chosen"]].get("situations") or {}
    return [name for name in timed if name != counted]


def _situation_columns(name: str, unit: str) -> tuple[Column, Column]:
    return Column(name, Form.NUMBER, "ms"), Column(f"{name} / {unit}", Form.RATIO)


def _situation_cells(c: Mapping[str, Any], situation: str) -> list[Cell]:
    timed = (c.get("situations") or {}).get(situation)
    if timed is None:
        return [None, None]
    ratio = timed["latency_vs_unit"]
    return [timed["latency_ms"], Figure(ratio["estimate"], ratio["low"], ratio["high"])]


def _candidate_row(run: RunRecord, name: str, c: Mapping[str, Any], unit_bytes: int) -> list[Cell]:
    ratio, drop = latency_share(c), c["estimated_drop"]
    figure = Figure(*(infinite_if_none(drop[key]) for key in ("estimate", "low", "high")))
    certified = drop["certified"]
    needed = drop["samples_to_certify"]
    missing = "not certified" if needed is None else f"not certified: needs about {needed:,} samples"
    return [
        f"{name} (answer)" if name == run.result["chosen"] else name,
        c["latency_ms"],
        Figure(ratio["estimate"], ratio["low"], ratio["high"]),
        figure if math.isfinite(figure.value) else "NaN or infinity in its outputs",
        *(["certified" if certified else missing] if run.result["max_drop"] is not None else []),
        c["score"],
        c["bytes"],
        c["bytes"] / unit_bytes,
        *(cell for situation in _beside(run) for cell in _situation_cells(c, situation)),
        *([c.get("samples_per_s")] if run.result.get("objective") == "throughput" else []),
        ", ".join(f"{share:.0%} {p}" for p, share in c["mac_share"].items()),
    ]


def _uniform_trials(run: RunRecord) -> Table | None:
    if run.study is None or not run.trials:
        return None
    metric, shown_one = run.study.metric, shown_trial(run)
    trials = [trial for trial in run.trials if trial.uniform or trial is shown_one]
    columns = [
        Column("plan"),
        Column(f"latency / {run.clock_unit}", Form.RATIO),
        Column("drop on selection samples", drop_form(metric), drop_unit(metric)),
        Column("size", Form.COUNT, "bytes"),
    ]
    rows: list[list[Cell]] = [
        [t.name, t.measured.latency_ratio, t.measured.judged_drop, t.measured.bytes] for t in trials
    ]
    return Table(columns, rows, frozenset(i for i, t in enumerate(trials) if t is shown_one))
