"""autoprec gate: is this model worse than the committed baseline, and is that more than chance."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from autoprec.cli.options import DropBound, trust_option
from autoprec.cli.screen import Screen, print_json

if TYPE_CHECKING:
    from autoprec.gate.limits import Limits
    from autoprec.gate.verdict import GateReport

_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def _share(_context: click.Context, _parameter: click.Parameter, text: str) -> float:
    """A share written as 5% or 0.05."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(%?)", text.strip())
    if found is None:
        raise click.BadParameter(f"must be a share such as 5% or 0.05, got {text!r}")
    return float(found[1]) / (100 if found[2] else 1)


def _size(_context: click.Context, _parameter: click.Parameter, text: str) -> tuple[str, float]:
    """("share", 0.1) of 10% or 0.1, ("bytes", 4e7) of 40MB."""
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(%|[kmg]?b|[kmg]ib|)", text.strip().lower())
    if found is None or (found[2] == "" and float(found[1]) >= 1):
        raise click.BadParameter(f"must be a share such as 10%, or a size such as 40MB, got {text!r}")
    if found[2] in ("", "%"):
        return "share", float(found[1]) / (100 if found[2] else 1)
    return "bytes", float(found[1]) * _UNITS[found[2]]


@click.command("gate")
@click.argument("model", metavar="MODEL|RUN")
@click.option("--baseline", default="baseline.json", show_default=True, metavar="FILE", help="The committed baseline.")
@click.option(
    "--max-drop",
    type=DropBound(),
    metavar="NUMBER",
    help="The most the metric may fall below the baseline's.  [default: half of what the tune allowed against FP32, "
    "but no less than so many decisions can show]",
)
@click.option(
    "--max-slowdown",
    callback=_share,
    default="5%",
    show_default=True,
    metavar="SHARE",
    help="Of the baseline's latency.",
)
@click.option(
    "--max-size",
    callback=_size,
    default="10%",
    show_default=True,
    metavar="SHARE|BYTES",
    help="Growth of the lowered model, or its bytes, such as 40MB.",
)
@click.option(
    "--max-range-bits",
    type=float,
    default=1.0,
    show_default=True,
    metavar="BITS",
    help="Resolution that committed ranges may lose against fresh ones.",
)
@click.option("--require-latency", is_flag=True, help="Do not pass where latency cannot be judged, as without the GPU.")
@click.option("--eval", "evaluate", metavar="DATA", help="Evaluation data.  [default: the tune's]")
@click.option("--calib", metavar="DATA", help="Calibration data, to see drift of ranges.  [default: the tune's]")
@click.option("--metric", metavar="NAME", help="The baseline's metric, where it is a module:function of yours.")
@click.option("--labels", metavar="PATH", help="True boxes of --eval, if they are not where the tune had them from.")
@click.option("--decode", metavar="NAME", help="What reads outputs for it, where that is a module:function of yours.")
@click.option("--recipe", metavar="NAME|FILE", help="Calibration recipe.  [default: the tune's]")
@trust_option
@click.option(
    "--baseline-model", metavar="FILE", help="The baseline's lowered model, to run beside.  [default: the run's]"
)
@click.option("--backend", metavar="NAME", help="ort-cpu judges all but latency without a GPU.  [default: the plan's]")
@click.option("--threads", type=click.IntRange(1), help="Threads of the CPU.  [default: the baseline's]")
@click.option("--work", metavar="FOLDER", help="Where engines are kept.  [default: a temporary folder]")
@click.option("--markdown", metavar="FILE", help="Append the report for a job summary, such as $GITHUB_STEP_SUMMARY.")
@click.option("--junit", metavar="FILE", help="Write JUnit XML.")
@click.option("--annotations/--no-annotations", default=None, help="GitHub annotations.  [default: in GitHub Actions]")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(model: str, baseline: str, **options: Any) -> None:
    """Judge MODEL, or the plan of a run directory, against a committed baseline.

    MODEL is an ONNX file, a module:function, or the folder of a transformers model, as for `autoprec tune`.

    The committed plan is rebuilt on MODEL and measured. A figure is worse when it differs for certain and by more
    than is allowed.

    \b
    Exit codes: 0 fine, 1 worse than allowed, 2 bad input, 3 cannot judge, 5 a precision is no longer honoured.
    """  # noqa: D301 - click wants the character, which keeps it from joining lines
    _refuse_missing(model, baseline, options)
    from autoprec.exporting.models import Example, model_file
    from autoprec.gate.judge import gate

    sources = (model, baseline, *(options[name] for name in ("evaluate", "calib", "baseline_model", "recipe")))
    _refuse_foreign(options["markdown"], options["junit"], [source for source in sources if source is not None])
    given = Example(data=(options["calib"], options["evaluate"]))
    screen = Screen(options["quiet"])
    try:
        with model_file(model, given, None, write=False) as file:
            report = gate(
                file.path,
                baseline,
                eval=file.data.get("evaluate", options["evaluate"]),
                calib=file.data.get("calib", options["calib"]),
                metric=options["metric"],
                decode=options["decode"],
                labels=options["labels"],
                recipe=options["recipe"],
                trust=options["trust"],
                limits=_limits(options),
                backend=options["backend"],
                threads=options["threads"],
                work=options["work"],
                progress=screen,
                baseline_model=options["baseline_model"],
            )
    finally:
        screen.close()
    _write(report, options["markdown"], options["junit"])
    _say(report, as_json=options["as_json"], annotations=options["annotations"])
    click.get_current_context().exit(report.exit_code)


