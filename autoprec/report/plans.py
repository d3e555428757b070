"""All measured plans: the trade-offs among them, and how well the models predicted them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from autoprec.front.pareto import front
from autoprec.report.answer import drop_form, drop_unit, shown_trial
from autoprec.report.counts import told
from autoprec.report.read import RunRecord
from autoprec.report.sections import Cell, Column, Dot, Form, Scatter, Section, Table
from autoprec.study.trial import Trial

_PROPOSED = (
    "Proposed by: uniform and half plans come first; a model proposes the plan that it predicts to be best; swap is a "
    "neighbour of one of the best plans; explore is a random plan, measured to improve the models."
)


def plans_section(run: RunRecord) -> Section | None:
    """Every measured plan, by latency and drop."""
    if run.study is None or not run.trials:
        return None
    timed = [t for t in run.trials if t.measured.timed and math.isfinite(t.measured.judged_drop)]
    best = {timed[i].number for i in front([(t.measured.latency_ratio, t.measured.judged_drop) for t in timed])}
    metric, answer = run.study.metric, shown_trial(run)
    scale = 100 if drop_form(metric) is Form.POINTS else 1
    time = "time for each of several batches in flight" if run.study.objective == "throughput" else "latency"
    bound = run.study.max_drop
    plot = Scatter(
        title="Every measured plan",
        x=f"{time} / {run.clock_unit}'s",
        y=f"drop ({drop_unit(metric)})",
        dots=[
            Dot(
                x=t.measured.latency_ratio,
                y=scale * t.measured.judged_drop,
                group=_group(t, t is answer, t.number in best),
                label=f"{t.name}: {t.origin}",
            )
            for t in timed
        ],
        line=scale * bound if math.isfinite(bound) else None,
    )
    columns = _columns(metric, f"{time} / {run.clock_unit}")
    rows = [_row(run, t, t.number in best) for t in run.trials]
    return Section(
        key="plans",
        title="Trade-offs: every measured plan",
        notes=_plan_notes(run, len(best)),
        table=Table(columns, rows, frozenset(i for i, t in enumerate(run.trials) if t is answer)),
        plots=[plot] if timed else [],
    )


def _plan_notes(run: RunRecord, best: int) -> list[str]:
    measured, untimed = len(run.trials), sum(not t.measured.timed for t in run.trials)
    on_front = told(best, "of them is on the Pareto front", "of them are on the Pareto front")
    left = told(untimed, "plan over the bound was", "plans over the bound were")
    return [
        f"{told(measured, 'plan was', 'plans were')} measured on the selection samples.",
        f"{on_front}: no other plan is both faster and more accurate.",
        _PROPOSED,
        *([f"{left} not timed, so the plot does not show them."] if untimed else []),
    ]


def _columns(metric: str, time: str) -> list[Column]:
    return [
        Column("trial", Form.COUNT),
        Column("proposed by"),
        Column(time, Form.RATIO),
        Column("drop", drop_form(metric), drop_unit(metric)),
        Column("within the bound"),
        Column("on the front"),
        Column("size", Form.COUNT, "bytes"),
        Column("noise / signal", Form.TINY),
        Column("samples", Form.COUNT),
    ]


def _group(trial: Trial, answer: bool, best: bool) -> str:
    if answer:
        return "answer"
    return "uniform" if trial.uniform else "on the front" if best else "other"


def _row(run: RunRecord, trial: Trial, best: bool) -> list[Cell]:
    m = trial.measured
    return [
        trial.number,
        trial.origin,
        m.latency_ratio if m.timed else "not timed",
        m.judged_drop,
        "yes" if trial.feasible else "no",
        "yes" if best else "",
        m.bytes,
        m.noise,
        m.samples or (run.study.samples if run.study is not None else None),
    ]


def predictions_section(run: RunRecord) -> Section | None:
    """What the two models predicted beside what was measured."""
    known = [(t, t.predicted) for t in run.trials if t.predicted is not None]
    if run.study is None or not known:
        return None
    metric = run.study.metric
    scale = 100 if drop_form(metric) is Form.POINTS else 1
    latency = [
        Dot(x=p.latency, y=t.measured.latency_ratio, group="trial", label=t.name) for t, p in known if t.measured.timed
    ]
    drop = [Dot(x=scale * p.drop, y=scale * t.measured.judged_drop, group="trial", label=t.name) for t, p in known]
    plots = [
        Scatter(
            title="Latency model", x=f"predicted latency / {run.clock_unit}", y="measured", dots=latency, diagonal=True
        ),
        Scatter(
            title="Accuracy model", x=f"predicted drop ({drop_unit(metric)})", y="measured", dots=drop, diagonal=True
        ),
    ]
    columns = _predicted_columns(metric, run.clock_unit)
    rows: list[list[Cell]] = [
        [
            t.number,
            p.latency,
            t.measured.latency_ratio if t.measured.timed else "not timed",
            p.drop,
            t.measured.judged_drop,
            p.noise,
            t.measured.noise,
        ]
        for t, p in known
    ]
    return Section(
        key="predictions",
        title="Predicted beside measured",
        notes=_fits(run.result.get("models") or {}, len(known)),
        table=Table(columns, rows),
        plots=[plot for plot in plots if plot.dots],
    )


def _predicted_columns(metric: str, unit: str) -> list[Column]:
    return [
        Column("trial", Form.COUNT),
        Column(f"latency / {unit} predicted", Form.RATIO),
        Column(f"latency / {unit} measured", Form.RATIO),
        Column("drop predicted", drop_form(metric), drop_unit(metric)),
        Column("drop measured", drop_form(metric), drop_unit(metric)),
        Column("noise / signal predicted", Form.TINY),
        Column("noise / signal measured", Form.TINY),
    ]


def _fits(models: Mapping[str, Any], count: int) -> list[str]:
    before = told(count, "plan was", "plans were")
    notes = [f"{before} predicted before being measured. A point on the diagonal was predicted exactly."]
    for name, title in (("latency", "latency"), ("drop", "drop"), ("noise", "noise of the outputs")):
        fit = models.get(name) or {}
        if fit.get("rank") is not None:
            error = "" if fit.get("error") is None or name != "latency" else f", mean error {fit['error']:.0%}"
            notes.append(f"Spearman rank correlation of predicted and measured {title}: {fit['rank']:.2f}{error}.")
    if models.get("accuracy_trusted") is False:
        notes.append(
            "The accuracy model predicted too poorly, so the search tried neighbours of the best plan instead."
        )
    return notes
