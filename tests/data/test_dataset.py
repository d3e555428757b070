"""A data set is a view: batches, subsets of subsets, and identity by content."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprec.data.dataset import Batch, Dataset
from autoprec.errors import DataError


def numbered(count: int, labels: bool = True) -> Dataset:
    """Sample i holds i; its label is -i."""
    values = np.arange(count)
    return Dataset.from_arrays({"x": values.astype(np.float32)[:, None]}, -values if labels else None, "numbers")


def content(data: Dataset, size: int = 4) -> list[int]:
    return [int(value) for batch in data.batches(size) for value in batch.inputs["x"][:, 0]]


class Counting:
    """A source that remembers what was read."""

    count = 10
    input_names = ("x",)
    has_labels = False
    origin = "counting"

    def __init__(self) -> None:
        self.reads: list[int] = []

    def read(self, indices: Sequence[int]) -> Batch:
        self.reads += indices
        return Batch({"x": np.array(indices, np.float32)[:, None]}, None)


def test_batches_hold_all_samples_in_order_and_the_last_may_be_short() -> None:
    batches = list(numbered(7).batches(3))

    assert [batch.count for batch in batches] == [3, 3, 1]
    assert content(numbered(7)) == list(range(7))
    assert np.concatenate([batch.labels for batch in batches]).tolist() == [-i for i in range(7)]  # type: ignore[misc]


def test_what_a_data_set_says_of_itself() -> None:
    data = numbered(3)

    assert (data.count, data.input_names, data.has_labels, data.origin) == (3, ("x",), True, "numbers")
    assert not numbered(3, labels=False).has_labels


@given(st.data())
def test_subsets_compose_like_indexing(data: st.DataObject) -> None:
    first = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=12))
    second = data.draw(st.lists(st.integers(0, len(first) - 1), min_size=1, max_size=12))
    view = numbered(10).subset(first).subset(second)

    assert content(view) == [first[index] for index in second]
    assert view.count == len(second)


def test_batches_are_read_one_at_a_time() -> None:
    source = Counting()
    batches = Dataset(source, range(2, 9)).batches(3)
    assert source.reads == []

    next(batches)
    assert source.reads == [2, 3, 4]


@pytest.mark.parametrize("indices", [[3], [-1], [0, 99]])
def test_indices_outside_are_refused(indices: list[int]) -> None:
    with pytest.raises(DataError, match="numbers has 3 samples, so indices run from 0 to 2"):
        numbered(3).subset(indices)


def test_there_must_be_samples() -> None:
    with pytest.raises(DataError, match="numbers has no samples"):
        numbered(3).subset([])
    with pytest.raises(DataError, match="numbers has no samples"):
        numbered(0)
    with pytest.raises(DataError, match="arrays has no arrays"):
        Dataset.from_arrays({})
    with pytest.raises(ValueError, match="at least 1 sample, got size 0"):
        numbered(3).batches(0)


def test_arrays_must_have_the_same_length() -> None:
    with pytest.raises(DataError, match="same number of samples on the first axis, but 'a' has 2, 'b' has 3"):
        Dataset.from_arrays({"a": np.zeros(2), "b": np.zeros(3)})
    with pytest.raises(DataError, match="'a' has 2, 'labels' has 1"):
        Dataset.from_arrays({"a": np.zeros(2)}, np.zeros(1))
    with pytest.raises(DataError, match="'a' of arrays is a single number"):
        Dataset.from_arrays({"a": np.float32(1)})


def test_digests_tell_samples_apart_by_inputs_alone() -> None:
    values = np.array([[1.0], [2.0], [1.0]])
    first = Dataset.from_arrays({"x": values}, np.array([0, 1, 2])).digests()

    assert first[0] == first[2] != first[1]
    assert first == Dataset.from_arrays({"x": values}, None, "elsewhere").digests()
    assert first[0] not in Dataset.from_arrays({"x": values.astype(np.float32)}).digests()
    assert first[0] not in Dataset.from_arrays({"z": values}).digests()


def test_the_fingerprint_is_of_content_labels_and_order() -> None:
    data = numbered(6)
    same = [numbered(6), data.subset(range(6)), data.subset(range(5, -1, -1)).subset(range(5, -1, -1))]
    others = [numbered(5), numbered(6, labels=False), data.subset([1, 0, 2, 3, 4, 5]), data.subset([0, 0])]

    assert {view.fingerprint() for view in same} == {data.fingerprint()}
    assert len({view.fingerprint() for view in [data, *others]}) == 5


def test_content_is_read_once_for_a_set_and_all_its_subsets() -> None:
    source = Counting()
    data = Dataset(source)
    data.digests()
    data.fingerprint()
    chosen = data.subset([7, 1])

    assert chosen.digests() == (data.digests()[7], data.digests()[1])
    assert source.reads == list(range(10))


def test_identities_tell_labels_apart_and_digests_do_not() -> None:
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    first = Dataset.from_arrays({"x": x}, np.array([0, 1, 2]))
    second = Dataset.from_arrays({"x": x}, np.array([0, 1, 3]))

    assert first.digests() == second.digests()
    assert first.identities()[:2] == second.identities()[:2]
    assert first.identities()[2] != second.identities()[2]
    assert first.subset([2, 0]).identities() == (first.identities()[2], first.identities()[0])
