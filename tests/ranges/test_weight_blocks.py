"""Weights of four bits in blocks: what the codes stand for is near the weights, and nearer than by the plain rule."""

from __future__ import annotations

import numpy as np
import pytest

from autoprec.errors import ModelError
from autoprec.precision import Array
from autoprec.ranges.weight_blocks import block_grid


def weights(seed: int = 0, shift: float = 0.0) -> Array:
    random = np.random.default_rng(seed)
    return (random.standard_t(4, (128, 12)) * random.uniform(0.01, 10, 12) + shift).astype(np.float32)


def error(weight: Array, block: int, *, zero_points: bool) -> float:
    grid = block_grid(weight, block, zero_points=zero_points)
    return float(np.square(grid.values(grid.codes(weight)) - weight).sum())


@pytest.mark.parametrize("block", [32, 64, 128])
@pytest.mark.parametrize("zero_points", [False, True])
def test_blocks_lose_less_than_the_largest_weight_as_largest_code(block: int, zero_points: bool) -> None:
    weight = weights()
    parts = weight.reshape(-1, block, 12)
    low, high = np.minimum(parts.min(1, keepdims=True), 0), np.maximum(parts.max(1, keepdims=True), 0)
    scale = (high - low) / 15 if zero_points else np.maximum(-low, high) / 7
    zero = np.rint(-low / scale) if zero_points else 0
    plain = (np.clip(np.rint(parts / scale) + zero, *((0, 15) if zero_points else (-8, 7))) - zero) * scale

    assert 0 < error(weight, block, zero_points=zero_points) < 0.99 * np.square(plain - parts).sum()


def test_codes_are_stable_and_within_half_a_step_unless_clipped() -> None:
    weight = weights()
    grid = block_grid(weight, 32, zero_points=True)
    values = grid.values(grid.codes(weight))
    steps = np.repeat(grid.scales, 32, axis=0)
    inside = (grid.codes(weight).astype(int) > 0) & (grid.codes(weight).astype(int) < 15)

    assert np.all(np.abs(values - weight)[inside] <= 0.501 * steps[inside])
    np.testing.assert_array_equal(grid.codes(values), grid.codes(weight))


def test_smaller_blocks_and_zero_points_lose_less() -> None:
    shifted = weights(shift=0.5)
    small, large = (error(shifted, block, zero_points=False) for block in (32, 128))

    assert small < large
    assert error(shifted, 128, zero_points=True) < large


def test_blocks_of_zeros_are_exact_and_columns_do_not_meet() -> None:
    weight = weights()
    weight[:32] = 0
    grid = block_grid(weight, 32, zero_points=False)

    assert not grid.values(grid.codes(weight))[:32].any()
    alone = block_grid(weight[:, 3:4], 32, zero_points=False)
    np.testing.assert_array_equal(alone.scales[:, 0], grid.scales[:, 3])


def test_weights_that_are_not_finite_are_refused() -> None:
    weight = weights()
    weight[5, 5] = np.inf
    with pytest.raises(ModelError, match="finite"):
        block_grid(weight, 32, zero_points=False)
