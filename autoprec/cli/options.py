"""Options that several verbs share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

_DATA = (
    click.option(
        "--calib", metavar="DATA", help="Calibration data: .npz, folder, or module:function. Labels are not used."
    ),
    click.option(
        "--eval",
        "evaluate",
        metavar="DATA",
        help="Data to judge plans by, labelled or not; without it --calib is split.",
    ),
    click.option(
        "--metric",
        metavar="NAME",
        help="top1, agreement, kl, cosine, sqnr, or module:function.  [default: top1 with labels, else agreement]",
    ),
    click.option(
        "--direction",
        type=click.Choice(["higher", "lower"]),
        help="Which is better, for a module:function that does not say it.",
    ),
    click.option("--recipe", default="default", show_default=True, metavar="NAME|FILE", help="Calibration recipe."),
)
_MODEL = (
    click.option(
        "--space", metavar="NAME|FILE", help="Search space: which precisions may be chosen.  [default: by backend]"
    ),
    click.option(
        "--backend",
        default="ort-cpu",
        show_default=True,
        metavar="NAME",
        help="The runtime that is measured: ort-cpu, tensorrt or tensorrt-rtx.",
    ),
    click.option(
        "--pin", "pins", multiple=True, metavar="REGEX=PRECISION", help="Fix the precision of units; may be repeated."
    ),
    click.option(
        "--target",
        "targets",
        default="",
        metavar="SM[,SM]",
        help="Build for these GPUs ahead of time, such as sm89,sm120 (tensorrt-rtx); latency is modelled.",
    ),
    click.option("--threads", type=click.IntRange(1), help="Threads of the CPU.  [default: all]"),
    click.option("--batch", type=click.IntRange(1), default=16, show_default=True, help="Samples in each timed run."),
    click.option("--seed", type=int, default=0, show_default=True, help="Of data splits and samplers."),
)


def data_options(command: Command) -> Command:
    """--calib, --eval, --metric, --direction, --recipe."""
    return _apply(command, _DATA)


def model_options(command: Command) -> Command:
    """--space, --backend, --pin, --threads, --batch, --seed."""
    return _apply(command, _MODEL)


def target_list(text: str) -> tuple[str, ...]:
    """The compute capabilities of "sm89,sm120"."""
    return tuple(part.strip().lower() for part in text.split(",") if part.strip())


def _apply(command: Command, options: tuple[Any, ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
