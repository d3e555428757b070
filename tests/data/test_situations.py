"""Situations: lengths of open axes, as text, and as inputs of one run."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from autoprec.data.dataset import Dataset
from autoprec.data.situations import parse_situations, situated_feed
from autoprec.errors import UsageError
from autoprec.graph.interface import Interface, TensorSpec

INTEGER, FLOAT = np.dtype(np.int64), np.dtype(np.float32)
DECODER = Interface(
    (
        TensorSpec("ids", INTEGER, ("n", "length")),
        TensorSpec("mask", INTEGER, ("n", "past + length")),
        TensorSpec("keys", FLOAT, ("n", 2, "past", None)),
    ),
    (),
)


@pytest.fixture(name="data")
def _data() -> Dataset:
    """Three samples of four tokens after four others."""
    rows = np.arange(12).reshape(3, 4)
    return Dataset.from_arrays(
        {
            "ids": rows,
            "mask": np.ones((3, 8), np.int64),
            "keys": np.arange(3 * 2 * 4 * 5, dtype=np.float32).reshape(3, 2, 4, 5),
        }
    )


def feed(data: Dataset, text: str) -> dict[str, Any]:
    (situation,) = parse_situations([text])
    return situated_feed(DECODER, data, situation, batch=2)


def test_axes_have_the_lengths_of_the_situation_and_the_values_of_samples(data: Dataset) -> None:
    found = feed(data, "decode:batch=2,length=1,past=6")

    assert {name: array.shape for name, array in found.items()} == {"ids": (2, 1), "mask": (2, 7), "keys": (2, 2, 6, 5)}
    assert found["ids"].tolist() == [[0], [4]]
    np.testing.assert_array_equal(found["keys"][1, 0, :, 0], [40, 45, 50, 55, 40, 45])
    assert found["mask"].all()


def test_a_cache_may_be_empty_and_an_axis_that_is_not_told_stays(data: Dataset) -> None:
    found = feed(data, "prefill:length=9,past=0")

    assert {name: array.shape for name, array in found.items()} == {"ids": (2, 9), "mask": (2, 9), "keys": (2, 2, 0, 5)}
    assert feed(data, "usual:batch=1")["mask"].shape == (1, 8)


def test_an_axis_without_a_name_is_told_by_its_input_and_number(data: Dataset) -> None:
    assert feed(data, "wide:keys.3=7")["keys"].shape == (2, 2, 4, 7)


def test_an_axis_that_the_model_does_not_leave_open_is_refused_with_those_that_it_does(data: Dataset) -> None:
    said = "gives a length to 'tokens', but the axes that the model leaves open are batch, length, past + length, past"
    with pytest.raises(UsageError, match=re.escape(said)):
        feed(data, "decode:tokens=1")


@pytest.mark.parametrize("text", ["decode", ":batch=1", "a:batch", "a:batch=x", "a:batch=0", "a:batch=1,batch=2", "a:"])
def test_a_text_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(repr(text))):
        parse_situations([text])


def test_two_situations_of_one_name_are_refused() -> None:
    with pytest.raises(UsageError, match="a name of its own, got a, a"):
        parse_situations(["a:batch=1", "a:batch=2"])
