"""Statistics against closed forms, SciPy and their own definitions."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from autoprec.stats.intervals import mad, median, paired_bootstrap, r2, ratio_of_medians, spearman

finite = st.floats(-1e6, 1e6, allow_nan=False).map(lambda v: round(v, 3))


def test_the_drop_is_positive_where_the_candidate_is_worse() -> None:
    assert paired_bootstrap([1, 1, 1, 1], [1, 0, 1, 0], higher_is_better=True).estimate == 0.5
    assert paired_bootstrap([0.0, 0.0], [0.1, 0.3], higher_is_better=False).estimate == pytest.approx(0.2)
    assert paired_bootstrap([0, 1], [1, 1], higher_is_better=True).estimate == -0.5


def test_the_interval_is_the_normal_one_for_many_samples() -> None:
    """For n = 2000 normal drops the 95 % interval is mean ± 1.96 s/√n up to the bootstrap's own noise."""
    drops = np.random.default_rng(1).normal(0.3, 1.0, 2000)
    interval = paired_bootstrap(drops, np.zeros(2000), higher_is_better=True, resamples=4000)
    half = 1.959964 * drops.std() / math.sqrt(2000)

    assert interval.estimate == pytest.approx(drops.mean(), abs=1e-12)
    assert interval.low == pytest.approx(drops.mean() - half, abs=0.06 * half)
    assert interval.high == pytest.approx(drops.mean() + half, abs=0.06 * half)


def test_pairs_stay_together() -> None:
    """Scores that vary a lot but drop by the same everywhere leave no doubt about the drop."""
    reference = np.random.default_rng(2).normal(0, 100, 50)
    interval = paired_bootstrap(reference, reference - 0.25, higher_is_better=True)

    assert (interval.low, interval.high) == pytest.approx((0.25, 0.25), abs=1e-9)


def test_the_interval_covers_the_true_drop_about_as_often_as_it_says() -> None:
    """300 simulated evaluations of a true drop of 5 points: coverage within 4 standard errors of 90 %."""
    generator = np.random.default_rng(3)
    hits = 0
    for _ in range(300):
        drops = generator.choice([-1.0, 0.0, 1.0], p=[0.05, 0.85, 0.10], size=200)
        interval = paired_bootstrap(drops, np.zeros(200), True, confidence=0.9, resamples=400, seed=4)
        hits += interval.low <= 0.05 <= interval.high

    assert 0.83 <= hits / 300 <= 0.97


def test_equal_seeds_give_equal_intervals() -> None:
    scores = np.random.default_rng(5).random((2, 100))
    first, again, other = (paired_bootstrap(*scores, True, seed=seed) for seed in (7, 7, 8))

    assert first == again
    assert (first.low, first.high) != (other.low, other.high)


def test_bootstrap_memory_is_bounded() -> None:
    """20 000 samples times 1000 resamples would take 160 MB at once; the peak stays under 60."""
    scores = np.random.default_rng(6).random((2, 20_000))
    tracemalloc.start()
    try:
        paired_bootstrap(*scores, True, resamples=1000)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak_bytes < 60e6


@pytest.mark.parametrize(
    ("reference", "scores", "words"),
    [([], [], "at least one value"), ([1, 2], [1], "same length"), ([[1]], [[1]], "same length")],
)
def test_unpaired_scores_are_refused(reference: list[float], scores: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        paired_bootstrap(reference, scores, True)


@pytest.mark.parametrize(("option", "value"), [("confidence", 1.0), ("resamples", 0)])
def test_impossible_bootstrap_options_are_refused(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=option.rstrip("s")):
        paired_bootstrap([1.0], [1.0], True, **{option: value})  # type: ignore[arg-type]


def test_mad_estimates_the_standard_deviation_despite_outliers() -> None:
    values = np.random.default_rng(8).normal(5, 2, 10_000)
    values[:3000] = 1e9

    assert mad(np.random.default_rng(8).normal(5, 2, 10_000)) == pytest.approx(2, rel=0.03)
    assert mad(values) < 5


@given(arrays(np.float64, st.integers(1, 30), elements=finite))
def test_median_and_mad_agree_with_scipy(values: np.ndarray) -> None:
    assert median(values) == np.median(values)
    assert mad(values) == pytest.approx(scipy.stats.median_abs_deviation(values, scale="normal"), rel=1e-12, abs=1e-9)


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=40))
def test_spearman_agrees_with_scipy_where_values_tie(pairs: list[tuple[int, int]]) -> None:
    x, y = zip(*pairs, strict=True)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert math.isnan(spearman(x, y))
    else:
        assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic, abs=1e-12)


def test_spearman_sees_order_only() -> None:
    x = np.arange(1, 20)

    assert spearman(x, np.exp(x)) == pytest.approx(1)
    assert spearman(x, -(x**3)) == pytest.approx(-1)


def test_the_ratio_is_candidate_over_baseline() -> None:
    interval = ratio_of_medians([2.0, 2.0, 2.0], [1.0, 1.0, 1.0])

    assert (interval.estimate, interval.low, interval.high) == (0.5, 0.5, 0.5)


def test_rounds_are_resampled_with_both_sides_together() -> None:
    """A clock that drifts threefold over the run leaves a ratio that is the same in each round certain."""
    drift = np.linspace(1, 3, 21)[:, None]
    baseline = drift * np.ones((1, 3))
    interval = ratio_of_medians(baseline, 0.8 * baseline)

    assert (interval.low, interval.high) == pytest.approx((0.8, 0.8), abs=1e-9)


def test_noisy_rounds_give_an_interval_round_the_true_ratio() -> None:
    generator = np.random.default_rng(9)
    baseline = generator.normal(10, 0.5, (40, 5))
    candidate = generator.normal(9, 0.5, (40, 5))
    interval = ratio_of_medians(baseline, candidate)

    assert interval.low < 0.9 < interval.high
    assert 0.005 < interval.high - interval.low < 0.05


@pytest.mark.parametrize(
    ("baseline", "candidate", "words"),
    [([1.0], [1.0, 2.0], "same rounds"), ([1.0], [0.0], "above 0"), ([], [], "at least one")],
)
def test_impossible_timings_are_refused(baseline: list[float], candidate: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ratio_of_medians(baseline, candidate)


def test_r2_of_known_predictions() -> None:
    measured = [1.0, 2.0, 3.0, 4.0]

    assert r2(measured, measured) == 1
    assert r2(measured, [2.5] * 4) == 0
    assert r2(measured, [4.0, 3.0, 2.0, 1.0]) == pytest.approx(-3)
    assert math.isnan(r2([2.0, 2.0], [1.0, 3.0]))
