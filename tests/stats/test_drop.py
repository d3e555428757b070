"""What is known of a drop beyond the count of changed decisions."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from autoprec.metrics.scores import label_margins
from autoprec.stats.drop import Drop, counted_drop, estimate_drop, smoothed_losses

Array = npt.NDArray[np.float64]


def margins(generator: np.random.Generator, count: int, noise: float = 0.5, shift: float = 0.15) -> tuple[Array, Array]:
    """Of a classifier right in four of five cases, and of a plan that shifts and blurs them."""
    before = generator.normal(1.7, 2.0, count)
    return before, before - shift + noise * generator.normal(size=count)


def scores(values: Array) -> Array:
    return (values > 0).astype(np.float64)


def test_a_lucky_balance_of_many_changed_decisions_is_not_taken_at_its_word() -> None:
    reference = np.array([1.0] * 160 + [0.0] * 40)
    swapped = reference.copy()
    swapped[:10], swapped[160:170] = 0.0, 1.0  # ten lost, ten won: the mean drop is 0

    drop = estimate_drop(reference, swapped, True, changed=0.1)

    assert 0.008 < drop.estimate < 0.03, "between the observed 0 and the 0.03 that so many changes usually cost"
    assert drop.method == "shrunken"


def test_more_samples_weigh_more_than_the_prior() -> None:
    reference = np.tile([1.0, 0.0], 50_000)
    swapped = reference.copy()
    swapped[:5000] = 1.0 - swapped[:5000]

    assert abs(estimate_drop(reference, swapped, True, changed=0.05).estimate) < 0.001


@pytest.mark.parametrize("higher", [True, False])
def test_scores_that_are_no_decisions_are_taken_as_they_are(higher: bool) -> None:
    reference, after = np.array([0.5, 0.7, 0.9]), np.array([0.4, 0.7, 0.8])

    drop = estimate_drop(reference, after, higher, changed=0.5)

    assert drop == counted_drop(reference, after, higher)
    assert drop.estimate == pytest.approx((1 if higher else -1) * 0.2 / 3)


def test_a_plan_that_changes_no_output_has_dropped_nothing_for_certain() -> None:
    same = np.array([1.5, -0.5, 0.2])

    drop = estimate_drop([1.0, 0.0, 1.0], [1.0, 0.0, 1.0], True, margins=(same, same.copy()), changed=0.0)

    assert (drop.estimate, drop.low, drop.high) == (0.0, 0.0, 0.0)


def test_no_changed_decision_among_few_samples_is_no_certainty() -> None:
    before = np.linspace(-2, 3, 20)
    after = before + 0.01

    drop = estimate_drop(scores(before), scores(after), True, margins=(before, after), changed=0.0)

    assert drop.high > 0.001


@pytest.mark.parametrize(("shift", "coverage"), [(0.0, 0.93), (0.05, 0.93), (0.15, 0.85)])
def test_the_interval_is_half_as_wide_as_the_counts_and_covers_the_truth(shift: float, coverage: float) -> None:
    """Over 300 data sets of 300 samples each; with the largest shift a changed decision costs 0.47, one deviation
    above what the prior expects.
    """
    generator = np.random.default_rng(1)
    truth = float(np.mean(np.subtract(*map(scores, margins(generator, 4_000_000, shift=shift)))))
    covered, widths = 0, []
    for _ in range(300):
        before, after = margins(generator, 300, shift=shift)
        changed = float((scores(before) != scores(after)).mean())
        drop = estimate_drop(scores(before), scores(after), True, margins=(before, after), changed=changed)
        counted = (scores(before) - scores(after)).std(ddof=1) / math.sqrt(300) * 2 * 1.96
        covered += drop.low <= truth <= drop.high
        widths.append((drop.high - drop.low) / counted)

    assert covered / 300 >= coverage
    assert np.median(widths) < 0.5


def test_smoothing_sees_a_shift_before_a_decision_is_lost() -> None:
    before = np.linspace(0.3, 0.5, 100)  # all right, all still right

    assert smoothed_losses(before, before - 0.2).mean() > 0


def test_a_wider_confidence_gives_a_wider_interval_round_the_same_estimate() -> None:
    before, after = margins(np.random.default_rng(2), 300)
    narrow, wide = (
        estimate_drop(scores(before), scores(after), True, margins=(before, after), confidence=c) for c in (0.8, 0.99)
    )

    assert narrow.estimate == wide.estimate
    assert wide.low < narrow.low < narrow.high < wide.high


def test_the_samples_that_would_certify_a_bound_follow_the_square_of_the_width() -> None:
    drop = Drop(estimate=0.002, low=-0.004, high=0.008, samples=100, method="smoothed")

    assert drop.samples_to_certify(0.005) == 400  # the half width must shrink from 0.006 to 0.003
    assert drop.certifies(0.008)
    assert drop.samples_to_certify(0.008) == 100
    assert drop.samples_to_certify(0.002) is None


def test_a_margin_is_the_log_probability_over_the_best_other_class() -> None:
    logits = np.array([[2.0, 1.0, -3.0], [0.0, 4.0, 1.0], [np.nan, 0.0, 0.0]], np.float32)
    odds = np.exp(logits[:2]) / np.exp(logits[:2]).sum(axis=1, keepdims=True)
    labels = np.array([0, 2, 1])

    assert label_margins({"y": logits}, labels).tolist() == [1.0, -3.0, -math.inf]
    assert label_margins({"y": odds}, labels[:2]) == pytest.approx([1.0, -3.0], abs=1e-5)
