"""FP32's outputs are computed once for each sample of a network that costs much, and never mixed up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from autoprec.data.dataset import Dataset
from autoprec.graph.interface import Interface, TensorSpec
from autoprec.metrics.evaluator import Evaluator
from autoprec.metrics.metric import load_metric
from autoprec.metrics.remembered_outputs import DEAR_MACS, RememberedOutputs, RememberingEngine, outputs_worth_keeping
from autoprec.precision import Array

SPEC = TensorSpec(name="x", dtype=np.dtype(np.float32), shape=("n", 3))
INTERFACE = Interface(
    inputs=(SPEC,), outputs=(replace(SPEC, name="y", shape=("n", 5)), replace(SPEC, name="z", shape=("n",)))
)
X = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)


class Counting:
    """Computes two outputs, and counts the samples that it was asked for."""

    def __init__(self) -> None:
        self.samples = 0

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Output name -> array."""
        x = feed["x"]
        self.samples += len(x)
        return {"y": np.tile(x.sum(axis=1, keepdims=True), 5) * np.arange(5, dtype=np.float32), "z": x.max(axis=1)}


def test_samples_seen_before_are_not_computed_again_in_any_order_or_batch() -> None:
    engine, memory = Counting(), RememberedOutputs(INTERFACE)
    remembering = RememberingEngine(memory, engine)
    for first in range(0, 12, 4):
        remembering.run({"x": X[first : first + 4]})
    order = [7, 0, 11, 3, 3]
    again = remembering.run({"x": X[order]})
    assert engine.samples == 12
    exact = Counting().run({"x": X[order]})
    assert all(np.array_equal(again[name], exact[name]) for name in ("y", "z"))


def test_a_batch_with_one_unknown_sample_is_computed() -> None:
    engine, memory = Counting(), RememberedOutputs(INTERFACE)
    RememberingEngine(memory, engine).run({"x": X[:4]})
    found = RememberingEngine(memory, engine).run({"x": X[2:6]})
    assert np.array_equal(found["z"], X[2:6].max(axis=1))
    assert engine.samples == 8


def test_outputs_that_are_not_by_sample_are_not_kept() -> None:
    memory = RememberedOutputs(INTERFACE)
    memory.add(memory.keys({"x": X[:2]}), {"y": np.zeros((7, 5), np.float32), "z": np.zeros(2, np.float32)})
    assert memory.find(memory.keys({"x": X[:2]})) is None


@pytest.mark.parametrize(
    ("interface", "macs", "kept"),
    [
        (INTERFACE, DEAR_MACS, True),
        (INTERFACE, DEAR_MACS - 1, False),
        (replace(INTERFACE, outputs=(replace(SPEC, sample_axis=1),)), DEAR_MACS, False),
        (replace(INTERFACE, inputs=(replace(SPEC, sample_axis=None),)), DEAR_MACS, False),
        (replace(INTERFACE, inputs=(replace(SPEC, shape=(4, 3)),)), DEAR_MACS, False),
    ],
)
def test_outputs_are_kept_of_dear_networks_whose_samples_lie_on_the_first_axis(
    interface: Interface, macs: int, kept: bool
) -> None:
    assert (outputs_worth_keeping(interface, macs) is not None) is kept


def test_an_evaluator_compares_with_remembered_outputs_as_with_computed_ones() -> None:
    data, metric = Dataset.from_arrays({"x": X}, np.arange(12) % 5), load_metric("top1")

    class Worse(Counting):
        def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
            found = super().run(feed)
            return {**found, "y": np.roll(found["y"], 1, axis=1) + 0.1}

    engine = Counting()
    remembering = RememberingEngine(RememberedOutputs(INTERFACE), engine)
    first = Evaluator.against(remembering, data, INTERFACE, metric, 4)
    second = Evaluator.against(Counting(), data, INTERFACE, metric, 4)
    found, wanted = first.evaluate(Worse()), second.evaluate(Worse())
    assert engine.samples == 12
    assert np.array_equal(found.scores, wanted.scores)
    assert (found.noise, found.kl) == (wanted.noise, wanted.kl)
