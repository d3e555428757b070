"""What is known of a drop beyond the count of changed decisions."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from autoprec.metrics.scores import label_margins
from autoprec.stats.drop import Drop, counted_drop, estimate_drop, smoothed_losses

from ..helpers.trained_networks import PLANS, trained

Array = npt.NDArray[np.float64]


def margins(generator: np.random.Generator, count: int, noise: float = 0.5, shift: float = 0.15) -> tuple[Array, Array]:
    """Of a classifier right in four of five cases, and of a plan that shifts and blurs them."""
    before = generator.normal(1.7, 2.0, count)
    return before, before - shift + noise * generator.normal(size=count)


def scores(values: Array) -> Array:
    return (values > 0).astype(np.float64)


def test_decisions_without_margins_are_counted_and_have_a_width_where_none_changed() -> None:
    reference = np.array([1.0] * 160 + [0.0] * 40)

    drop = estimate_drop(reference, reference.copy(), True)

    assert drop.method == "counted"
    assert drop.estimate == 0.0
    # Bonett and Price's interval by hand: 1 of 202 lost and 1 won.
    assert drop.high == pytest.approx(1.959964 * math.sqrt(2 / 202 / 202), abs=1e-6)
    assert drop.low == -drop.high


def test_the_counts_interval_is_that_of_its_source() -> None:
    """12 lost and 5 won of 100, computed by hand."""
    before, after = np.array([1.0] * 60 + [0.0] * 40), np.array([0.0] * 12 + [1.0] * 53 + [0.0] * 35)

    drop = counted_drop(before, after, True)
    other = counted_drop(before, after, False)

    half = 1.959964 * math.sqrt((13 / 102 + 6 / 102 - (7 / 102) ** 2) / 102)
    assert (drop.estimate, drop.low, drop.high) == pytest.approx((0.07, 7 / 102 - half, 7 / 102 + half), abs=1e-6)
    assert (other.low, other.high) == pytest.approx((-drop.high, -drop.low))


@pytest.mark.parametrize("name", ["clear", "wrong labels"])
def test_the_interval_covers_the_drop_of_trained_networks_however_large_it_is(name: str) -> None:
    """200 data sets of 150 samples, of four plans with drops of 0 to 74 points."""
    network, generator = trained(name, 6000), np.random.default_rng(0)
    before = label_margins({"y": network.logits()}, network.labels)
    for plan in (PLANS[1], PLANS[2], PLANS[5], PLANS[7]):
        after = label_margins({"y": network.logits(plan)}, network.labels)
        truth, drops = float(np.mean(scores(before) - scores(after))), []
        for _ in range(50):
            drawn = generator.integers(0, 6000, 150)
            margin = before[drawn], after[drawn]
            drops.append(estimate_drop(scores(margin[0]), scores(margin[1]), True, margins=margin))

        assert np.mean([drop.low <= truth <= drop.high for drop in drops]) >= 0.88, plan
        assert np.mean([drop.method == "smoothed" for drop in drops]) > 0.6 or abs(truth) > 0.01, plan


@pytest.mark.parametrize(
    ("shift", "noise", "method"),
    [(0.05, 0.2, "smoothed"), (3.0, 2.0, "unfit")],
    ids=["few changed", "collapsed"],
)
def test_where_many_decisions_changed_the_count_is_used_and_named(shift: float, noise: float, method: str) -> None:
    before, after = margins(np.random.default_rng(4), 300, noise, shift)

    drop = estimate_drop(scores(before), scores(after), True, margins=(before, after))

    assert drop.method == method
    if method == "unfit":
        assert drop == replace(counted_drop(scores(before), scores(after), True), method="unfit")


def test_margins_that_contradict_the_count_are_not_used() -> None:
    """All margins shrink by much, but no decision is lost: smoothing expects losses that do not happen."""
    before = np.abs(np.random.default_rng(5).normal(size=400)) + 0.05
    after = np.maximum(before - 0.6, 0.01)

    assert estimate_drop(scores(before), scores(after), True, margins=(before, after)).method == "unfit"


@pytest.mark.parametrize("higher", [True, False])
def test_scores_that_are_no_decisions_are_taken_as_they_are(higher: bool) -> None:
    reference, after = np.array([0.5, 0.7, 0.9]), np.array([0.4, 0.7, 0.8])

    drop = estimate_drop(reference, after, higher)

    assert drop == counted_drop(reference, after, higher)
    assert drop.estimate == pytest.approx((1 if higher else -1) * 0.2 / 3)


def test_a_plan_that_changes_no_output_has_dropped_nothing_for_certain() -> None:
    same = np.array([1.5, -0.5, 0.2])

    drop = estimate_drop([1.0, 0.0, 1.0], [1.0, 0.0, 1.0], True, margins=(same, same.copy()))

    assert (drop.estimate, drop.low, drop.high) == (0.0, 0.0, 0.0)


def test_no_changed_decision_among_few_samples_is_no_certainty() -> None:
    before = np.linspace(-2, 3, 20)
    after = before + 0.01

    drop = estimate_drop(scores(before), scores(after), True, margins=(before, after))

    assert drop.high > 0.001


@pytest.mark.parametrize("shift", [0.0, 0.05])
def test_the_interval_is_narrower_than_the_counts_and_covers_the_truth(shift: float) -> None:
    """Over 150 data sets of 300 samples each, of a plan with little noise, as those near a bound are."""
    generator = np.random.default_rng(1)
    truth = float(np.mean(np.subtract(*map(scores, margins(generator, 1_000_000, 0.2, shift)))))
    covered, widths = 0, []
    for _ in range(150):
        before, after = margins(generator, 300, 0.2, shift)
        drop = estimate_drop(scores(before), scores(after), True, margins=(before, after))
        counted = (scores(before) - scores(after)).std(ddof=1) / math.sqrt(300) * 2 * 1.96
        covered += drop.low <= truth <= drop.high
        widths.append((drop.high - drop.low) / counted)

    assert covered / 150 >= 0.93
    assert np.median(widths) < 0.9


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
