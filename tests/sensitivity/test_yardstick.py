"""The yardstick is the time of one entry's full pass, whatever part of the samples it was measured on."""

from __future__ import annotations

import itertools

import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.backends.scheme import ORT_CPU
from autoprec.data.dataset import Dataset
from autoprec.precision import Precision
from autoprec.sensitivity import yardstick as full_pass
from autoprec.sensitivity.yardstick import FullPass

from ..helpers.lowering_bench import bench


def test_seconds_of_parts_make_those_of_all_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lowering and building count once, runs and scores by samples, and the first run not at all."""
    one = bench("mlp", ORT_CPU, Precision.FP32)
    clock = itertools.count(0.0, 1.0)
    monkeypatch.setattr(full_pass.time, "thread_time", lambda: next(clock))
    data = Dataset.from_arrays(one.feed)
    unit = next(iter(one.possible))

    with FullPass(one.lowerer, {unit: Precision.INT8}, one.ranges, OrtBackend(threads=1), 4) as full:
        full.run(data.subset(range(4)))
        full.run(data.subset(range(4, 8)))
        full.scored(0.5, 2)

    assert full.samples == 8
    assert full.seconds(80) == pytest.approx(1 + 80 * (2 / 8 + 0.5 / 2))
    assert full.own_s == 2 + 2
