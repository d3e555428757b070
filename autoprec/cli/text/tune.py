"""What `autoprec tune` prints for people."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from autoprec.cli import elapsed_s
from autoprec.cli.screen import print_json, print_table, say
from autoprec.cli.text.selection_bias import bias_lines
from autoprec.files.printable import printable

if TYPE_CHECKING:
    from autoprec.api import SearchResult
    from autoprec.run.answer.result import TuneResult
    from autoprec.run.settings import Settings
    from autoprec.run.task import Task


_OVER = 1.1
"""A time limit counts as kept within this factor."""
_METHODS = {
    "smoothed": "estimated from margins of scores and changed decisions",
    "counted": "estimated from changed decisions",
    "unfit": "estimated from changed decisions alone, as margins of scores do not explain them here",
    "averaged": "by a paired bootstrap",
    "resampled": "by a bootstrap over samples",
    "blocks": "from sixteen blocks of samples",
}


def introduce(task: Task, quiet: bool) -> None:
    """Say what will be tuned, before the first stage; doubts are said in any case."""
    for doubt in task.doubts:
        click.echo(printable(f"warning: {doubt}"), err=True)
    if quiet:
        return
    units = task.subject.partition.units
    free = sum(len(options) > 1 for options in task.subject.choices.values())
    click.echo(
        f"model: {task.settings.model}, {len(units)} units; the search chooses the precision of {free} of them",
        err=True,
    )
    click.echo(f"data: {task.splits.text}", err=True)
    if task.splits.overlap:
        click.echo(
            f"warning: {task.splits.overlap} calibration samples are evaluation samples too: plans look too good",
            err=True,
        )
    click.echo(f"goal: {_goal_text(task)}", err=True)
    for note in task.subject.notes:
        click.echo(printable(f"note: {note}"), err=True)


def _goal_text(task: Task) -> str:
    """What is looked for, and the bounds, in words."""
    from autoprec.metrics.bounds import bound_text

    settings = task.settings
    best = {
        "latency": "the lowest latency",
        "throughput": "the highest throughput",
        "size": "the smallest size",
        "accuracy": "the smallest drop",
    }[settings.aim]
    sure = "" if settings.confidence is None else f", with a confidence of {settings.confidence:.0%}"
    fast = "" if settings.max_latency is None else f"; at most {settings.max_latency:g} of FP32's latency"
    fast += "" if settings.max_latency_ms is None else f"; at most {settings.max_latency_ms:g} ms for a batch"
    return f"{best}; {bound_text(task.metric.name, settings.max_drop)}{sure}{fast}"


def say_plan(task: Task, folder: Path, as_json: bool) -> None:
    """Print what a tune would do with this run directory, without doing it."""
    subject = task.subject
    if as_json:
        print_json(_plan_record(task, folder))
        return
    introduce(task, quiet=False)
    rows = [
        [
            unit.name,
            unit.kind,
            " ".join(p.value for p in subject.choices[unit.name]),
            "pinned" if unit.name in subject.pinned else "",
        ]
        for unit in subject.partition.units
    ]
    print_table(["unit", "kind", "precisions offered", ""], rows)
    click.echo(
        f"\nwould measure at most {task.settings.trials} plans with {task.metric.name} on {task.backend.name}, "
        f"{_bounds(task.settings)}, and write to {folder}"
    )


def _plan_record(task: Task, folder: Path) -> dict[str, object]:
    """What a tune would do, as JSON."""
    return {
        "model": str(task.subject.model.path),
        "directory": str(folder),
        "splits": task.splits.text,
        "metric": task.metric.name,
        "objective": task.settings.aim,
        **({"situations": list(task.settings.situations)} if task.settings.situations else {}),
        "max_drop": task.settings.max_drop,
        "max_latency": task.settings.max_latency,
        "max_latency_ms": task.settings.max_latency_ms,
        "machine": task.backend.describe(),
        "notes": list(task.subject.notes),
        "choices": {name: [p.value for p in options] for name, options in task.subject.choices.items()},
    }


def _bounds(settings: Settings) -> str:
    """What is allowed, and what is looked for."""
    text = [f"allow a drop of {settings.max_drop:g}"] if math.isfinite(settings.max_drop) else []
    if settings.limited:
        share, ms = settings.max_latency, settings.max_latency_ms
        text.append(f"allow {ms:g} ms" if share is None else f"allow {share:g} of FP32's latency")
    if settings.aim not in ("latency", "accuracy"):
        text.append(f"look for the {'smallest' if settings.aim == 'size' else 'highest throughput'}")
    return ", ".join(text)


def say_result(result: SearchResult, folder: Path, report: Path | None) -> None:
    """Print what a tune found: the table on standard output, a complaint about the runtime on standard error."""
    from autoprec.run.answer.table import table_rows

    tuned = result.tuned
    header, rows = table_rows(tuned)
    click.echo("")
    print_table(header, rows, spare=("MACs", "agreement", "KL"))
    say(f"\nanswer: {result.reason}.")
    for line in [
        *_drop_lines(tuned),
        *_uniform_lines(tuned),
        *bias_lines(tuned.bias, tuned.clock_disturbed, tuned.goal.unit_text),
        *_runtime_lines(tuned),
    ]:
        say(line)
    complaint = tuned.verification.complaint()
    if complaint:
        click.echo(printable(complaint), err=True)
    for line in [*_model_lines(tuned), *_search_lines(tuned), *_time_lines(tuned)]:
        say(line)
    files = [folder / "plan.json", folder / "model.onnx", folder / "result.json", *([] if report is None else [report])]
    click.echo(f"written: {', '.join(map(str, files))}")  # scripts look for this line


def _drop_lines(tuned: TuneResult) -> list[str]:
    """The drop of the answer on held-out samples, whether that certifies the bound, and how plans were accepted."""
    from autoprec.run.answer.reasons import unlike_decisions, verdict

    settings, splits = tuned.task.settings, tuned.task.splits
    drop, counted = tuned.answer.drop, tuned.counted_drop(tuned.answer)
    allowed = f"; at most {settings.max_drop:g} is allowed" if math.isfinite(settings.max_drop) else ""
    basis = "estimate" if settings.confidence is None else f"{100 * settings.confidence:g} % confidence interval"
    fresh = (
        f"drop of {tuned.task.metric.name} on {splits.report.count} held-out samples: {drop.estimate:+.4f}, "
        f"{100 * settings.level:g} % confidence interval {drop.low:+.4f} to {drop.high:+.4f}{allowed}."
    )
    how = f"the drop is {_METHODS[drop.method]}"
    if tuned.task.metric.over_set is None and (drop.low, drop.high) != (counted.low, counted.high):
        how += f"; by the plain scores it is {counted.estimate:+.4f} ({counted.low:+.4f} to {counted.high:+.4f})"
    accepted = f"the search accepted plans by their {basis} on {splits.select.count} other samples."
    unlike = unlike_decisions(tuned)
    doubts = [] if unlike is None else [f"warning: {unlike}."]
    return [fresh, f"{verdict(drop, settings.max_drop)}; {accepted}", f"{how}.", *doubts]


def _uniform_lines(tuned: TuneResult) -> list[str]:
    """The answer beside the best uniform plan, in what was minimised, and better ones that could not be chosen."""
    from autoprec.run.answer.reasons import passed_over

    others = [f"{text}." for text in passed_over(tuned)]
    chosen, uniform, objective = tuned.answer, tuned.best_uniform, tuned.goal.objective
    if chosen.name == uniform.name or not tuned.found.feasible:
        return others
    versus, met = f"{chosen.latency.ratio_to(uniform.latency).estimate:.3f}", "that met the bound in the search"
    if objective == "throughput":
        times = tuned.samples_per_s(chosen) / tuned.samples_per_s(uniform)
        text = f"the uniform plan of highest throughput {met}: {times:.3f} times its throughput."
    elif objective == "size":
        share = f"{chosen.size / uniform.size:.3f}"
        text = f"the smallest uniform plan {met}: {share} of its bytes, {versus} of its latency."
    elif objective == "accuracy":
        drops = f"a drop of {chosen.drop.estimate:+.4f} against {uniform.drop.estimate:+.4f}"
        text = f"the most accurate uniform plan {met}: {versus} of its latency, {drops}."
    else:
        text = f"the fastest uniform plan {met}: {versus} of its latency."
    return [f"compared with {uniform.name}, {text}", *others]


def _runtime_lines(tuned: TuneResult) -> list[str]:
    """Which finalists were set aside, how the units ran, and whether the engine computes what the model says."""
    from autoprec.proof.verification import UnitStatus

    lines = [f"not chosen: {text}." for text in tuned.set_aside]
    counts = tuned.verification.counts
    if tuned.clock_disturbed:
        lines.append(
            "warning: other programs used the CPUs while the plans were timed, so which of them is fastest is less "
            "certain; the intervals of the latencies are wider for it. Tune again on a quiet machine."
        )
    lines.append(
        "units as they ran: "
        + ", ".join(f"{count} {UnitStatus(status).text}" for status, count in counts.items() if count)
        + "."
    )
    if tuned.simulated is not None and tuned.differs_from_exact:
        engine, exact = (float(outcome.scores.mean()) for outcome in (tuned.answer.outcome, tuned.simulated))
        lines.append(
            f"warning: the engine scores {engine:.4f}, the plan in exact arithmetic {exact:.4f}, and chance does not "
            f"explain that: the runtime computes something else than the plan says. `autoprec diagnose` shows where."
        )
    return [*lines, *(f"refused by the runtime: {text}" for text in tuned.found.refused)]


def _model_lines(tuned: TuneResult) -> list[str]:
    """How well the models predicted plans that they had not seen."""
    models, lines = tuned.found.models, []
    latency, noise, drop = models.latency, models.noise, models.drop
    if latency.rank is not None:
        lines.append(
            f"latency model, on {latency.plans} plans before they were measured: rank correlation {latency.rank:.2f}, "
            f"mean error {latency.error:.0%}, largest error {latency.worst:.0%} (trial {latency.worst_plan})."
        )
    if noise.rank is not None and drop.rank is not None:
        among = "" if noise.best_fifth is None else f" ({noise.best_fifth:.2f} among the best fifth)"
        lines.append(
            f"accuracy model, on the same plans: rank correlation {noise.rank:.2f}{among} and R2 {noise.r2:.2f} for "
            f"the noise at the outputs, {drop.rank:.2f} for the drop."
        )
    if not drop.trusted:
        lines.append(
            "the accuracy model predicted too poorly, so the search tried neighbours of the best plan instead."
        )
    return lines


def _search_lines(tuned: TuneResult) -> list[str]:
    """How many plans were measured, how much of that was left out, and who measured them."""
    found = tuned.found
    saved = [
        *([f"{found.not_timed} were not timed"] if found.not_timed else []),
        *([f"{found.judged_in_part} were scored on fewer samples"] if found.judged_in_part else []),
    ]
    over = f"; of those over the bound, {' and '.join(saved)}" if saved else ""
    lines = [f"{len(found.trials)} plans were measured{over}."]
    if len(found.by) > 1:
        counts = ", ".join(f"{process} {count} plans" for process, count in found.by.items())
        lines.append(f"measured by: {counts}.")
    passes = tuned.profile.passes_per_entry
    if passes:
        lines.append(f"each sensitivity (one unit in one precision) cost {passes:.2f} passes over its samples.")
    return lines


def _time_lines(tuned: TuneResult) -> list[str]:
    """The seconds of each stage against the limit, and what there was no time for."""
    from autoprec.study.stop import StopReason

    seconds, allowed = dict(tuned.time.seconds), tuned.task.settings.timeout_s
    total = max(elapsed_s(), sum(seconds.values()))
    seconds["writing"] = total - sum(seconds.values())
    stages = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if value >= 0.05)
    limit = "" if allowed is None else f" of {allowed:g} s allowed"
    unit = tuned.goal.unit_text
    whose = "" if unit == "FP32" else f", compared with uniform {unit}, as no engine of FP32 was built"
    lines = [f"time: {total:.1f} s{limit} ({stages}); latency {tuned.task.backend.clock.text}{whose}."]
    if tuned.time.left_out:
        lines.append(f"left out for lack of time: {'; '.join(tuned.time.left_out)}.")
    if allowed is not None and total > _OVER * allowed:
        lines.append(
            f"{total / allowed - 1:.0%} over the time limit: it is too short for this model and data, or the machine "
            f"became slower during the run; allow about {1.2 * total:.0f} s, or give less data."
        )
    elif allowed is not None and total < allowed / _OVER and tuned.found.stop.reason is not StopReason.TIME:
        lines.append(f"the search ended before the time limit: {tuned.found.stopped}.")
    return lines
