"""Running models over data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import helper

from autoprec.backends.ort import OrtBackend
from autoprec.data.dataset import Dataset
from autoprec.errors import DataError, ModelError
from autoprec.graph.model import to_bytes
from autoprec.metrics.evaluator import Evaluator
from autoprec.metrics.metric import load_metric
from autoprec.metrics.running import run_dataset

from ..helpers.lowering_bench import loaded
from ..helpers.networks import WIDTH, mlp, random_feed
from ..helpers.onnx_builder import Builder

Array = npt.NDArray[Any]
BACKEND = OrtBackend(threads=1)


def fixed_batch(size: int) -> onnx.ModelProto:
    model = mlp()
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = size
    return model


def all_outputs(proto: onnx.ModelProto, feed: Mapping[str, Array], batch: int) -> Array:
    model = loaded(proto)
    with BACKEND.build(to_bytes(model.ir)) as engine:
        results = list(run_dataset(engine, Dataset.from_arrays(dict(feed)), model.interface, batch))
    return np.concatenate([outputs["fc2_out"] for _, outputs in results])


@pytest.mark.parametrize("batch", [1, 3, 10, 99])
def test_outputs_do_not_depend_on_the_batch_size(batch: int) -> None:
    feed = random_feed(mlp(), 10)

    np.testing.assert_allclose(all_outputs(mlp(), feed, batch), all_outputs(mlp(), feed, 10), rtol=1e-4, atol=1e-5)


def test_a_fixed_batch_is_filled_up_and_the_filling_taken_off() -> None:
    feed = random_feed(mlp(), 10)
    found = all_outputs(fixed_batch(4), feed, 16)

    assert found.shape[0] == 10
    np.testing.assert_allclose(found, all_outputs(mlp(), feed, 10), rtol=1e-4, atol=1e-5)


def test_an_output_that_cannot_be_divided_among_the_samples_is_refused() -> None:
    b = Builder()
    b.node("ReduceMean", "mean", [b.gemm("fc", b.input("x", ["N", WIDTH]), WIDTH, 7)], axes=[0], keepdims=0)
    b.output("mean_out", [7])
    model = loaded(b.model())
    with (
        BACKEND.build(to_bytes(model.ir)) as engine,
        pytest.raises(DataError, match=r"'mean_out' must have one entry per sample .* give the model an output with"),
    ):
        list(run_dataset(engine, Dataset.from_arrays(random_feed(b.model(), 4)), model.interface, 4))


def test_the_model_against_itself_has_no_noise_and_full_agreement() -> None:
    model = loaded(mlp())
    data = Dataset.from_arrays(random_feed(mlp(), 10))
    with BACKEND.build(to_bytes(model.ir)) as engine:
        evaluator = Evaluator.against(engine, data, model.interface, load_metric("agreement"), 4)
        outcome = evaluator.evaluate(engine)

    assert (outcome.noise, outcome.agreement, outcome.finite) == (0.0, 1.0, True)
    assert outcome.kl == pytest.approx(0, abs=1e-9)
    assert outcome.sqnr_db == float("inf")
    assert evaluator.drop(outcome) == 0


def test_noise_is_power_of_the_difference_over_power_of_the_signal() -> None:
    model = loaded(mlp())
    feed = random_feed(mlp(), 10)
    worse = mlp()
    bias = next(t for t in worse.graph.initializer if t.name == "fc2.b")
    bias.raw_data = (np.frombuffer(bias.raw_data, np.float32) + np.float32(0.25)).tobytes()
    expected = all_outputs(mlp(), feed, 10)
    with (
        BACKEND.build(to_bytes(model.ir)) as reference,
        BACKEND.build(worse.SerializeToString()) as engine,
    ):
        metric = load_metric("sqnr")
        evaluator = Evaluator.against(reference, Dataset.from_arrays(feed), model.interface, metric, 4)
        outcome = evaluator.evaluate(engine)

    ratios = 0.25**2 * expected.shape[1] / np.square(expected, dtype=np.float64).sum(axis=1)
    assert outcome.noise == pytest.approx(ratios.mean(), rel=1e-4)
    assert evaluator.drop(outcome) == pytest.approx(ratios.mean(), rel=1e-4)


def test_a_float_model_that_is_not_finite_is_refused() -> None:
    b = Builder()
    b.node("Log", "log", [b.gemm("fc", b.input("x", ["N", WIDTH]), WIDTH, 8)])
    b.output("log_out", ["N", 8])
    model, data = loaded(b.model()), Dataset.from_arrays(random_feed(b.model(), 4))
    with (
        BACKEND.build(to_bytes(model.ir)) as engine,
        pytest.raises(ModelError, match="'log_out' of the FP32 model holds NaN or infinity on arrays; correct"),
    ):
        Evaluator.against(engine, data, model.interface, load_metric("sqnr"), 4)


def test_a_candidate_that_is_not_finite_has_an_infinite_drop() -> None:
    model = loaded(mlp())
    broken = mlp()
    broken.graph.node[-1].output[0] = "before"
    broken.graph.node.append(helper.make_node("Log", ["before"], ["fc2_out"], name="log"))
    data = Dataset.from_arrays(random_feed(mlp(), 10))
    with BACKEND.build(to_bytes(model.ir)) as reference, BACKEND.build(broken.SerializeToString()) as engine:
        evaluator = Evaluator.against(reference, data, model.interface, load_metric("agreement"), 4)
        outcome = evaluator.evaluate(engine)

    assert not outcome.finite
    assert evaluator.drop(outcome) == float("inf")


def test_fp32_is_not_run_again_to_be_judged() -> None:
    model, data = loaded(mlp()), Dataset.from_arrays(random_feed(mlp(), 10))

    class Counting:
        runs = 0

        def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
            self.runs += 1
            return dict(engine.run(feed))

    with BACKEND.build(to_bytes(model.ir)) as engine:
        reference = Counting()
        evaluator = Evaluator.against(reference, data, model.interface, load_metric("sqnr"), 5)
        outcome = evaluator.evaluate(reference)

    assert reference.runs == 2
    assert (outcome.noise, evaluator.losses(outcome).tolist()) == (0.0, [0.0] * 10)
