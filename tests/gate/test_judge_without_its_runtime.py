"""A baseline of a GPU on a runner without one: everything but latency and proof of precisions is judged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import autoprec
from autoprec.backends.protocol import Clock
from autoprec.backends.scheme import TENSORRT
from autoprec.errors import BackendError, UsageError
from autoprec.gate.baseline import load_baseline
from autoprec.gate.judge import Limits, gate, record_baseline, update_baseline
from autoprec.gate.verdict import Status
from autoprec.testing import FakeBackend, tiny_data, tiny_model

from ..helpers.spoilt_models import scale_weight, turn_classes
from .conftest import check


class Gpu(FakeBackend):
    """A runtime called tensorrt, which this machine does not have, with TensorRT's scheme and plans."""

    name = "tensorrt"
    scheme = TENSORRT
    portable = False
    builds_quickly = False
    clock = Clock("measured", "a GPU")


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpu")
    model = tiny_model(folder)
    np.savez(folder / "eval.npz", **tiny_data(model, 400, seed=1))
    np.savez(folder / "calib.npz", **tiny_data(model, 32, seed=2))
    result = autoprec.search(
        model,
        calib=folder / "calib.npz",
        eval=folder / "eval.npz",
        max_drop=0.5,
        trials=2,
        backend=Gpu(),
        out=folder / "run",
    )
    record_baseline(result.save(), folder / "baseline.json")
    return folder


@pytest.fixture(autouse=True)
def _no_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this machine has, it has no TensorRT."""

    def absent(name: str, *_: object) -> None:
        raise BackendError(f"{name} is not installed")

    monkeypatch.setattr("autoprec.backends.tensorrt.backend.TensorRtBackend", absent)


def test_accuracy_ranges_and_size_are_judged_without_the_gpu(folder: Path) -> None:
    report = gate(folder / "tiny.onnx", folder / "baseline.json")
    found = {c.name: c.status for c in report.checks}

    assert found == {
        "accuracy": Status.FINE,
        "precision": Status.SKIPPED,
        "latency": Status.SKIPPED,
        "size": Status.FINE,
        "ranges": Status.FINE,
    }
    assert report.exit_code == 0
    assert check(report, "latency").sentence == "cannot judge here: tensorrt is not installed"
    assert check(report, "accuracy").details[-1] == (
        "judged in exact arithmetic, since the plan's runtime does not work here"
    )


def test_exact_arithmetic_is_compared_with_exact_arithmetic(folder: Path) -> None:
    assert load_baseline(folder / "baseline.json").evidence.samples.exact is not None
    assert check(gate(folder / "tiny.onnx", folder / "baseline.json"), "accuracy").change.startswith("+0.0000")


def test_latency_that_was_asked_for_does_not_pass(folder: Path) -> None:
    report = gate(folder / "tiny.onnx", folder / "baseline.json", limits=Limits(latency_required=True))

    assert check(report, "latency").status is Status.CANNOT_JUDGE
    assert report.exit_code == 3


def test_what_regresses_fails_without_the_gpu(folder: Path, tmp_path: Path) -> None:
    proto = onnx.load(folder / "tiny.onnx")
    turn_classes(proto)
    scale_weight(proto, "conv1.weight", 8.0)
    onnx.save(proto, tmp_path / "worse.onnx")
    report = gate(tmp_path / "worse.onnx", folder / "baseline.json")

    assert report.exit_code == 1
    assert check(report, "accuracy").status is Status.WORSE
    assert check(report, "ranges").status is Status.WORSE


def test_ort_cpu_may_be_asked_for(folder: Path) -> None:
    report = gate(folder / "tiny.onnx", folder / "baseline.json", backend="ort-cpu")
    assert check(report, "latency").sentence == "cannot judge here: the plan is for tensorrt, and ort-cpu was asked for"


def test_a_runtime_that_was_asked_for_must_be_there(folder: Path) -> None:
    with pytest.raises(BackendError, match="tensorrt is not installed"):
        gate(folder / "tiny.onnx", folder / "baseline.json", backend="tensorrt")


def test_a_runtime_for_other_plans_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"which fake cannot run; give --backend tensorrt, or ort-cpu"):
        gate(folder / "tiny.onnx", folder / "baseline.json", backend=FakeBackend())


def test_a_baseline_is_not_written_from_half_the_figures(folder: Path) -> None:
    before = (folder / "baseline.json").read_bytes()
    with pytest.raises(BackendError, match="a baseline must be measured by the plan's own runtime: tensorrt is not"):
        update_baseline(folder / "tiny.onnx", folder / "baseline.json")
    assert (folder / "baseline.json").read_bytes() == before


def test_with_the_runtime_its_own_scores_count(folder: Path) -> None:
    report = gate(folder / "tiny.onnx", folder / "baseline.json", backend=Gpu())
    assert check(report, "accuracy").status is Status.FINE
    assert check(report, "latency").status is Status.FINE
