"""Samples of different shapes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autoprec.data.dataset import Dataset
from autoprec.data.sources import load_data
from autoprec.data.splits import make_splits
from autoprec.graph.interface import Interface, TensorSpec

TEXTS = Interface((TensorSpec("ids", np.dtype(np.int64), ("N", "S")),), ())
LENGTHS = (5, 3, 5, 4, 3, 5, 5)
ONE_EACH = [{"ids": np.full(n, k), "labels": np.int64(k)} for k, n in enumerate(LENGTHS)]


def shapes(data: Dataset, size: int) -> list[tuple[int, ...]]:
    return [batch.inputs["ids"].shape for batch in data.batches(size)]


def files(folder: Path, suffix: str) -> Path:
    for number, sample in enumerate(ONE_EACH):
        if suffix == "npz":
            np.savez(folder / f"{number}.npz", ids=sample["ids"][None], labels=[number])
        else:
            np.save(folder / f"{number}.npy", sample["ids"])
    if suffix == "npy":
        np.save(folder / "labels.npy", np.arange(len(LENGTHS)))
    return folder


@pytest.mark.parametrize("form", ["list", "npz", "npy"])
def test_a_batch_holds_samples_of_one_length_and_nothing_is_padded(tmp_path: Path, form: str) -> None:
    data = load_data(ONE_EACH if form == "list" else files(tmp_path, form), TEXTS)

    assert shapes(data, 3) == [(3, 5), (1, 5), (2, 3), (1, 4)]
    for batch in data.batches(3):  # each sample keeps its label
        assert batch.labels is not None
        np.testing.assert_array_equal(batch.inputs["ids"][:, 0], batch.labels)


def test_parts_of_the_data_keep_their_buckets() -> None:
    splits = make_splits(None, load_data(ONE_EACH, TEXTS), 0)
    parts = [splits.calibrate, splits.select, splits.report, splits.select.merged(splits.report)]

    assert [sum(shape[0] for shape in shapes(part, 8)) for part in parts] == [part.count for part in parts]
    assert sum(part.count for part in parts[:3]) == len(LENGTHS)


def test_the_largest_bucket_is_the_shape_of_most_samples() -> None:
    assert shapes(load_data(ONE_EACH, TEXTS).largest_bucket(), 8) == [(4, 5)]


@pytest.mark.parametrize("data", [{"x": np.zeros((3, 4, 2), "f")}, [{"x": np.zeros((4, 2), "f")}] * 3])
def test_a_model_without_an_axis_for_samples_gets_one_sample_a_run(data: Any) -> None:
    model = Interface((TensorSpec("x", np.dtype(np.float32), (4, 2), None),), ())

    assert [batch.inputs["x"].shape for batch in load_data(data, model).batches(8)] == [(1, 4, 2)] * 3


def test_one_npy_file_for_each_input_is_data_too(tmp_path: Path) -> None:
    np.save(tmp_path / "ids.npy", np.ones((4, 6), np.int64))
    np.save(tmp_path / "labels.npy", np.arange(4))

    assert load_data(tmp_path, TEXTS).has_labels
    assert load_data(tmp_path / "ids.npy", TEXTS).count == 4
