"""Blocks of small floats: what every array keeps of them, and where the scales come from."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprec.errors import ModelError
from autoprec.precision import Array, Precision
from autoprec.ranges.bins import Range
from autoprec.ranges.scaled_blocks import scale_of_all, scaled_blocks

MXFP8, NVFP4 = Precision.MXFP8, Precision.NVFP4


def draw(seed: int, spread: float) -> Array:
    random = np.random.default_rng(seed)
    return (random.normal(size=(3, 64)) * 10 ** random.uniform(-spread, spread, (3, 1))).astype(np.float32)


@given(seed=st.integers(0, 10**6), spread=st.floats(0, 3))
def test_no_value_is_further_from_its_own_than_the_format_allows(seed: int, spread: float) -> None:
    """Half a step of the code: 2**-4 of a normal E4M3, 2**-10 of the largest where it is subnormal; a sixth of E2M1."""
    array = draw(seed, spread)
    exact = scaled_blocks(array, MXFP8)
    largest = np.repeat(np.abs(array).reshape(3, -1, 32).max(axis=-1), 32, axis=-1)

    assert (np.abs(exact.values() - array) <= np.maximum(np.abs(array) / 16, largest * 2.0**-16)).all()
    small = scaled_blocks(array[:1], NVFP4)
    of_block = np.repeat(np.abs(array[:1]).reshape(1, -1, 16).max(axis=-1), 16, axis=-1)
    # The scale of a block is rounded to E4M3, so that its largest value may be clipped by a sixteenth.
    assert (np.abs(small.values() - array[:1]) <= of_block * (1 / 6 * 17 / 16 + 1e-3)).all()


@given(seed=st.integers(0, 10**6))
def test_what_is_in_mxfp8_already_stays_as_it_is(seed: int) -> None:
    once = scaled_blocks(draw(seed, 2), MXFP8).values()

    np.testing.assert_array_equal(scaled_blocks(once, MXFP8).values(), once)


@given(exponent=st.integers(-100, 100), seed=st.integers(0, 10**6))
def test_a_power_of_two_moves_the_exponents_alone(exponent: int, seed: int) -> None:
    array = draw(seed, 0)
    one, moved = scaled_blocks(array, MXFP8), scaled_blocks(np.ldexp(array, exponent), MXFP8)

    np.testing.assert_array_equal(one.codes.view(np.uint8), moved.codes.view(np.uint8))
    np.testing.assert_array_equal(one.scales.astype(int) + exponent, moved.scales)


@pytest.mark.parametrize("largest", [448.0, 449.0, 1.75, 2.0**-20])
def test_the_scale_of_mxfp8_is_the_least_power_of_two_by_which_nothing_is_clipped(largest: float) -> None:
    array = np.zeros((1, 32), np.float32)
    array[0, 5] = largest
    scale = 2.0 ** (int(scaled_blocks(array, MXFP8).scales[0, 0]) - 127)

    assert largest / scale <= 448 < largest / (scale / 2)


def test_the_largest_block_of_nvfp4_has_the_largest_scale() -> None:
    found = scaled_blocks(draw(1, 0), NVFP4)

    assert float(found.scales.astype(np.float32).max()) == 448
    assert (found.codes.dtype, found.scales.dtype) == (ml_dtypes.float4_e2m1fn, ml_dtypes.float8_e4m3fn)
    assert (found.codes.shape, found.scales.shape) == ((3, 64), (3, 4))
    assert found.of_all == scale_of_all(Range(0, float(np.abs(draw(1, 0)).max())))


@pytest.mark.parametrize("precision", [MXFP8, NVFP4])
def test_zeros_stay_zeros_and_nan_is_refused(precision: Precision) -> None:
    array = np.zeros((2, 32), np.float32)
    np.testing.assert_array_equal(scaled_blocks(array, precision).values(), array)
    array[0, 0] = np.nan
    with pytest.raises(ModelError, match="finite"):
        scaled_blocks(array, precision)
