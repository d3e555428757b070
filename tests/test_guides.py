"""Every command in the README and in the guides is run, on a network of three layers; the rest is read as it would be.

A block that needs what is not here begins with a comment, `# needs ...`: its commands are parsed only. One tune is run
for all guides; wherever a guide tunes again, that command is run with --dry-run, which loads and checks everything, and
the run directory that it would make is a copy of the one run.
"""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from autoprec.cli import VERBS, main

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
PAGES = [ROOT / "README.md", *sorted(EXAMPLES.glob("*/README.md"))]
ELSEWHERE = {
    "ci": "test_ci_examples.py",
    "shapes_detector": "test_worked_examples.py",
    "speech_vowels": "test_worked_examples.py",
    "text_encoder": "test_worked_examples.py",
    "torch_classifier": "test_torch_example.py",
}
"""Guides whose commands other tests run, since they need more than this one has."""
NEEDS = re.compile(r"# needs \w+")
PLACEHOLDER = "..."


@dataclass(frozen=True)
class Command:
    """One command of a page.

    Attributes:
        page: the page, from the root of the checkout.
        words: the command as a shell splits it.
        runs: whether it can be run here.
    """

    page: str
    words: tuple[str, ...]
    runs: bool

    def __str__(self) -> str:
        return f"{self.page}: {' '.join(self.words)}"


def commands(page: Path) -> Iterator[Command]:
    """The commands in the blocks of a page that have no language: lines that begin with a program."""
    name = page.relative_to(ROOT).as_posix()
    for language, block in re.findall(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.M | re.S):
        lines = [line.strip() for line in block.replace("\\\n", " ").splitlines()]
        if language in ("", "console") and any(re.match(r"(autoprec|cd|docker|pip|python)\b", line) for line in lines):
            runs = name.split("/")[-2:-1] != [""] and not NEEDS.match(lines[0])
            runs &= not any(name == f"examples/{folder}/README.md" for folder in ELSEWHERE)
            for line in lines:
                words = shlex.split(line, comments=True)
                if words:
                    yield Command(name, tuple(words), runs)


COMMANDS = [command for page in PAGES for command in commands(page)]
OURS = [command for command in COMMANDS if command.words[0] == "autoprec"]


@pytest.fixture(name="place", scope="module")
def _place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The examples, with a network in place of the digits model that is tuned in a second, and one run of it."""
    place = tmp_path_factory.mktemp("guides")
    ignored = shutil.ignore_patterns("*.onnx", "*.npz", "__pycache__", "runs", "autoprec-runs")
    shutil.copytree(EXAMPLES, place / "examples", ignore=ignored)
    digits = place / "examples" / "digits"
    onnx.save(_network(), digits / "digits.onnx")
    for name, count in (("calib", 32), ("eval", 64)):
        with np.load(EXAMPLES / "digits" / f"{name}.npz") as whole:
            np.savez(digits / f"{name}.npz", **{key: whole[key][:count] for key in whole.files})
    for name in ("calib.npz", "eval.npz"):
        shutil.copy(digits / name, place)
    shutil.copy(digits / "digits.onnx", place / "model.onnx")
    return place


def _network() -> onnx.ModelProto:
    random = np.random.default_rng(0)
    weights = {
        "w1": random.normal(size=(4, 1, 5, 5)) / 5,
        "b1": random.normal(size=4),
        "w2": random.normal(size=(6, 4, 3, 3)) / 6,
        "w3": random.normal(size=(6, 10)),
    }
    node = onnx.helper.make_node
    nodes = [
        node("Conv", ["image", "w1", "b1"], ["a"], name="first", strides=[3, 3]),
        node("Relu", ["a"], ["b"], name="relu"),
        node("Conv", ["b", "w2"], ["c"], name="second", strides=[2, 2]),
        node("GlobalAveragePool", ["c"], ["d"], name="pool"),
        node("Flatten", ["d"], ["e"], name="flatten"),
        node("Gemm", ["e", "w3"], ["logits"], name="head"),
    ]
    info = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes,
        "guide",
        [info("image", onnx.TensorProto.FLOAT, ["N", 1, 28, 28])],
        [info("logits", onnx.TensorProto.FLOAT, ["N", 10])],
        [onnx.numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def invoke(*words: str) -> str:
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    assert result.exit_code == 0, f"{' '.join(words)}\n{result.output}"
    return result.output


def test_every_guide_has_commands_that_are_looked_at() -> None:
    found = {command.page for command in OURS}

    assert {f"examples/{name}/README.md" for name in ("digits", "report", "metrics", "front", "workers")} <= found
    assert {command.words[1] for command in OURS if len(command.words) > 1} >= set(VERBS) - {"bench", "gate", "profile"}


@pytest.mark.parametrize("command", OURS, ids=str)
def test_the_command_line_understands_every_command(command: Command) -> None:
    words = [word for word in command.words[1:] if word not in (PLACEHOLDER, "&")]
    if words[0].startswith("-"):
        main.make_context("autoprec", words, resilient_parsing=True)
        return
    verb = main.get_command(click.Context(main), words[0])  # type: ignore[attr-defined]
    if "--track" in words:
        pytest.importorskip(words[words.index("--track") + 1].split(":")[0])

    assert verb is not None
    assert verb.make_context(words[0], words[1:])


def test_every_command_that_needs_nothing_else_runs(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One walk through all pages, as somebody who types all that they say."""
    digits = [
        "examples/digits/digits.onnx",
        "--calib",
        "examples/digits/calib.npz",
        "--eval",
        "examples/digits/eval.npz",
    ]
    monkeypatch.chdir(place)
    invoke("tune", *digits, "--max-drop", "0.5", "--trials", "5", "--out", "autoprec-runs/digits", "--quiet")
    for copy in ("autoprec-runs/model", "runs/digits", "other"):
        shutil.copytree("autoprec-runs/digits", copy)
    monkeypatch.syspath_prepend(str(place / "examples" / "digits"))
    for command in COMMANDS:
        if command.runs:
            _run(command, monkeypatch, place)


def _run(command: Command, monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    program, *words = command.words
    if program == "cd":
        monkeypatch.chdir(words[0])
    elif program == "python":
        monkeypatch.setattr("sys.argv", words)
        runpy.run_path(words[0], run_name="__main__")
    elif program == "autoprec" and PLACEHOLDER not in words:
        dry = ["--dry-run"] if words[0] == "tune" and "--dry-run" not in words else []
        invoke(*words, *dry)
        if Path.cwd() != place:  # the block that went there has ended
            monkeypatch.chdir(place)
