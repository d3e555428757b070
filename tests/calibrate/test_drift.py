"""What values look like on samples that calibrated nothing."""

from __future__ import annotations

import numpy as np
import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.backends.scheme import ORT_CPU
from autoprec.calibrate.drift import value_drifts
from autoprec.data.dataset import Dataset
from autoprec.precision import Array, Precision

from ..helpers.lowering_bench import Bench
from ..helpers.onnx_builder import Builder

WIDTH = 32
RANDOM = np.random.default_rng(0)


def ratio(scales: Array, samples: Array) -> float:
    """The ratio of channels of a product that scales each channel of its input."""
    builder = Builder()
    weights = builder.const("weights", np.diag(scales))
    value = builder.node("MatMul", "first", [builder.input("x", ["N", WIDTH]), weights])
    builder.gemm("second", value, WIDTH, WIDTH)
    builder.output("second_out", ["N", WIDTH])
    bench = Bench(builder.model(), ORT_CPU, Precision.FP32)
    data = Dataset.from_arrays({"x": samples.astype(np.float32)})
    return value_drifts(bench.lowerer, (value,), OrtBackend(1), data, bench.ranges)[value].channel_ratio


@pytest.mark.parametrize("dead", [0, 20])
def test_a_channel_that_is_larger_than_the_others_is_seen_beside_channels_that_are_always_zero(dead: int) -> None:
    scales = np.ones(WIDTH)
    scales[3], scales[WIDTH - dead :] = 50.0, 0.0

    assert ratio(scales, RANDOM.choice([-1.0, 1.0], (64, WIDTH))) == pytest.approx(50.0)


def test_one_sample_that_is_larger_than_the_others_makes_no_outlier_channel() -> None:
    samples = RANDOM.choice([-1.0, 1.0], (64, WIDTH))
    samples[7, :8] *= 40

    assert ratio(np.ones(WIDTH), samples) < 2.0


def test_channels_of_a_convolution_over_time_lie_on_its_second_axis() -> None:
    builder = Builder()
    scales = np.where(np.arange(8) == 3, 50.0, 1.0)[:, None]
    value = builder.node("Mul", "first", [builder.input("x", ["N", 8, 16]), builder.const("scales", scales)])
    builder.node("Conv", "second", [value, builder.weight("w", 4, 8, 3)], pads=[1, 1])
    builder.output("second_out", ["N", 4, 16])
    bench = Bench(builder.model(), ORT_CPU, Precision.FP32)
    data = Dataset.from_arrays({"x": RANDOM.choice([-1.0, 1.0], (16, 8, 16)).astype(np.float32)})

    found = value_drifts(bench.lowerer, (value,), OrtBackend(1), data, bench.ranges)
    assert found[value].channel_ratio == pytest.approx(50.0)
