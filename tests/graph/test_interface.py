"""Data that does not fit the model is refused in words that say what to do; what fits is cast exactly."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from autoprec.errors import DataError
from autoprec.graph.interface import Batch, Interface, TensorSpec, check_batch, check_samples, is_float


def spec(name: str, dtype: object = np.float32, shape: tuple[int | str | None, ...] = ("N", 3)) -> TensorSpec:
    return TensorSpec(name, np.dtype(dtype), shape)  # type: ignore[call-overload]


def interface(*inputs: TensorSpec) -> Interface:
    return Interface(inputs, (spec("y"),))


ONE = interface(spec("x"))
TWO = interface(spec("ids", np.int64, ("N", "length")), spec("mask", np.int64, ("M", "length")))


def check(batch: dict[str, np.ndarray], model: Interface = ONE, labels: np.ndarray | None = None) -> Batch:
    return check_batch(Batch(batch, labels), model, "calib.npz")


def test_a_batch_that_fits_comes_back_in_the_models_order() -> None:
    labels = np.array([1, 2])
    ids, mask = np.ones((2, 5), np.int64), np.zeros((2, 5), np.int64)
    batch = check({"mask": mask, "ids": ids}, TWO, labels)

    assert list(batch.inputs) == ["ids", "mask"]
    assert batch.inputs["ids"] is ids
    assert batch.labels is labels
    assert batch.count == 2


@pytest.mark.parametrize(
    ("batch", "model", "words"),
    [
        (
            {"img": np.ones((2, 3))},
            ONE,
            "names its array 'img', but the model's only input is 'x'; store .* 'x'",
        ),
        (
            {"ids": np.ones((2, 3))},
            TWO,
            "no array for input 'mask'; it has 'ids', .* inputs are 'ids', 'mask'",
        ),
        ({"a": np.ones(2)}, TWO, "no array for inputs 'ids', 'mask'; it has 'a'"),
        ({}, ONE, "no array for input 'x'; it has nothing"),
        (
            {"x": np.ones((2, 3)), "lables": np.ones(2)},
            ONE,
            r"'lables'.* not take \(did you mean 'labels'\?\)",
        ),
        (
            {"x": np.ones((2, 3)), "q": np.ones(2)},
            ONE,
            "has 'q', which the model does not take; its inputs are 'x'",
        ),
    ],
)
def test_names_must_be_those_of_the_inputs(batch: dict[str, np.ndarray], model: Interface, words: str) -> None:
    with pytest.raises(DataError, match=words):
        check(batch, model)


@pytest.mark.parametrize(
    ("array", "model", "words"),
    [
        (np.zeros((2, 3), np.uint8), ONE, r"'x' must be float32, got uint8 in calib.npz; .*\(x / 255.0\)"),
        (np.zeros((2, 3), np.int64), ONE, "must be float32, got int64"),
        (np.zeros((2, 3), bool), ONE, r"must be float32, got bool.*x\.astype\('float32'\)"),
        (np.zeros((2, 3)), interface(spec("x", np.int64)), "must be int64, got float64 .*whole numbers"),
        (
            np.zeros((2, 3), np.int64),
            interface(spec("x", np.int32)),
            r"must be int32, got int64.*astype\('int32'\)",
        ),
        (np.zeros((2, 3), np.int8), interface(spec("x", np.uint8)), "must be uint8, got int8"),
        (np.zeros((2, 3), np.int32), interface(spec("x", bool)), "must be bool, got int32"),
        (np.full((2, 3), "a"), ONE, "must be float32, got <U1"),
    ],
)
def test_another_kind_of_number_is_refused_with_advice(array: np.ndarray, model: Interface, words: str) -> None:
    with pytest.raises(DataError, match=words):
        check({"x": array}, model)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (np.int32, np.int64),
        (np.uint8, np.int32),
        (np.float64, np.float32),
        (np.float16, np.float32),
        (np.float32, np.float16),
        (np.float32, ml_dtypes.bfloat16),
        (">f4", np.float32),
        (bool, bool),
    ],
)
def test_numbers_of_the_same_kind_are_cast(found: object, wanted: object) -> None:
    array = np.array([[0, 1, 1]]).astype(found)  # type: ignore[call-overload]
    cast = check({"x": array}, interface(spec("x", wanted))).inputs["x"]

    assert cast.dtype == np.dtype(wanted)  # type: ignore[call-overload]
    assert cast.astype(float).tolist() == [[0, 1, 1]]


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (
            (2, 4, 3),
            r"'x' must have shape \(samples, 3, h\), got \(2, 4, 3\) in calib.npz; axis 1 must have length 3",
        ),
        ((2, 3), r"got \(2, 3\) in calib.npz; give 3 axes, the first of them samples"),
        ((3,), "give 3 axes"),
        ((0, 3, 4), "calib.npz has no samples"),
    ],
)
def test_rank_and_fixed_lengths_must_be_the_models(shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(DataError, match=words):
        check({"x": np.zeros(shape, np.float32)}, interface(spec("x", np.float32, ("N", 3, "h"))))


def test_a_named_length_is_one_length_in_all_inputs() -> None:
    with pytest.raises(DataError, match="dimension 'length' is 5 in input 'ids', so it must be 5 here"):
        check({"ids": np.ones((2, 5), np.int64), "mask": np.ones((2, 6), np.int64)}, TWO)


@pytest.mark.parametrize("free", [None, ""])
def test_an_unknown_length_may_be_anything(free: str | None) -> None:
    model = interface(spec("a", np.float32, (None, free)), spec("b", np.float32, (None, free)))

    assert check({"a": np.zeros((2, 5)), "b": np.zeros((2, 7))}, model).count == 2


def test_all_inputs_and_labels_have_the_same_number_of_samples() -> None:
    with pytest.raises(DataError, match=r"same number of samples .*'ids' has 2, 'mask' has 3"):
        check({"ids": np.ones((2, 5), np.int64), "mask": np.ones((3, 5), np.int64)}, TWO)
    with pytest.raises(DataError, match="'x' has 2, 'labels' has 4"):
        check({"x": np.ones((2, 3))}, ONE, np.zeros(4))


@pytest.mark.parametrize(
    ("bad", "dtype", "words"),
    [
        (np.nan, np.float32, "input 'x' of calib.npz holds NaN in sample 2, counted from 0"),
        (np.inf, np.float32, "holds infinity in sample 2"),
        (-np.inf, np.float64, "holds infinity in sample 2"),
        (1e300, np.float64, "holds a number too large for float32 in sample 2"),
    ],
)
def test_numbers_that_are_not_finite_are_named_by_sample(bad: float, dtype: type, words: str) -> None:
    array = np.zeros((4, 3), dtype)
    array[2, 1] = bad
    with pytest.raises(DataError, match=words):
        check({"x": array})


def test_the_samples_own_numbers_are_named_where_they_are_known() -> None:
    array = np.full((2, 3), np.nan, np.float32)
    with pytest.raises(DataError, match=r"in sample 17 \(2 samples of 2 read\)"):
        check_samples(Batch({"x": array}, None), ONE, "data", samples=[17, 5])


def test_a_model_fixed_to_some_samples_takes_no_others() -> None:
    fixed = interface(spec("x", np.float32, (8, 3)))

    assert fixed.batch_size == 8
    assert ONE.batch_size is None
    assert check({"x": np.zeros((8, 3))}, fixed).count == 8
    assert check_samples(Batch({"x": np.zeros((5, 3))}, None), fixed).count == 5
    with pytest.raises(DataError, match=r"takes exactly 8 samples at a time, got 5 .*dynamic first axis"):
        check({"x": np.zeros((5, 3))}, fixed)


def test_an_input_without_an_axis_for_samples_takes_one_sample_at_a_time() -> None:
    model = Interface((TensorSpec("x", np.dtype(np.float32), (), None),), ())

    assert model.batch_size == 1
    assert check_samples(Batch({"x": np.zeros(2, np.float32)}, None), model).count == 2


def test_height_and_width_of_one_input_may_share_a_name() -> None:
    model = interface(spec("x", np.float32, ("N", 3, "side", "side")))

    assert check({"x": np.zeros((2, 3, 8, 20))}, model).count == 2


def test_float_types_beyond_numpy_are_floats() -> None:
    floats = (np.float16, np.float32, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn)

    assert all(is_float(np.dtype(dtype)) for dtype in floats)
    assert not any(is_float(np.dtype(dtype)) for dtype in (np.int8, bool, np.uint64))
