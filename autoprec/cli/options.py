"""Options that several verbs share."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

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
        help="top1, agreement, kl, cosine or sqnr; over all samples map, map50, miou, f1, macro-accuracy, recall@K, "
        "perplexity, loglik, wer, cer, edit-similarity, psnr, pearson or spearman; or module:name, a function or an "
        "object with update and compute.  [default: top1 with labels, else agreement]",
    ),
    click.option(
        "--direction",
        type=click.Choice(["higher", "lower"]),
        help="Which is better, for a module:function that does not say it.",
    ),
    click.option(
        "--decode",
        metavar="NAME",
        help="How outputs are read for the metric: yolox, yolov5, yolov8, ssd, detr, rtdetr or detections for boxes; "
        "ctc or tokens for texts; or module:function.",
    ),
    click.option("--labels", metavar="PATH", help="True boxes of --eval: a COCO file, or a folder of YOLO text files."),
    click.option(
        "--recipe",
        default="default",
        show_default=True,
        metavar="NAME|FILE",
        help="Calibration recipe.",
    ),
)
_MODEL = (
    click.option(
        "--space",
        metavar="NAME|FILE",
        help="Search space: which precisions may be chosen.  [default: by backend]",
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


_PLACE = (
    click.option(
        "--storage",
        metavar="URL|PATH",
        envvar="AUTOPREC_STORAGE",
        show_envvar=True,
        help="Where the study is kept for workers: postgresql://..., grpc://HOST:PORT or a journal file.  "
        "[default: a journal in the run directory]",
    ),
    click.option(
        "--device", type=click.IntRange(0), metavar="N", help="Use only this GPU, counted as nvidia-smi does."
    ),
    click.option("--cores", metavar="LIST", help="Use only these cores of the CPU, such as 0-3,8."),
)

trust_option = click.option(
    "--trust",
    multiple=True,
    metavar="FILE",
    help="Let this baseline or run name functions, paths and databases, as your own would; may be repeated.",
)

_NUMBER = r"(\d+(?:\.\d*)?|\.\d+)"


if TYPE_CHECKING:
    _Bound = click.ParamType[float]
else:
    _Bound = click.ParamType  # generic in newer releases of click only


class PointsBound(float):
    """A bound on a drop that was given in per cent or in percentage points."""


class DropBound(_Bound):
    """A bound on a drop: a number in the unit of the metric, or 0.5% or 0.5pt of a metric that is a share."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The bound as a number in the unit of the metric."""
        if isinstance(value, float):
            return value
        text = str(value).strip().lower()
        number = re.sub(r"\s*(%|pt|pp)$", "", text)
        try:
            return float(text) if number == text else PointsBound(float(number) / 100)
        except ValueError:
            self.fail(
                f"must be a number such as 0.005, or percentage points such as 0.5% or 0.5pt, got {value!r}", param, ctx
            )


class ObjectiveChoice(click.Choice):  # type: ignore[type-arg, unused-ignore]
    """An objective, and perhaps the situation that it is meant for: latency:decode."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text, of which the part before a colon is one of the objectives."""
        objective, colon, situation = str(value).partition(":")
        return f"{super().convert(objective, param, ctx)}{colon}{situation}"


def latency_limit(_context: click.Context, _parameter: click.Parameter, text: str | None) -> dict[str, float]:
    """{"max_ratio": 0.5} of 0.5, 0.5x or 50%, {"max_ms": 5.0} of 5ms.

    Raises:
        BadParameter: it is neither, or a bare number above 1, which may be meant as milliseconds.
    """
    if text is None:
        return {}
    found = re.fullmatch(rf"{_NUMBER}\s*(%|x|ms|)", text.strip().lower())
    if found is None:
        raise click.BadParameter(f"must be a share of FP32's latency such as 0.5 or 50%, or 5ms, got {text!r}")
    value = float(found[1])
    if found[2] == "ms":
        return {"max_ms": value}
    if not found[2] and value > 1:
        raise click.BadParameter(f"must say what {text} is: {text}ms for milliseconds, {text}x for times FP32's")
    return {"max_ratio": value / (100 if found[2] == "%" else 1)}


def data_options(command: Command) -> Command:
    """--calib, --eval, --metric, --direction, --decode, --labels, --recipe."""
    return _apply(command, _DATA)


def model_options(command: Command) -> Command:
    """--space, --backend, --pin, --threads, --batch, --seed."""
    return _apply(command, _MODEL)


def place_options(command: Command) -> Command:
    """--storage, --device, --cores."""
    return _apply(command, _PLACE)


def target_list(text: str) -> tuple[str, ...]:
    """The compute capabilities of "sm89,sm120"."""
    return tuple(part.strip().lower() for part in text.split(",") if part.strip())


def _apply(command: Command, options: tuple[Any, ...]) -> Command:
    for option in reversed(options):
        command = option(command)
    return command
