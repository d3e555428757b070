"""What `autoprec tune` says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autoprec.cli import elapsed_s
from autoprec.cli.screen import print_json, print_table

if TYPE_CHECKING:
    from autoprec.api import SearchResult
    from autoprec.run.settings import Settings
    from autoprec.run.task import Task


_OVER = 1.1
"""A limit is kept within this factor."""
OUT_OF_TIME = "the time was used up"
_METHODS = {
    "smoothed": "from margins and the share of changed decisions",
    "shrunken": "from the count and the share of changed decisions",
    "counted": "paired bootstrap",
}


def introduce(task: Task, quiet: bool) -> None:
    """Say what will be tuned, before the first stage."""
    if quiet:
        return
    units = task.subject.partition.units
    free = sum(len(options) > 1 for options in task.subject.choices.values())
    click.echo(f"{task.settings.model}: {len(units)} units, {free} of them to be decided", err=True)
    click.echo(f"data: {task.splits.text}", err=True)
    if task.splits.overlap:
        click.echo(f"warning: {task.splits.overlap} calibration samples are evaluation samples too", err=True)
    for note in task.subject.notes:
        click.echo(f"note: {note}", err=True)


def say_plan(task: Task, out: str | None, as_json: bool) -> None:
    """Print what a tune would do, without doing it."""
    from autoprec.run.directory import default_out

    subject = task.subject
    record = {
        "model": str(subject.model.path),
        "directory": str(default_out(task.settings.model) if out is None else Path(out)),
        "splits": task.splits.text,
        "metric": task.metric.name,
        "objective": task.settings.aim,
        "max_drop": task.settings.max_drop,
        "max_latency": task.settings.max_latency,
        "max_latency_ms": task.settings.max_latency_ms,
        "machine": task.backend.describe(),
        "notes": list(subject.notes),
        "choices": {name: [p.value for p in options] for name, options in subject.choices.items()},
    }
    if as_json:
        print_json(record)
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
    print_table(["unit", "kind", "precisions", ""], rows)
    click.echo(
        f"\nwould measure at most {task.settings.trials} plans with {task.metric.name} on {task.backend.name}, "
        f"{_bounds(task.settings)}, and write to {record['directory']}"
    )


def _bounds(settings: Settings) -> str:
    """What is allowed, in words."""
    text = [f"allow a drop of {settings.max_drop:g}"] if math.isfinite(settings.max_drop) else []
    if settings.limited:
        share, ms = settings.max_latency, settings.max_latency_ms
        text.append(f"allow {ms:g} ms" if share is None else f"allow {share:g} of FP32's latency")
    if settings.aim not in ("latency", "accuracy"):
        text.append(f"look for the {'smallest' if settings.aim == 'size' else 'highest throughput'}")
    return ", ".join(text)


def say_result(result: SearchResult, folder: Path) -> None:
    """Print what a tune came to."""
    from autoprec.run.answer.table import table_rows

    header, rows = table_rows(result.tuned)
    click.echo("")
    print_table(header, rows)
    summary = result.summary
    click.echo(f"\n{result.reason}.")
    _say_numbers(summary)
    _say_time(summary)
    click.echo(f"written: {folder / 'plan.json'}, {folder / 'model.onnx'}, {folder / 'result.json'}")


def _say_time(summary: dict[str, Any]) -> None:
    """Seconds of each stage against the limit, and what there was no time for."""
    seconds, allowed = dict(summary["seconds"]), summary["timeout_s"]
    total = max(elapsed_s(), sum(seconds.values()))
    seconds["writing"] = total - sum(seconds.values())
    stages = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items() if value >= 0.05)
    limit = "" if allowed is None else f" of {allowed:g} allowed"
    click.echo(f"seconds: {total:.1f}{limit} ({stages}); latency {summary['clock']}.")
    if summary["left_out"]:
        click.echo(f"for lack of time: {'; '.join(summary['left_out'])}.")
    if allowed is not None and total > _OVER * allowed:
        click.echo(
            f"over the limit by {total / allowed - 1:.0%}: it is too short for this model and data, or the machine got "
            f"slower as it ran; allow about {1.2 * total:.0f} s, or give less data."
        )
    elif allowed is not None and total < allowed / _OVER and summary["stopped"] != OUT_OF_TIME:
        click.echo(f"the rest of the time was not needed: {summary['stopped']}.")


def _say_curse(summary: dict[str, Any]) -> None:
    """What the answer owes to having been chosen, and whether fresh figures bear that out."""
    curse = summary["winners_curse"]
    if curse is None:
        return
    latency, drop = curse["latency"], curse["drop"]
    borne = [name for name, row in (("latency", latency), ("drop", drop)) if not row["borne_out"]]
    click.echo(
        f"chosen among {curse['plans']} plans within the bound. latency: {latency['selected']:.3f} of FP32's when "
        f"chosen, expected to look {max(latency['optimism'] / latency['selected'], 0):.1%} better than it is, so "
        f"{latency['corrected']:.3f}; {latency['fresh']:.3f} in fresh rounds. drop: {drop['selected']:+.4f} on the "
        f"samples that chose, {drop['corrected']:+.4f} corrected, {drop['fresh']:+.4f} on fresh ones"
        + (f"; fresh figures do not bear out the {' and the '.join(borne)}." if borne else "; fresh figures agree.")
    )


def _say_numbers(summary: dict[str, Any]) -> None:
    chosen = summary["candidates"][summary["chosen"]]
    drop, counted, samples = chosen["estimated_drop"], chosen["drop"], summary["samples"]["report"]
    allowed = f"; allowed is {summary['max_drop']:g}" if math.isfinite(summary["max_drop"]) else ""
    click.echo(
        f"on {samples} samples that chose nothing, {summary['metric']} dropped by about {drop['estimate']:+.4f} "
        f"({drop['low']:+.4f} to {drop['high']:+.4f}, {_METHODS[drop['method']]}; by count {counted['estimate']:+.4f}, "
        f"{counted['low']:+.4f} to {counted['high']:+.4f}){allowed}."
    )
    basis = "the estimate" if summary["confidence"] is None else f"the {summary['confidence']:.0%} interval"
    click.echo(f"{summary['verdict']}; plans were accepted by {basis} on the {summary['samples']['select']} others.")
    _say_uniform(summary)
    _say_curse(summary)
    for text in summary["set_aside"]:
        click.echo(f"set aside {text}.")
    _say_ran(summary)
    _say_models(summary)
    if summary["sensitivity_passes_per_entry"]:
        click.echo(
            f"sensitivity cost {summary['sensitivity_passes_per_entry']:.2f} full passes for each unit and precision."
        )


def _say_uniform(summary: dict[str, Any]) -> None:
    """The answer beside the best uniform plan, in what was minimised."""
    if summary["chosen"] == summary["best_uniform"] or not summary["feasible"]:
        return
    chosen, uniform = (summary["candidates"][summary[name]] for name in ("chosen", "best_uniform"))
    versus = f"{summary['latency_vs_best_uniform']['estimate']:.3f}"
    text = {
        "latency": f"the fastest uniform plan within the bound: {versus}.",
        "throughput": f"the uniform plan of highest throughput within the bound: "
        f"{chosen.get('samples_per_s', 0) / uniform.get('samples_per_s', 1):.3f} times its throughput.",
        "size": f"the smallest uniform plan within the bound: {chosen['bytes'] / uniform['bytes']:.3f} of its bytes, "
        f"{versus} of its latency.",
        "accuracy": f"the most accurate uniform plan within the bound: {versus} of its latency, a drop of "
        f"{chosen['estimated_drop']['estimate']:+.4f} against {uniform['estimated_drop']['estimate']:+.4f}.",
    }
    click.echo(f"against {summary['best_uniform']}, {text[summary['objective']]}")


def _say_models(summary: dict[str, Any]) -> None:
    """How well plans were foretold that the models had not seen."""
    models = summary["models"]
    latency, noise, drop = models["latency"], models["noise"], models["drop"]
    if latency["rank"] is not None:
        click.echo(
            f"latency foretold before {latency['plans']} measurements: rank correlation {latency['rank']:.2f}, mean "
            f"error {latency['error']:.0%}, worst {latency['worst']:.0%} (plan {latency['worst_plan']})."
        )
    if noise["rank"] is not None and drop["rank"] is not None:
        among = "" if noise["best_fifth"] is None else f" ({noise['best_fifth']:.2f} among the best fifth)"
        click.echo(
            f"accuracy foretold: rank correlation {noise['rank']:.2f}{among} and R2 {noise['r2']:.2f} for noise, "
            f"{drop['rank']:.2f} for the drop."
        )
    if not models["accuracy_trusted"]:
        click.echo("the model of accuracy is too weak to trust; the search leant on measuring round the best plan.")
    click.echo(
        f"{summary['trials']} plans measured; of those over the bound {summary['not_timed']} were not timed, and "
        f"{summary['judged_in_part']} were judged on fewer samples."
    )
    if len(by := summary["measured_by"]) > 1:
        click.echo("measured by: " + ", ".join(f"{process} {count} plans" for process, count in by.items()) + ".")


def _say_ran(summary: dict[str, Any]) -> None:
    counts = summary["verification"]["counts"]
    click.echo(
        "units as they ran: " + ", ".join(f"{count} {status}" for status, count in counts.items() if count) + "."
    )
    if summary["simulation"] is not None and summary["simulation"]["differs"]:
        click.echo(
            f"warning: the engine scores differently from exact arithmetic "
            f"({summary['candidates'][summary['chosen']]['score']:.4f} against {summary['simulation']['score']:.4f}), "
            f"by more than their 95 % interval; the runtime computes something else than the model says."
        )
    for text in summary["refused_plans"]:
        click.echo(f"not built: {text}")
    if summary["complaint"]:
        click.echo(summary["complaint"], err=True)
