"""The helpers that are offered to users' tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.backends.scheme import ORT_CPU
from autoprec.graph.model import to_bytes
from autoprec.precision import Precision
from autoprec.proof.inspect import time_profile_of
from autoprec.testing import FakeBackend, tiny_data, tiny_model

from ..helpers.lowering_bench import bench


def latency(backend: FakeBackend, model: Path) -> list[float]:
    with backend.build(model.read_bytes()) as engine:
        return engine.time_ms({}, 3)


def test_the_clock_adds_up_the_costs_of_nodes(tmp_path: Path) -> None:
    costs = {"Conv": (2.0, 1.0), "conv2": (5.0, 1.0), "Gemm": (1.0, 1.0), "": (0.25, 0.25)}

    assert latency(FakeBackend(costs), tiny_model(tmp_path)) == [pytest.approx(2 + 5 + 2 + 1 + 5 * 0.25)] * 3


def test_profiles_put_pairs_on_the_boundaries_of_units(tmp_path: Path) -> None:
    """All that the clock adds up is there: in a unit, between two, or listed."""
    backend = FakeBackend({"conv2": (5.0, 1.0), "QuantizeLinear": (0.3, 0.3)})
    one = bench("resnet_block", ORT_CPU, Precision.FP32)
    model = to_bytes(one.lower(one.uniform(Precision.INT8, conv1=Precision.FP32)).ir)
    found = time_profile_of(one.partition, backend, model, {})
    with backend.build(model) as engine:
        (whole,) = engine.time_ms({}, 1)

    assert found.boundary_ms["conv1", "conv2"] > 0.3
    assert found.boundary_ms["stem", "conv1"] > 0
    assert found.unit_ms["conv2"] >= 1.0
    assert found.total_ms == pytest.approx(whole)


def test_jitter_is_bounded_and_reproducible(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    steady = latency(FakeBackend(), model)[0]
    first, again = (latency(FakeBackend(jitter=0.1, seed=4), model) for _ in range(2))

    assert first == again != latency(FakeBackend(jitter=0.1, seed=5), model)
    assert all(steady <= value <= 1.1 * steady for value in first)
    assert len(set(first)) == 3


def test_models_and_data_are_reproducible(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)

    onnx.checker.check_model(onnx.load(model), full_check=True)
    assert model.read_bytes() == tiny_model(tmp_path / "again").read_bytes()
    assert model.read_bytes() != tiny_model(tmp_path, seed=1, name="other.onnx").read_bytes()
    assert model.stat().st_size < 100_000
    assert (tiny_data(model, 5)["x"] == tiny_data(model, 5)["x"]).all()


def test_labels_are_the_models_own_answers(tmp_path: Path) -> None:
    model = tiny_model(tmp_path)
    data = tiny_data(model, 50)
    with OrtBackend(threads=1).build(model.read_bytes()) as engine:
        scores = engine.run({"x": data["x"]})["scores"]

    assert (scores.argmax(axis=1) == data["labels"]).all()
    assert len(np.unique(data["labels"])) > 3
