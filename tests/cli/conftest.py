"""A tiny model with data in a folder of its own, and the command line run on it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from autoprec.cli import main
from autoprec.testing import tiny_data, tiny_model

Invoke = Callable[..., Result]


@pytest.fixture(name="work")
def _work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with tiny.onnx, data.npz (labelled), and nothing else."""
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "data.npz", **tiny_data(tiny_model(tmp_path), 48))
    return tmp_path


@pytest.fixture(name="invoke")
def _invoke(work: Path) -> Invoke:
    """Run `autoprec` with the given words in the folder `work`; errors that nobody expects come through."""

    def invoke(*words: str | os.PathLike[str]) -> Result:
        return CliRunner().invoke(main, [os.fspath(word) for word in words], catch_exceptions=False)

    return invoke
