"""Items that come one after the other become a data set that can be read in any order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from autoprec.data.sources import load_data
from autoprec.errors import DataError
from autoprec.graph.interface import Interface, TensorSpec
from autoprec.precision import Array

F32 = np.dtype(np.float32)
ONE = Interface((TensorSpec("x", F32, ("N", 2)),), (TensorSpec("y", F32, ("N", 2)),))
TWO = Interface(
    (TensorSpec("ids", np.dtype(np.int64), ("N", "L")), TensorSpec("mask", F32, ("N", "L"))),
    (TensorSpec("y", F32, ("N",)),),
)


def rows(start: int, count: int, width: int = 2) -> Array:
    return np.arange(start, start + count * width, dtype=np.float32).reshape(count, width)


class Tensor:
    """What a tensor on another device is like: no array unless it is asked for."""

    def __init__(self, array: Array) -> None:
        self.array, self.shape = array, array.shape

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> Array:
        return self.array


class Shuffled:
    """What a loader is like that gives another order each time."""

    dataset, sampler = "the samples", "any order"

    def __init__(self, seed: int) -> None:
        self.order = np.random.default_rng(seed).permutation(6)

    def __iter__(self) -> Iterator[Any]:
        x, labels = rows(0, 6), np.arange(6)
        for part in np.split(self.order, 3):
            yield Tensor(x[part]), Tensor(labels[part])


class Samples:
    """What a data set with a length is like: samples without an axis for them."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        return rows(0, 3)[index], index  # it raises no IndexError of its own, as those of torch may not


def test_a_loader_that_shuffles_gives_the_same_data_each_time() -> None:
    one, other = (load_data(Shuffled(seed), ONE) for seed in (1, 2))

    assert one.count == 6
    assert one.digests() == other.digests()
    read = one.read(range(6))
    assert read.labels is not None
    assert np.array_equal(read.inputs["x"][:, 0], 2 * read.labels)


def test_samples_without_an_axis_are_taken_from_a_data_set_with_a_length() -> None:
    data = load_data(Samples(), ONE)

    assert np.array_equal(data.read([2, 0]).inputs["x"], rows(0, 3)[[2, 0]])
    assert list(data.read([2, 0]).labels) == [2, 0]


def test_a_generator_is_read_once_and_kept_in_order() -> None:
    def batches() -> Iterator[Any]:
        array = np.zeros((2, 2), np.float64)  # the same one each time, as a careless loader does
        for number in range(3):
            array[:] = number
            yield array

    data = load_data(batches(), ONE)

    assert list(data.read(range(6)).inputs["x"][:, 0]) == [0, 0, 1, 1, 2, 2]
    assert data.read([1]).inputs["x"].dtype == F32


@pytest.mark.parametrize(
    "item",
    [
        (rows(0, 2), rows(4, 2), np.arange(2)),
        ((rows(0, 2), rows(4, 2)), np.arange(2)),
        ({"ids": rows(0, 2), "mask": rows(4, 2)}, np.arange(2)),
        {"mask": Tensor(rows(4, 2)), "ids": rows(0, 2), "labels": np.arange(2)},
    ],
)
def test_the_forms_of_a_batch_for_two_inputs(item: Any) -> None:
    def whole(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: whole(part) if key == "ids" else part for key, part in value.items()}
        if isinstance(value, tuple):
            return (whole(value[0]), *value[1:])
        return value.astype(np.int64)

    for source in ([whole(item)], iter([whole(item)])):
        read = load_data(source, TWO).read([0, 1])

        assert read.inputs["ids"].tolist() == [[0, 1], [2, 3]]
        assert read.inputs["mask"].tolist() == [[4, 5], [6, 7]]
        assert list(read.labels) == [0, 1]


def test_one_tensor_and_a_tuple_of_tensors_are_all_samples() -> None:
    assert load_data(Tensor(rows(0, 5)), ONE).count == 5
    assert list(load_data((Tensor(rows(0, 5)), np.arange(5)), ONE).read([3]).labels) == [3]


def test_samples_of_two_shapes_share_no_batch() -> None:
    def texts() -> Iterator[Any]:
        for length in (3, 4, 3):
            yield np.ones((1, length), np.int64), np.ones((1, length), np.float32), np.array([length])

    data = load_data(texts(), TWO)

    assert data.buckets.tolist() == [0, 0, 1]
    assert list(data.read([0, 1]).labels) == [3, 3]


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (
            (rows(0, 2),) * 4,
            r"batch 1 of the \w+ given must be .*2 inputs 'ids', 'mask'.*got a tuple of 4 \(ndarray of sh",
        ),
        ("text", "got str"),
        ({"ids": np.ones((2, 2), np.int64)}, "same arrays, but batch 1 holds"),
        ((np.ones((2, 2), np.int64), rows(0, 3)), "same number of samples"),
        ((rows(0, 2), rows(0, 2)), "input 'ids' must be int64, got float32"),
    ],
)
def test_a_batch_that_does_not_fit_is_said_with_its_number(item: Any, message: str) -> None:
    first = (np.ones((2, 2), np.int64), np.ones((2, 2), np.float32))

    with pytest.raises(DataError, match=message):
        load_data(iter([first, item]), TWO)


def test_an_empty_loader_and_one_that_raises_are_errors() -> None:
    def failing() -> Iterator[Any]:
        yield rows(0, 2)
        raise OSError("no disk")

    with pytest.raises(DataError, match="the list_iterator given has no samples"):
        load_data(iter([]), ONE)
    with pytest.raises(DataError, match="raised OSError: no disk, after 2 samples"):
        load_data(failing(), ONE)
