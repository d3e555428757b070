"""What samples contribute to a figure that is no mean."""

from __future__ import annotations

import numpy as np
import pytest

from autoprec.stats.drop import set_drop
from autoprec.stats.resampling import MOST_GROUPS, contributions_of, drawn_differences, mean_with_error

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
