"""What a model is fed for samples, and the outputs of each sample."""

from __future__ import annotations

import numpy as np
import pytest

from autoprec.data.feeds import feed_of, outputs_of_samples, samples_fed
from autoprec.errors import DataError
from autoprec.graph.interface import Batch, Interface, TensorSpec
from autoprec.precision import Array

F32 = np.dtype(np.float32)


def interface(inputs: list[TensorSpec], *outputs: TensorSpec) -> Interface:
    return Interface(tuple(inputs), outputs)


def spec(name: str, shape: tuple[int | str | None, ...], axis: int | None = 0) -> TensorSpec:
    return TensorSpec(name, F32, shape, axis)


def outputs(array: Array, fed: int, count: int, axis: int | None = 0) -> dict[str, Array]:
    model = interface([spec("x", ("N",))], spec("y", (None,) * array.ndim, axis))
    return outputs_of_samples({"y": array}, model, fed, count)


def test_samples_are_moved_to_the_axis_that_the_model_has_for_them() -> None:
    model = interface([spec("x", ("S", "N", 2), 1), spec("state", (1, "N", 4), 1)])
    x, state = np.arange(30, dtype="f").reshape(3, 5, 2), np.arange(12, dtype="f").reshape(3, 1, 4)
    batch = Batch({"x": x, "state": state}, None)
    feed = feed_of(batch, model, 4)

    assert (feed["x"].shape, feed["state"].shape) == ((5, 4, 2), (1, 4, 4))
    np.testing.assert_array_equal(feed["x"][:, :3], x.transpose(1, 0, 2))
    np.testing.assert_array_equal(feed["x"][:, 3], x[2])
    assert samples_fed(feed, batch, model) == 4


def test_a_sample_that_is_a_whole_input_is_fed_as_it_is() -> None:
    model = interface([spec("x", (3, 8), None), spec("rate", (), None)])
    batch = Batch({"x": np.ones((1, 3, 8), F32), "rate": np.ones(1, F32)}, None)
    feed = feed_of(batch, model, 1)

    assert (feed["x"].shape, feed["rate"].shape, samples_fed(feed, batch, model)) == ((3, 8), (), 1)


def test_a_batch_that_is_merged_into_another_axis_is_split_again() -> None:
    rows = np.arange(24.0).reshape(12, 2)
    found = outputs(rows, fed=4, count=3)["y"]

    np.testing.assert_array_equal(found, rows.reshape(4, 3, 2)[:3])
    np.testing.assert_array_equal(outputs(rows[:3], fed=1, count=1)["y"], found[:1])


def test_samples_on_a_later_axis_of_an_output_come_first() -> None:
    states = np.arange(24.0).reshape(2, 4, 3)

    np.testing.assert_array_equal(outputs(states, fed=4, count=4, axis=1)["y"], states.transpose(1, 0, 2))


def test_one_number_holds_for_each_sample_and_a_constant_table_is_left_out() -> None:
    assert outputs(np.float32(2), fed=3, count=2)["y"].tolist() == [2, 2]
    assert outputs(np.zeros((6, 4)), fed=6, count=6, axis=None) == {}


def test_rows_that_cannot_be_divided_are_refused_with_the_way_out() -> None:
    with pytest.raises(DataError, match=r"'y' must have one entry per sample .* by --batch 1"):
        outputs(np.zeros((7, 4)), fed=3, count=3)


def test_a_copy_of_an_output_is_read_as_the_output_is() -> None:
    model = interface([spec("x", ("N",))], spec("y", ("S", "N"), 1))
    array = np.arange(8.0).reshape(4, 2)
    found = outputs_of_samples({"y": array, "y of a plan": array}, model, 2, 2)

    np.testing.assert_array_equal(found["y of a plan"], array.T)


def test_an_output_that_is_a_sequence_is_left_out_and_one_alone_is_refused() -> None:
    rows = np.zeros((2, 3))
    model = interface([spec("x", ("N",))], spec("y", ("N", 3)), spec("parts", ()))
    found = outputs_of_samples({"y": rows, "parts": [rows, rows]}, model, 2, 2)  # type: ignore[dict-item]

    assert list(found) == ["y"]
    with pytest.raises(DataError, match="'parts' gives sequences"):
        outputs_of_samples({"parts": [rows]}, model, 2, 2)  # type: ignore[dict-item]
