"""One streaming pass sees every value that a plan may quantise."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.backends.scheme import ORT_CPU
from autoprec.calibrate.observe import needed_tensors, observe
from autoprec.data.dataset import Dataset
from autoprec.errors import DataError
from autoprec.precision import Precision

from ..helpers.lowering_bench import SAMPLES, Bench
from ..helpers.networks import WIDTH, mlp

BACKEND = OrtBackend(threads=1)


@pytest.fixture(name="bench", scope="module")
def _bench() -> Bench:
    return Bench(mlp(), ORT_CPU, Precision.FP32)


def test_every_value_that_a_plan_can_quantise_is_observed(bench: Bench) -> None:
    wanted = needed_tensors(bench.lowerer, bench.possible)
    seen = observe(bench.lowerer, wanted, BACKEND, Dataset.from_arrays(bench.feed), 4)

    assert "x" in wanted
    assert set(seen.histograms) == set(wanted)
    assert seen.samples == SAMPLES


def test_a_value_that_overflows_is_named(bench: Bench) -> None:
    huge = Dataset.from_arrays({"x": np.full((4, WIDTH), 3e38, np.float32)})

    with pytest.raises(DataError, match="of the FP32 model is not finite on the calibration data"):
        observe(bench.lowerer, needed_tensors(bench.lowerer, bench.possible), BACKEND, huge, 4)


def test_memory_does_not_grow_with_the_samples(bench: Bench) -> None:
    wanted = needed_tensors(bench.lowerer, bench.possible)
    peaks = []
    for samples in (256, 4096):
        data = Dataset.from_arrays({"x": np.random.default_rng(0).normal(size=(samples, WIDTH)).astype(np.float32)})
        observe(bench.lowerer, wanted, BACKEND, data, 16)  # what is cached once does not count
        tracemalloc.start()
        observe(bench.lowerer, wanted, BACKEND, data, 16)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    assert peaks[1] < 1.5 * peaks[0] + 100_000
