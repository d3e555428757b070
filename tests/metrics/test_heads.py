"""Further outputs that decide something are judged beside the first one, and those that decide nothing are not."""

from __future__ import annotations

import numpy as np
import pytest

from autoprec.errors import MetricError
from autoprec.metrics.scores import agreement, cosine

Array = np.ndarray
RANDOM = np.random.default_rng(0)


def logits(*shape: int) -> Array:
    """Random logits of which one is clearly the largest."""
    found = RANDOM.normal(size=shape)
    np.put_along_axis(found, RANDOM.integers(0, shape[-1], (*shape[:-1], 1)), 8.0, axis=-1)
    return found


BOXES, FIRST, FEATURES = RANDOM.uniform(0, 640, (8, 30, 4)), logits(8, 10), RANDOM.normal(size=(8, 6, 32))


@pytest.mark.parametrize(("first", "shape"), [(BOXES, (8, 30, 20)), (FIRST, (8, 5))])
def test_a_head_of_logits_that_decides_otherwise_is_seen_behind_an_output_that_is_right(
    first: Array, shape: tuple[int, ...]
) -> None:
    before = {"a": first, "b": logits(*shape)}

    assert agreement({"a": first, "b": logits(*shape)}, None, before).mean() < 0.6
    assert agreement({"a": first, "b": before["b"] + 0.1 * RANDOM.normal(size=shape)}, None, before).min() == 1.0


def test_features_and_caches_decide_nothing() -> None:
    other = FEATURES + 0.3 * RANDOM.normal(size=FEATURES.shape)

    assert agreement({"a": FIRST, "b": other}, None, {"a": FIRST, "b": FEATURES}).min() == 1.0


def test_peaks_of_a_map_are_decisions_and_the_noise_around_them_is_none() -> None:
    before = RANDOM.uniform(0, 0.02, (8, 3, 16, 16))
    before[:, :, 4, 4] = 0.9
    noisy = np.clip(before + RANDOM.uniform(0, 0.02, before.shape), 0, 1)

    assert agreement({"a": FIRST, "b": noisy}, None, {"a": FIRST, "b": before}).min() == 1.0
    assert agreement({"a": FIRST, "b": np.roll(before, 5, axis=3)}, None, {"a": FIRST, "b": before}).max() == 0.0


def test_one_probability_for_each_sample_is_a_yes_or_a_no() -> None:
    before, after = np.full((8, 1), 0.9), np.full((8, 1), 0.1)

    assert agreement({"a": FIRST, "b": after}, None, {"a": FIRST, "b": before}).max() == 0.0
    assert cosine({"b": after}, None, {"b": before}).max() < 0.3
    with pytest.raises(MetricError, match="compares classes"):
        agreement({"b": after}, None, {"b": before})
