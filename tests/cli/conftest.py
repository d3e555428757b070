"""A tiny model with data in a folder of its own, and the command line run on it."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from autoprec.cli import main
from autoprec.errors import EXIT_OK, EXIT_USAGE
from autoprec.testing import tiny_data, tiny_model

Invoke = Callable[..., Result]


@pytest.fixture(name="work")
def _work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with tiny.onnx, data.npz (labelled), and nothing else."""
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "data.npz", **tiny_data(tiny_model(tmp_path), 48))
    return tmp_path


def tuned(folder: Path, *words: str) -> Path:
    """The folder with tiny.onnx, data.npz (labelled) and what `autoprec` with the given words wrote there."""
    np.savez(folder / "data.npz", **tiny_data(tiny_model(folder), 48))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = CliRunner().invoke(main, words, catch_exceptions=False)
    assert result.exit_code == EXIT_OK, result.output
    return folder


@pytest.fixture(name="invoke")
def _invoke(work: Path) -> Invoke:
    """Run `autoprec` with the given words in the folder `work`; errors that nobody expects come through."""

    def invoke(*words: str | os.PathLike[str]) -> Result:
        return CliRunner().invoke(main, [os.fspath(word) for word in words], catch_exceptions=False)

    return invoke


def listed(invoke: Invoke, *options: str, code: int = EXIT_OK) -> dict[str, Any]:
    """What `autoprec front run --json` prints with these options."""
    result = invoke("front", "run", "--json", *options)
    assert result.exit_code == code, result.output
    record: dict[str, Any] = json.loads(result.stdout)
    return record


def refused(result: Result, words: str) -> None:
    """The command ended with exit code 2 and one line on standard error, which holds `words`."""
    assert result.exit_code == EXIT_USAGE, result.output
    assert result.stdout == ""
    line = result.stderr.rstrip("\n")
    assert "\n" not in line, line
    assert line.startswith("autoprec: ")
    assert re.search(words, line), line


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def size_without_notes(model: Path) -> int:
    """The bytes of a written model without what its nodes say of the plan."""
    proto = onnx.load(model)
    for node in proto.graph.node:
        node.ClearField("metadata_props")
    return proto.ByteSize()
