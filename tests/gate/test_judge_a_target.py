"""A plan for a GPU that is not here: the gate builds for the same target, ahead of time too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import autoprec
from autoprec.gate.judge import gate, record_baseline
from autoprec.gate.verdict import Status
from autoprec.testing import tiny_data, tiny_model

from ..helpers.spoilt_models import scale_weight
from .conftest import check

pytest.importorskip("tensorrt_rtx", reason="needs TensorRT-RTX, whose builder needs no GPU")


def test_a_baseline_of_another_gpu_is_judged_by_engines_built_for_it(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    np.savez(tmp_path / "eval.npz", **tiny_data(model, 400, seed=1))
    result = autoprec.search(
        model,
        eval=tmp_path / "eval.npz",
        max_drop=0.2,
        trials=2,
        backend="tensorrt-rtx",
        targets=("sm89",),
        out=tmp_path / "run",
    )
    baseline = record_baseline(result.save(), tmp_path / "baseline.json")
    other = tmp_path / "retrained.onnx"
    proto = onnx.load(model)
    scale_weight(proto, "conv3.weight", 1.01)
    onnx.save(proto, other)

    same, retrained = gate(model, baseline), gate(other, baseline)

    for report in (same, retrained):
        assert check(report, "precision").status is Status.FINE
        assert check(report, "latency").status is Status.FINE
        assert not any("hardware" in words for words in report.changes)
    assert check(retrained, "latency").sentence.startswith("1.000 of the baseline's latency in")
