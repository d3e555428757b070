"""autoprec diagnose: where the error is, unit by unit along the network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from autoprec.cli.options import trust_option
from autoprec.cli.screen import Screen, print_json


@click.command("diagnose")
@click.argument("run")
@click.option("--point", type=click.IntRange(0), metavar="N", help="A measured plan of the run.  [default: its answer]")
@click.option("--plan", metavar="FILE", help="The plan of a model or engine.  [default: plan.json beside it]")
@click.option("--model", metavar="FILE", help="Where the model is now.  [default: where the run found it]")
@click.option("--eval", "evaluate", metavar="DATA", help="Samples to compare on.  [default: those of the run]")
@click.option("--samples", type=click.IntRange(1), default=64, show_default=True, help="The most samples.")
@click.option(
    "--backend",
    metavar="NAME",
    help="The runtime to look into: ort-cpu, tensorrt or tensorrt-rtx.  [default: the plan's]",
)
@click.option("--threads", type=click.IntRange(1), help="Threads of the CPU.  [default: all]")
@click.option("--all", "everything", is_flag=True, help="Print all units of a long network.")
@trust_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--quiet", is_flag=True, help="No progress.")
def command(run: str, *, everything: bool, as_json: bool, quiet: bool, **options: Any) -> None:
    """Show where the error of a plan, and that of the runtime, comes into the network.

    RUN is a run directory, a plan.json, or the model or engine that was written by a plan. For each unit, three things
    are compared on a few samples: FP32, the plan in exact arithmetic, and what the runtime computes. The first unit at
    which the runtime and exact arithmetic part is named. Nothing is timed.

    Values are seen in unfused debug tensors where the runtime has them (TensorRT 10.12, TensorRT-RTX 1.7 and newer).
    Else they are further outputs, codes where they are quantised, so that 8-bit kernels stay as they are; what changes
    nevertheless is said. A run directory keeps the result for `autoprec report`.
    """
    from autoprec.files.functions import check_data_names

    check_data_names(options["evaluate"], None)
    paths = {name: None if options[name] is None else Path(options[name]) for name in ("plan", "model")}
    from autoprec.front.question import Question, refuse_question

    question = Question(subject=Path(run), **{**options, **paths})
    refuse_question(question)  # before importing what takes a second
    from autoprec.cli.text.diagnose import print_diagnosis
    from autoprec.front.diagnose import diagnose_run

    screen = Screen(quiet or as_json)
    try:
        screen.stage("diagnosis", f"FP32, exact arithmetic and the runtime on at most {question.samples} samples")
        found = diagnose_run(question, screen.advance)
    finally:
        screen.close()
    if as_json:
        print_json(found.to_record())
    else:
        print_diagnosis(found, everything)