def _limits(options: Mapping[str, Any]) -> Limits:
    from autoprec.gate.limits import Limits

    kind, size = options["max_size"]
    return Limits(
        max_drop=options["max_drop"],
        max_slowdown=options["max_slowdown"],
        max_size=size if kind == "share" else None,
        max_bytes=int(size) if kind == "bytes" else None,
        max_range_bits=options["max_range_bits"],
        latency_required=options["require_latency"],
    )


def _refuse_missing(model: str, baseline: str, options: dict[str, Any]) -> None:
    """Refuse what files alone show to be wrong, before importing what takes a second and more."""
    from autoprec.files.functions import check_data_names, is_function_name
    from autoprec.files.onnx_message import refuse_no_onnx
    from autoprec.gate.baseline import load_baseline

    check_data_names(options["calib"], options["evaluate"])
    load_baseline(baseline)
    if not (Path(model).is_dir() or is_function_name(model)):
        refuse_no_onnx(Path(model))


def _refuse_foreign(markdown: str | None, junit: str | None, inputs: list[str]) -> None:
    """Refuse to write reports over what is read, or what is no report, before anything is measured."""
    from autoprec.files.forms import refuse_no_junit, refuse_no_text
    from autoprec.files.links import refuse_inputs

    for name, refuse in ((markdown, refuse_no_text), (junit, refuse_no_junit)):
        if name is not None:
            refuse_inputs(Path(name), inputs)
            refuse(Path(name))


def _write(report: GateReport, markdown: str | None, junit: str | None) -> None:
    from autoprec.files.json import write_bytes
    from autoprec.gate.surfaces import to_junit, to_markdown

    if markdown is not None:
        path = Path(markdown)
        before = path.read_bytes() if path.is_file() else b""  # a job summary collects what all steps say
        write_bytes(path, before + to_markdown(report).encode() + b"\n")
    if junit is not None:
        write_bytes(Path(junit), to_junit(report).encode())


def _say(report: GateReport, *, as_json: bool, annotations: bool | None) -> None:
    from autoprec.gate.surfaces import to_annotations, to_record, to_text

    if as_json:
        print_json(to_record(report))
    else:
        click.echo(to_text(report))
    if annotations if annotations is not None else os.environ.get("GITHUB_ACTIONS") == "true":
        for line in to_annotations(report):
            click.echo(line, err=as_json)  # JSON stays one document
