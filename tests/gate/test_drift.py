"""What a committed range costs on values that were counted anew."""

from __future__ import annotations

import math

import numpy as np
import pytest

from autoprec.gate.drift import Drift, clipped_share, compare_range, judge_drift
from autoprec.gate.verdict import Status
from autoprec.precision import Precision
from autoprec.ranges.bins import Range
from autoprec.ranges.calibrators import calibrate
from autoprec.ranges.histogram import Histogram


def counted(scale: float, seed: int = 0) -> Histogram:
    """A histogram of normal values of this deviation."""
    histogram = Histogram()
    histogram.update(np.random.default_rng(seed).normal(0, scale, 100_000).astype(np.float32))
    return histogram


@pytest.mark.parametrize("method", ["minmax", "mse", "entropy", "percentile 99.9"])
def test_the_same_values_lose_nothing(method: str) -> None:
    name, _, percentile = method.partition(" ")
    committed = calibrate(counted(1.0), name, symmetric=False, percentile=float(percentile or 99.99))
    found = compare_range("x", committed, counted(1.0), precision=Precision.INT8, label=method, symmetric=False)

    assert found.bits == 0.0
    assert found.fresh == committed


@pytest.mark.parametrize("method", ["minmax", "mse", "percentile 99.9"])
def test_other_samples_of_the_same_values_lose_next_to_nothing(method: str) -> None:
    name, _, percentile = method.partition(" ")
    committed = calibrate(counted(1.0), name, symmetric=False, percentile=float(percentile or 99.99))
    assert (
        compare_range(
            "x", committed, counted(1.0, seed=1), precision=Precision.INT8, label=method, symmetric=False
        ).bits
        < 0.2
    )


def test_a_range_four_times_too_wide_loses_two_bits() -> None:
    committed = calibrate(counted(4.0), "minmax", symmetric=True)
    found = compare_range("x", committed, counted(1.0), precision=Precision.INT8, label="minmax", symmetric=True)

    assert found.bits == pytest.approx(2.0, abs=0.15)
    assert found.clipped == 0.0


def test_a_range_too_narrow_clips() -> None:
    committed = calibrate(counted(1.0), "minmax", symmetric=True)
    found = compare_range("x", committed, counted(4.0), precision=Precision.INT8, label="minmax", symmetric=True)

    assert found.bits > 2
    assert found.clipped == pytest.approx(2 * (1 - 0.5 * (1 + math.erf(committed.high / 4 / math.sqrt(2)))), rel=0.05)


def test_a_lone_outlier_does_not_make_a_range_drift() -> None:
    """A fresh minmax would be three times as wide; the committed range cuts one value off and is none the worse."""
    histogram = counted(1.0)
    histogram.update(np.array([30.0], np.float32))
    committed = calibrate(counted(1.0), "minmax", symmetric=True)

    assert compare_range("x", committed, histogram, precision=Precision.INT8, label="minmax", symmetric=True).bits < 1


def test_fp8_follows_the_magnitude_alone() -> None:
    wide, narrow = Range(-8.0, 8.0), Range(-1.0, 1.0)
    histogram = Histogram()
    histogram.update(np.linspace(-4, 4, 1001).astype(np.float32))

    assert compare_range("x", wide, histogram, precision=Precision.FP8, label="mse", symmetric=True).bits == 0.0
    assert compare_range(
        "x", narrow, histogram, precision=Precision.FP8, label="mse", symmetric=True
    ).bits == pytest.approx(2.0)


def test_the_clipped_share_counts_both_sides() -> None:
    histogram = Histogram()
    histogram.update(np.arange(-100, 100, dtype=np.float32))
    assert clipped_share(histogram, Range(-50.0, 49.0)) == pytest.approx(0.5, abs=0.02)


def test_the_worst_is_named_and_those_beyond_the_bound_are_listed() -> None:
    span = Range(-1.0, 1.0)
    rows = [
        Drift(value="worst", committed=span, fresh=span, bits=2.5, clipped=0.1),
        Drift(value="bad", committed=span, fresh=span, bits=1.5, clipped=0.0),
        Drift(value="good", committed=span, fresh=span, bits=0.1, clipped=0.0),
    ]
    check = judge_drift(rows, 1.0, "calib.npz")

    assert check.status is Status.WORSE
    assert check.sentence.startswith("the ranges of worst and 1 more no longer fit: the committed ones lose up to 2.50")
    assert len(check.details) == 2
    assert judge_drift(rows, 3.0, "calib.npz").status is Status.FINE
    assert judge_drift([], 1.0, "").status is Status.FINE
