"""A tiny model with data in a folder of its own, and the command line run on it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from autoprec.cli import main
from autoprec.errors import EXIT_OK
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
