"""The pytest plugin with nothing replaced: a tuned model, its baseline, and gates that measure."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import autoprec
from autoprec.gate.judge import record_baseline
from autoprec.testing import tiny_data, tiny_model

from ..helpers.spoilt_models import turn_classes_of

pytest_plugins = ["pytester"]


@pytest.fixture(name="tuned", scope="module")
def _tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny.onnx, its data and its baseline."""
    folder = tmp_path_factory.mktemp("tuned")
    model = tiny_model(folder)
    for name, seed in (("eval", 0), ("calib", 1)):
        np.savez(folder / f"{name}.npz", **tiny_data(model, 300, seed=seed))
    result = autoprec.search(
        model, calib=folder / "calib.npz", eval=folder / "eval.npz", max_drop=0.5, trials=2, out=folder / "run"
    )
    record_baseline(result.save(), folder / "baseline.json")
    return folder


@pytest.fixture(name="team")
def _team(pytester: pytest.Pytester, tuned: Path) -> pytest.Pytester:
    """A project with that model, and a test whose bound on latency no noise reaches."""
    for name in ("tiny.onnx", "baseline.json", "eval.npz", "calib.npz"):
        shutil.copy(tuned / name, pytester.path)
    pytester.makepyfile(
        """
        def test_precision(autoprec_gate):
            autoprec_gate(
                "tiny.onnx", baseline="baseline.json", eval="eval.npz", calib="calib.npz", max_slowdown=9.0
            )
        """
    )
    return pytester


def test_an_unchanged_model_passes(team: pytest.Pytester) -> None:
    result = team.runpytest("-W", "error")

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["test_an_*::test_precision: fine: accuracy, precision, latency, size, ranges"])


def test_a_spoilt_model_fails_until_the_baseline_is_rewritten(team: pytest.Pytester) -> None:
    baseline = team.path / "baseline.json"
    committed = baseline.read_bytes()
    turn_classes_of(team.path / "tiny.onnx")
    failed = team.runpytest("-n", "1")

    failed.assert_outcomes(failed=1)
    failed.stdout.fnmatch_lines(["worse than allowed: accuracy (*", "accuracy * worse than *"])
    assert baseline.read_bytes() == committed

    rewritten = team.runpytest("--autoprec-update")
    rewritten.assert_outcomes(passed=1)
    rewritten.stdout.fnmatch_lines(["*: rewrote baseline.json; review and commit it", "*: fine: accuracy, *"])
    assert baseline.read_bytes() != committed

    team.runpytest().assert_outcomes(passed=1)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00", b"[" * 100_000])
def test_a_baseline_that_cannot_be_read_never_passes(team: pytest.Pytester, content: bytes) -> None:
    (team.path / "baseline.json").write_bytes(content)
    result = team.runpytest("--autoprec-cannot-judge=skip")

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["autoprec: *baseline.json*"])


def test_a_cut_baseline_is_not_rewritten_from_what_is_left(team: pytest.Pytester) -> None:
    baseline = team.path / "baseline.json"
    half = baseline.read_bytes()[: baseline.stat().st_size // 2]
    baseline.write_bytes(half)

    team.runpytest("--autoprec-update").assert_outcomes(failed=1)
    assert baseline.read_bytes() == half
