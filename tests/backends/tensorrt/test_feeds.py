"""Batches made to fit an engine, and the words where they do not."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprec.backends.tensorrt.feeds import InputSlot, cast, cut, fit, sample_feed, widen
from autoprec.backends.tensorrt.records import ShapeProfile
from autoprec.errors import DataError


def slot(
    least: tuple[int, ...], best: tuple[int, ...], largest: tuple[int, ...], dtype: object = np.float32, name: str = "x"
) -> InputSlot:
    return InputSlot(name, np.dtype(dtype), ShapeProfile(least, best, largest))  # type: ignore[call-overload]


def rows(count: int, dtype: object = np.float32) -> np.ndarray:
    return (1 + np.arange(count * 3).reshape(count, 3)).astype(dtype)  # type: ignore[call-overload]


BATCHED = slot((2, 3), (4, 3), (8, 3))


@given(st.integers(1, 8))
def test_what_is_padded_is_cut_again(count: int) -> None:
    """Also: the samples themselves never change, and padding repeats the last one."""
    fitted = fit([BATCHED], {"x": rows(count)})
    array = fitted.arrays["x"]

    assert array.shape == (max(2, count), 3)
    np.testing.assert_array_equal(array[:count], rows(count))
    np.testing.assert_array_equal(array[count:], np.repeat(rows(count)[-1:], max(0, 2 - count), axis=0))
    np.testing.assert_array_equal(cut({"y": array}, fitted)["y"], rows(count))


def test_a_batch_within_the_profile_keeps_its_own_shape() -> None:
    fitted = fit([BATCHED], {"x": rows(3)})

    assert (fitted.samples, fitted.padded) == (3, 3)


def test_a_fixed_engine_computes_its_whole_batch() -> None:
    fitted = fit([slot((128, 3), (128, 3), (128, 3))], {"x": rows(50)})

    assert (fitted.samples, fitted.padded) == (50, 128)
    assert fitted.arrays["x"].shape == (128, 3)


def test_inputs_are_padded_together() -> None:
    """The second would fit as it is, but must have as many samples as the first."""
    slots = [slot((4, 3), (4, 3), (4, 3)), slot((1, 3), (2, 3), (8, 3), name="z")]
    fitted = fit(slots, {"x": rows(2), "z": rows(2)})

    assert {name: array.shape for name, array in fitted.arrays.items()} == {"x": (4, 3), "z": (4, 3)}


def test_an_input_without_samples_is_left_alone() -> None:
    slots = [slot((4, 3), (4, 3), (4, 3)), slot((1, 3), (1, 3), (1, 3), name="table")]
    fitted = fit(slots, {"x": rows(1), "table": rows(1)})

    assert fitted.arrays["table"].shape == (1, 3)
    assert fitted.arrays["x"].shape == (4, 3)


def test_inputs_that_disagree_on_samples_are_refused() -> None:
    slots = [slot((4, 3), (4, 3), (4, 3)), slot((4, 3), (4, 3), (4, 3), name="z")]
    with pytest.raises(DataError, match=r"same number of samples, got \{'x': 2, 'z': 3\}"):
        fit(slots, {"x": rows(2), "z": rows(3)})


def test_arrays_are_contiguous() -> None:
    fitted = fit([BATCHED], {"x": np.asfortranarray(rows(4))})

    assert fitted.arrays["x"].flags.c_contiguous


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (rows(9), r"takes 2 to 8 on axis 0, got 9 .*feed at most 8 samples at once, or build the engine for larger"),
        (np.ones((2, 5), np.float32), r"takes 3 on axis 1, got 5 .*data of that shape"),
        (np.ones((2, 3, 1), np.float32), r"must have 2 axes, like \[4, 3\], got shape \[2, 3, 1\]"),
        (np.ones((0, 3), np.float32), r"is empty: its shape is \[0, 3\]; feed at least one sample"),
        (rows(2, np.int64), r"'x' must be float32, got int64; convert"),
        (rows(2, np.uint8), r"'x' must be float32, got uint8; convert"),
        (np.full((2, 3), 1e39), r"is float32 in the engine and holds values beyond its range"),
    ],
)
def test_what_does_not_fit_is_said(array: np.ndarray, words: str) -> None:
    with pytest.raises(DataError, match=words):
        fit([BATCHED], {"x": array})


def test_names_are_compared_first() -> None:
    with pytest.raises(DataError, match="the engine's inputs are 'x'; the batch lacks 'x' and has 'image' besides"):
        fit([BATCHED], {"image": rows(2)})


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ml_dtypes.bfloat16])
def test_floats_are_cast_to_floats(dtype: object) -> None:
    found = cast(rows(2, dtype), BATCHED)

    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, rows(2))


def test_int64_becomes_int32_where_it_fits() -> None:
    """TensorRT 8.6 has no int64."""
    tokens = slot((1, 2), (1, 2), (1, 2), np.int32)
    edges = np.array([[-(2**31), 2**31 - 1]], np.int64)

    found = cast(edges, tokens)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, edges)
    with pytest.raises(DataError, match=r"holds -2147483648 to 2147483647, but the data goes from 0 to 2147483648"):
        cast(np.array([[0, 2**31]], np.int64), tokens)
    with pytest.raises(DataError, match="must be int32, got float32"):
        cast(np.zeros((1, 2), np.float32), tokens)


def test_float16_overflow_is_an_error_and_infinity_is_not() -> None:
    half = slot((1, 1), (1, 1), (1, 1), np.float16)

    assert np.isinf(cast(np.full((1, 1), np.inf, np.float32), half)).all()
    with pytest.raises(DataError, match="beyond its range"):
        cast(np.full((1, 1), 7e4, np.float32), half)


def test_floats_are_not_made_codes() -> None:
    """INT8 and FP8 need a scale that the engine does not tell."""
    for dtype in (np.int8, ml_dtypes.float8_e4m3fn):
        with pytest.raises(DataError, match="convert the data"):
            cast(rows(1), slot((1, 3), (1, 3), (1, 3), dtype))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_narrow_floats_widen_exactly(dtype: object) -> None:
    array = np.array([0.0, -1.5, 448.0, 2.0**-6], np.float32).astype(dtype)  # type: ignore[call-overload]

    assert widen(array).dtype == np.float32
    np.testing.assert_array_equal(widen(array), np.array([0.0, -1.5, 448.0, 2.0**-6], np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.int32, np.int64, np.bool_, np.uint8])
def test_other_types_stay(dtype: object) -> None:
    assert widen(np.zeros(2, dtype)).dtype == dtype  # type: ignore[call-overload]


def test_an_output_without_a_row_for_each_sample_cannot_be_cut() -> None:
    padded = fit([BATCHED], {"x": rows(1)})
    with pytest.raises(DataError, match=r"padded to the engine's least, 2, but the output 'mean' of shape \[3\]"):
        cut({"mean": np.zeros(3)}, padded)
    whole = fit([BATCHED], {"x": rows(2)})
    assert cut({"mean": np.zeros(3)}, whole)["mean"].shape == (3,)


def test_the_feed_of_a_benchmark_is_what_the_engine_is_tuned_for() -> None:
    tokens = slot((1, 7), (4, 7), (8, 7), np.int32, "tokens")
    feed = sample_feed([BATCHED, tokens])

    assert feed["x"].shape == (4, 3)
    assert feed["x"].dtype == np.float32
    assert np.abs(feed["x"]).max() <= 1
    assert feed["x"].std() > 0.1
    assert not feed["tokens"].any()
    assert feed["tokens"].dtype == np.int32
    np.testing.assert_array_equal(feed["x"], sample_feed([BATCHED, tokens])["x"])


def test_batch_and_shapes_of_a_benchmark() -> None:
    table = slot((1, 3), (1, 3), (1, 3), name="table")

    assert sample_feed([BATCHED, table], batch=8)["x"].shape == (8, 3)
    assert sample_feed([BATCHED, table], batch=8)["table"].shape == (1, 3)
    assert sample_feed([BATCHED], batch=8, shapes={"x": (5, 3)})["x"].shape == (5, 3)
    with pytest.raises(DataError, match="takes 2 to 8 on axis 0, got 9"):
        sample_feed([BATCHED], batch=9)
    with pytest.raises(DataError, match="takes 1 on axis 0, got 2"):
        sample_feed([table], batch=2)
    with pytest.raises(DataError, match="there is no input 'image' to shape; the engine has 'x'"):
        sample_feed([BATCHED], shapes={"image": (1, 3)})
    with pytest.raises(DataError, match="must have 2 axes"):
        sample_feed([BATCHED], shapes={"x": (1, 3, 8, 8)})
