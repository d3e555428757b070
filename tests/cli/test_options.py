"""Options that several verbs share: bounds in percentage points, groups in the help, completion, verbosity."""

from __future__ import annotations

import click
import pytest
from click.shell_completion import ShellComplete

from autoprec.cli import VERBS, main
from autoprec.cli.options import DropBound, PointsBound
from autoprec.errors import UsageError
from autoprec.metrics.bounds import bound_text, refuse_points
from autoprec.metrics.metric import load_metric

CONTEXT = click.Context(main)


@pytest.mark.parametrize(("text", "bound"), [("0.5%", 0.005), ("0.5pt", 0.005), ("0.5 pp", 0.005), (".5 %", 0.005)])
def test_a_bound_in_points_is_a_hundredth_of_the_number(text: str, bound: float) -> None:
    found = DropBound().convert(text, None, None)

    assert found == pytest.approx(bound)
    assert isinstance(found, PointsBound)


@pytest.mark.parametrize(("text", "bound"), [("0.5", 0.5), ("1e-3", 0.001), ("inf", float("inf")), ("-0.1", -0.1)])
def test_a_plain_bound_is_taken_as_it_is(text: str, bound: float) -> None:
    found = DropBound().convert(text, None, None)

    assert found == bound
    assert not isinstance(found, PointsBound)


@pytest.mark.parametrize("text", ["half", "0.5points", "%", "1%%"])
def test_what_is_no_bound_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="percentage points"):
        DropBound().convert(text, None, None)


def test_points_are_refused_for_a_metric_that_is_no_share() -> None:
    refuse_points(load_metric("top1"))
    refuse_points(load_metric("recall@5"))
    for name in ("kl", "sqnr", "psnr"):
        with pytest.raises(UsageError, match="percentage points"):
            refuse_points(load_metric(name))


def test_a_bound_is_said_in_words() -> None:
    assert bound_text("top1", 0.005) == "top1 may drop by at most 0.005 (0.5 percentage points)"
    assert bound_text("kl", 0.005) == "kl may drop by at most 0.005"
    assert bound_text("top1", float("inf")) == "top1 may drop by any amount"


def test_the_options_of_tune_are_in_groups_and_none_is_lost() -> None:
    command = main.get_command(CONTEXT, "tune")
    assert command is not None
    text = command.get_help(click.Context(command, info_name="tune"))

    headings = ["Data and metric:", "Goal:", "Precisions and runtime:", "Search:", "Output:", "Other options:"]
    assert [text.index(heading) for heading in headings] == sorted(text.index(heading) for heading in headings)
    assert all(option in text for p in command.params if isinstance(p, click.Option) for option in p.opts)
    assert text.count("--") - text.count("Other options") > len(command.params)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_can_be_quiet_and_verbose(verb: str) -> None:
    command = main.get_command(CONTEXT, verb)

    assert command is not None
    assert {"--quiet", "--verbose"} <= {option for p in command.params for option in p.opts}


@pytest.mark.parametrize(
    ("option", "begun", "expected"),
    [
        ("--backend", "tensorrt", ["tensorrt", "tensorrt-rtx"]),
        ("--metric", "top", ["top1"]),
        ("--recipe", "def", ["default"]),
        ("--space", "tensor", ["tensorrt", "tensorrt-fp8"]),
        ("--objective", "thr", ["throughput"]),
        ("--decode", "yolov", ["yolov5", "yolov8"]),
        ("--task", "text-c", ["text-classification"]),
        ("--track", "wandb", ["wandb:offline", "wandb:online"]),
    ],
)
def test_names_are_completed(option: str, begun: str, expected: list[str]) -> None:
    completion = ShellComplete(main, {}, "autoprec", "_AUTOPREC_COMPLETE")

    found = [item.value for item in completion.get_completions(["tune", "m.onnx", option], begun)]

    assert set(expected) <= set(found)


@pytest.mark.parametrize(
    "words",
    [["tune"], ["tune", "m.onnx", "--calib"], ["report"], ["gate", "--baseline"], ["front", "-o"], ["bench"]],
)
def test_files_are_completed_where_a_file_or_a_folder_is_meant(words: list[str]) -> None:
    completion = ShellComplete(main, {}, "autoprec", "_AUTOPREC_COMPLETE")

    assert [item.type for item in completion.get_completions(words, "some")] == ["file"]


@pytest.mark.parametrize("verb", ["units", "gate", "build", "diagnose"])
def test_backends_are_completed_for_every_verb_that_takes_one(verb: str) -> None:
    completion = ShellComplete(main, {}, "autoprec", "_AUTOPREC_COMPLETE")

    assert [item.value for item in completion.get_completions([verb, "--backend"], "ort")] == ["ort-cpu"]
