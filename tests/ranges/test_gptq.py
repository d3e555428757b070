"""Rounding by second moments loses less at the outputs than rounding to the nearest code, as its paper says."""

from __future__ import annotations

import numpy as np
import pytest

from autoprec.precision import Array
from autoprec.ranges.gptq import gptq_codes, gptq_codes_of_columns
from autoprec.ranges.moments import Moments, moments_from_record, moments_of
from autoprec.ranges.weight_blocks import BlockGrid, block_grid

CHANNELS = 128


def layer(samples: int = 600) -> tuple[Array, Array, Array]:
    """Weights, and two sets of inputs whose channels depend on one another, as behind a normalisation."""
    random = np.random.default_rng(3)
    mixing = random.standard_normal((24, CHANNELS)) * random.uniform(0.2, 3, CHANNELS)
    x = random.standard_normal((2 * samples, 24)) @ mixing + 0.2 * random.standard_normal((2 * samples, CHANNELS))
    weight = random.standard_normal((CHANNELS, 40)) / np.sqrt(CHANNELS)
    return weight.astype(np.float32), x[:samples], x[samples:]


def output_error(weight: Array, grid: BlockGrid, codes: Array, x: Array) -> float:
    return float(np.square(x @ (grid.values(codes) - weight)).sum())


@pytest.mark.parametrize("zero_points", [False, True])
@pytest.mark.parametrize("block", [32, 128])
def test_the_output_error_is_far_below_that_of_the_nearest_codes(block: int, zero_points: bool) -> None:
    """On inputs that the moments are not of; the paper's figure of layers is of this kind."""
    weight, seen, fresh = layer()
    grid = block_grid(weight, block, zero_points=zero_points)
    nearest = output_error(weight, grid, grid.codes(weight), fresh)

    codes = gptq_codes(weight, grid, moments_of(seen.T @ seen))

    low, high = grid.limits
    assert low <= codes.astype(int).min()
    assert codes.astype(int).max() <= high
    assert codes.dtype == grid.codes(weight).dtype
    assert output_error(weight, grid, codes, fresh) < 0.35 * nearest


@pytest.mark.parametrize("largest", [127, 64, 7])
def test_output_channels_with_a_scale_lose_less_than_by_the_nearest_codes(largest: int) -> None:
    """As a convolution of two groups; no code is beyond the largest, for which 7-bit weights exist."""
    weight, seen, fresh = layer()
    halves = np.stack([weight[:64], weight[64:]])
    scales = np.abs(halves).max(axis=1) / largest
    both = np.stack([seen[:, :64].T @ seen[:, :64], seen[:, 64:].T @ seen[:, 64:]])

    codes = gptq_codes_of_columns(halves, scales, largest, moments_of(both))
    nearest = np.rint(halves / scales[:, None])

    def lost(found: Array) -> float:
        wrong = found * scales[:, None] - halves
        return float(sum(np.square(fresh[:, 64 * g : 64 * g + 64] @ wrong[g]).sum() for g in (0, 1)))

    assert codes.dtype == np.int8
    assert np.abs(codes.astype(int)).max() <= largest
    assert lost(codes) < 0.5 * lost(nearest)


def test_channels_that_do_not_depend_on_one_another_give_the_nearest_codes() -> None:
    weight, _, _ = layer()
    grid = block_grid(weight, 32, zero_points=False)
    alone = Moments(np.linspace(0.1, 2, CHANNELS, dtype=np.float32), np.zeros((CHANNELS, 4), np.float16))

    np.testing.assert_array_equal(gptq_codes(weight, grid, alone), grid.codes(weight))


def test_columns_are_rounded_alike_alone_and_together(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, seen, _ = layer()
    grid, moments = block_grid(weight, 32, zero_points=True), moments_of(seen.T @ seen)
    together = gptq_codes(weight, grid, moments)
    monkeypatch.setattr("autoprec.ranges.gptq._COLUMNS", 7)

    assert np.mean(gptq_codes(weight, grid, moments) != together) < 0.002  # but for sums in another order


def test_channels_that_are_always_zero_do_no_harm() -> None:
    weight, seen, _ = layer()
    seen[:, :5] = 0
    grid = block_grid(weight, 32, zero_points=False)

    values = grid.values(gptq_codes(weight, grid, moments_of(seen.T @ seen)))

    assert np.isfinite(values).all()
    assert np.isfinite(grid.values(gptq_codes(weight, grid, moments_of(np.zeros((CHANNELS, CHANNELS)))))).all()


def test_moments_are_near_the_matrix_and_come_back_from_a_record_as_they_were() -> None:
    _, seen, _ = layer()
    exact = seen.T @ seen
    exact /= np.trace(exact) / CHANNELS
    moments = moments_of(seen.T @ seen)
    again = moments_from_record(moments.to_record())

    assert np.linalg.norm(moments.matrix() - exact) < 0.02 * np.linalg.norm(exact)
    np.testing.assert_array_equal(again.matrix(), moments.matrix())
    assert again.digest == moments.digest


@pytest.mark.parametrize(
    "damage", [{"rest": "!"}, {"rest": ""}, {"parts": "AAA="}, {"rest": "AACAvw=="}, {"parts": None}, {"rest": 5}]
)
def test_damaged_moments_are_refused(damage: dict[str, object]) -> None:
    record = moments_of(np.eye(3)).to_record()
    with pytest.raises(ValueError, match=r"moments|base64|argument|string|padding|element"):
        moments_from_record({**record, **damage})
