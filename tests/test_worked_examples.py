"""The worked examples do what their pages say: notebooks and commands run as they are written."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from .helpers.notebooks import run_notebook, shown_by

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def copied(name: str, tmp_path: Path) -> Path:
    folder = tmp_path / name
    shutil.copytree(EXAMPLES / name, folder, ignore=shutil.ignore_patterns("runs", "autoprec-runs", "__pycache__"))
    return folder


def command_of(folder: Path) -> list[str]:
    """The `autoprec tune` of an example's page."""
    found = re.search(r"^(autoprec tune .*?)(?:\n[^ ]|\n```)", (folder / "README.md").read_text(), re.M | re.S)
    assert found
    return shlex.split(found[1].replace("\\\n", " "))


def tuned(folder: Path, *more: str) -> dict[str, Any]:
    """What the command prints as JSON."""
    command = [sys.executable, "-m", *command_of(folder), "--json", "--quiet", "--no-report", *more]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout)
    return record


def numbers(text: str, pattern: str) -> list[float]:
    return [float(number) for number in re.findall(pattern, text)]


@pytest.mark.slow
@pytest.mark.parametrize(("example", "score"), [("speech_vowels", "CER"), ("shapes_detector", "mAP")])
def test_a_notebook_runs_and_finds_what_it_was_saved_with(example: str, score: str, tmp_path: Path) -> None:
    """Its page's command then goes on from what the notebook measured."""
    folder = copied(example, tmp_path)
    (notebook,) = folder.glob("*.ipynb")

    cells, saved = run_notebook(notebook), shown_by(notebook)
    of_fp32 = [re.findall(rf"uniform fp32 +{score} ([\d.]+)", "".join(texts)) for texts in (cells, saved)]

    assert [bool(text) for text in cells] == [bool(text) for text in saved]
    assert of_fp32[0] == of_fp32[1] != []
    assert tuned(folder, "--dry-run")["metric"] == score.lower()


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("transformers"), reason="pip install '.[hf]'")
def test_a_folder_of_transformers_is_tuned_with_its_own_tokenizer(tmp_path: Path) -> None:
    record = tuned(copied("text_encoder", tmp_path), "--trials", "2")

    assert record["score_fp32"] > 0.9
    assert record["candidates"][record["chosen"]]["estimated_drop"]["estimate"] <= 0.01
