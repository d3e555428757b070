"""What samples contribute to a figure that is no mean."""

from __future__ import annotations

import numpy as np
import pytest

from autoprec.stats.drop import set_drop
from autoprec.stats.resampling import (
    MOST_GROUPS,
    contributions_of,
    drawn_differences,
    effect_of,
    mean_with_error,
    spread_over,
)

GENERATOR = np.random.default_rng(5)


@pytest.mark.parametrize("samples", [7, 40, 900])
def test_the_contributions_to_a_mean_average_to_it_and_scatter_as_the_values_do(samples: int) -> None:
    values = GENERATOR.normal(3, 2, samples)
    found, groups = contributions_of(lambda weights: weights @ values / weights.sum(axis=1), samples, samples)

    assert groups == min(samples, MOST_GROUPS)
    assert found.mean() == pytest.approx(values.mean(), abs=1e-12)
    assert found.std() == pytest.approx(values.std(), rel=1e-9 if groups == samples else 0.15)


def test_the_interval_of_a_ratio_is_that_of_its_bootstrap() -> None:
    """Word error rates are ratios of sums: the contributions must say what draws of whole samples say."""
    edits, lengths = GENERATOR.poisson(3, 60).astype(float), GENERATOR.integers(5, 40, 60).astype(float)

    def rate(weights: np.ndarray) -> np.ndarray:
        result: np.ndarray = (weights @ edits) / (weights @ lengths)
        return result

    found, groups = contributions_of(rate, 60, 60)
    span = mean_with_error(found, groups, 0.95)
    drawn = drawn_differences(rate, 60, 60)

    assert span.estimate == pytest.approx(edits.sum() / lengths.sum())
    assert (span.high - span.low) / 2 == pytest.approx(2.0 * drawn.std(), rel=0.1)


def test_a_figure_of_few_blocks_has_a_wider_interval_than_one_of_as_many_samples() -> None:
    loss = np.tile(GENERATOR.normal(0.1, 1, 16), 10)
    many, few = set_drop(loss, 160), set_drop(loss, 16, method="blocks")

    assert (many.method, few.method) == ("resampled", "blocks")
    assert few.estimate == many.estimate
    assert few.high - few.low > 1.05 * (many.high - many.low)


def test_nothing_is_known_of_a_single_group() -> None:
    assert set_drop(np.zeros(1), 1).high == float("inf")


def covered(rate: float, samples: int, draws: int = 150) -> float:
    """How often the interval of a character error rate, of lines that change as rarely as `rate`, covers the drop."""
    generator, hits = np.random.default_rng(11), 0
    for _ in range(draws):
        lengths = generator.integers(10, 40, samples).astype(float)
        before, more = generator.poisson(0.05 * lengths), generator.poisson(3.0, samples) + 1.0
        after = before + more * (generator.random(samples) < rate)
        weights = 1 - np.eye(samples)
        sides = [
            spread_over(edits.sum() / lengths.sum(), (weights @ edits) / (weights @ lengths), np.arange(samples))
            for edits in (before, after)
        ]
        drop = set_drop(sides[1] - sides[0], samples, effect=effect_of(sides[0]))
        hits += drop.low <= rate * 4.0 / 24.5 <= drop.high
    return hits / draws


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.6])
def test_the_interval_covers_the_true_drop_also_where_hardly_any_sample_changes(rate: float) -> None:
    """A plain bootstrap of 60 lines says zero to zero where none changed, which is every second time for one in 100."""
    assert covered(rate, 60) >= 0.93


def test_a_change_that_was_not_seen_is_allowed_for_only_where_most_samples_stay() -> None:
    dense, sparse = GENERATOR.normal(0.2, 1, 100), np.zeros(100)

    assert mean_with_error(sparse, 100, 0.95, effect=1.0).high == pytest.approx(0.028, rel=0.05)
    widths = [np.ptp([s.low, s.high]) for s in (mean_with_error(dense, 100, 0.95, effect=e) for e in (0.0, 1.0))]
    assert widths[1] < 1.02 * widths[0]
