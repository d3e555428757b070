"""The tests behind a verdict, against SciPy and against what is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from autoprec.stats.significance import compare_scores, mcnemar, paired_decisions, rank_sum, sign_flips, signed_ranks


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_the_exact_binomial_tail(lost: int, won: int) -> None:
    expected = stats.binomtest(lost, lost + won, 0.5, "greater").pvalue if lost + won else 1.0
    assert mcnemar(lost, won) == pytest.approx(expected, rel=1e-9)


def test_seven_losses_are_the_fewest_that_count() -> None:
    assert mcnemar(6, 0) > 0.01 > mcnemar(7, 0)


def test_mcnemar_takes_any_number_of_samples() -> None:
    assert mcnemar(6000, 5000) == pytest.approx(stats.binomtest(6000, 11000, 0.5, "greater").pvalue, rel=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(12, 60))
@settings(max_examples=30)
def test_signed_ranks_agree_with_scipy(seed: int, count: int) -> None:
    values = np.random.default_rng(seed).normal(0.1, 1.0, count).round(2)
    values = values[values != 0]
    expected = stats.wilcoxon(values, alternative="greater", correction=True, method="asymptotic").pvalue
    assert signed_ranks(values) == pytest.approx(expected, abs=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(8, 40))
@settings(max_examples=30)
def test_rank_sums_agree_with_scipy(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    before, after = random.normal(0, 1, count).round(1), random.normal(0.3, 1, count + 3).round(1)
    expected = stats.mannwhitneyu(after, before, alternative="greater", method="asymptotic").pvalue
    assert rank_sum(before, after) == pytest.approx(expected, abs=1e-9)


def test_equal_values_are_no_difference() -> None:
    assert signed_ranks(np.zeros(20)) == 1.0
    assert rank_sum(np.ones(9), np.ones(9)) == 1.0
    assert sign_flips(np.zeros(9)) == 1.0


def test_sign_flips_hold_their_level_and_find_a_shift() -> None:
    random = np.random.default_rng(0)
    nothing = [sign_flips(random.normal(0, 1, 50)) for _ in range(200)]

    assert np.mean(np.array(nothing) < 0.05) == pytest.approx(0.05, abs=0.04)
    assert sign_flips(random.normal(1, 1, 50)) < 0.001


def test_no_change_leaves_room_for_what_was_not_seen() -> None:
    span = paired_decisions(0, 0, 300)

    assert span.estimate == 0.0
    assert 0.005 < span.high < 0.01
    assert span.low == -span.high


def test_the_interval_of_decisions_covers_the_truth() -> None:
    random, covered = np.random.default_rng(0), 0
    for _ in range(400):
        lost, won, _ = random.multinomial(500, [0.03, 0.01, 0.96])
        span = paired_decisions(lost, won, 500)
        covered += span.low <= 0.02 <= span.high
    assert covered / 400 > 0.92


def test_the_direction_of_the_scores_decides_what_is_a_loss() -> None:
    before, after = np.linspace(1, 2, 40), np.linspace(1, 2, 40) + 0.1

    assert compare_scores(before, after, higher_is_better=False).different
    assert compare_scores(before, after, higher_is_better=False).change.estimate == pytest.approx(0.1)
    assert not compare_scores(before, after, higher_is_better=True).different


def test_scores_of_0_and_1_are_compared_as_decisions() -> None:
    assert compare_scores(np.ones(9), np.zeros(9), higher_is_better=True).test == "McNemar"
    assert compare_scores(np.ones(9), np.full(9, 0.5), higher_is_better=True).test == "sign flips"
