"""A module goes in with a DataLoader, and a plan that is called as the module comes out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.utils.data import DataLoader, TensorDataset

import autoprec
from autoprec import SearchResult
from autoprec.cli import main
from autoprec.errors import UsageError

from ..helpers.torch_networks import Cnn, made, noise

BUILD = """
import torch
from torch import nn

def build():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), torch.zeros(1, 4)

def data():
    yield torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
"""


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def loader(module: Any, count: int = 120) -> DataLoader[Any]:
    x = noise(count, 3, 8, 8)
    with torch.no_grad():
        labels = module.eval()(x).argmax(1)
    return DataLoader(TensorDataset(x, labels), batch_size=7, shuffle=True)


@pytest.fixture(name="tuned", scope="module")
def _tuned(tmp_path_factory: pytest.TempPathFactory) -> SearchResult:
    """A module that was tuned with INT8 in all units but one, and saved."""
    module = made(Cnn)
    out = tmp_path_factory.mktemp("tuned") / "run"
    result = autoprec.search(
        module,
        calib=loader(module),
        metric="top1",
        max_drop=1.0,
        pins=["body.*=int8", "stem=int8", "head=fp32"],
        trials=2,
        batch=4,
        threads=1,
        out=out,
    )
    result.save()
    return result


def test_the_plan_is_called_as_the_module(tuned: SearchResult) -> None:
    module, x = made(Cnn).eval(), noise(16, 3, 8, 8)

    plan = tuned.module(threads=1)
    with torch.no_grad():
        difference = (plan(x) - module(x)).abs().max()

    assert plan(x).shape == (16, 10)
    assert next(plan.parameters()).device.type == "cpu"
    assert torch.equal(plan(x), torch.from_numpy(tuned.session(1).run(None, {"x": x.numpy()})[0]))
    assert 0 < difference < 0.3


def test_the_run_directory_gives_the_same(tuned: SearchResult) -> None:
    x = noise(5, 3, 8, 8)

    saved = autoprec.load(tuned.directory)

    assert torch.equal(saved.module(threads=1)(x=x), tuned.module(threads=1)(x))
    assert saved.plan.precisions() == tuned.plan.precisions()
    assert (saved.feasible, saved.reason) == (tuned.feasible, tuned.reason)
    assert saved.plan_and_model() == (tuned.directory / "plan.json", tuned.directory / "exported.onnx")


def test_the_same_module_continues_its_run(tuned: SearchResult) -> None:
    """The exported model, and the data of a loader that shuffles, are the same: nothing is measured again."""
    before = {name: os.stat(tuned.directory / name).st_mtime_ns for name in ("exported.onnx", "ranges.json")}
    module = made(Cnn).train()

    again = autoprec.search(
        module,
        calib=loader(module.train()),
        metric="top1",
        max_drop=1.0,
        pins=["body.*=int8", "stem=int8", "head=fp32"],
        trials=2,
        batch=4,
        threads=1,
        out=tuned.directory,
    )

    assert before == {name: os.stat(tuned.directory / name).st_mtime_ns for name in before}
    assert {tuple(t.plan.items()) for t in again.trials} == {tuple(t.plan.items()) for t in tuned.trials}


def test_a_module_needs_an_example(tmp_path: Path) -> None:
    data = tmp_path / "data.npz"
    np.savez(data, x=np.zeros((4, 3, 8, 8), np.float32))
    with pytest.raises(UsageError, match="give example_inputs"):
        autoprec.search(made(Cnn), calib=str(data), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_command_line_takes_a_function_that_makes_the_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "built_here.py").write_text(BUILD)

    done = CliRunner().invoke(
        main, ["tune", "built_here:build", "--calib", "built_here:data", "--threads", "1", "--dry-run"]
    )

    assert done.exit_code == 0, done.output
    assert "0" in done.output
    assert not (tmp_path / "autoprec-runs").exists()
