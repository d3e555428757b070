"""Splits are disjoint, complete, reproducible, and say what they did."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprec.data.dataset import Dataset
from autoprec.data.splits import Splits, balanced, make_splits, shortened
from autoprec.errors import DataError


def holding(values: list[int] | range, origin: str = "data") -> Dataset:
    return Dataset.from_arrays({"x": np.array(values, np.int64)}, None, origin)


def content(data: Dataset) -> list[int]:
    return [int(value) for batch in data.batches(64) for value in batch.inputs["x"]]


def counts(splits: Splits) -> tuple[int, int, int]:
    return splits.calibrate.count, splits.select.count, splits.report.count


def test_two_sets_keep_their_roles() -> None:
    calib, evaluate = holding(range(100, 108), "calib.npz"), holding(range(11), "eval.npz")
    splits = make_splits(calib, evaluate, seed=3)

    assert splits.calibrate is calib
    assert counts(splits) == (8, 6, 5)
    assert sorted(content(splits.select) + content(splits.report)) == list(range(11))
    assert splits.overlap == 0
    assert splits.text == (
        "8 calibration samples, all of calib.npz; eval.npz split by seed 3 into 6 selection and 5 held-out samples; no "
        "sample is in both parts"
    )


@pytest.mark.parametrize(
    ("count", "expected"), [(3, (1, 1, 1)), (10, (2, 4, 4)), (101, (20, 41, 40)), (4000, (512, 1744, 1744))]
)
@pytest.mark.parametrize("role", ["calib", "evaluate"])
def test_a_single_set_is_split_in_three(count: int, expected: tuple[int, int, int], role: str) -> None:
    data = holding(range(count), "data.npz")
    splits = make_splits(**{"calib": None, "evaluate": None, role: data}, seed=0)  # type: ignore[arg-type]
    parts = [content(part) for part in (splits.calibrate, splits.select, splits.report)]

    assert counts(splits) == expected
    assert sorted(sum(parts, [])) == list(range(count))  # noqa: RUF017 - three lists
    assert splits.text == (
        f"data.npz ({count} samples) split by seed 0 into {expected[0]} calibration, {expected[1]} selection and "
        f"{expected[2]} held-out samples; no sample is in two parts"
    )


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60), st.integers(0, 5), st.booleans())
def test_equal_samples_stay_together(values: list[int], seed: int, two: bool) -> None:
    """Whatever repeats, the parts share no content, lose no sample, and none is empty."""
    data = holding(values)
    if len(set(values)) < (2 if two else 3):
        with pytest.raises(DataError, match="different samples"):
            make_splits(holding([99]) if two else None, data, seed)
        return
    splits = make_splits(holding([99]) if two else None, data, seed)
    parts = [content(part) for part in (splits.select, splits.report, *([] if two else [splits.calibrate]))]

    assert sorted(value for part in parts for value in part) == sorted(values)
    assert sum(len(set(part)) for part in parts) == len(set(values))
    assert all(parts)


def test_the_seed_decides_and_repeats() -> None:
    data = holding(range(40))
    first, again, other = (content(make_splits(None, data, seed).select) for seed in (1, 1, 2))

    assert first == again != other


def test_the_shuffle_mixes_sorted_data() -> None:
    """Data sorted by class must not be cut in the middle."""
    select = content(make_splits(holding([9999]), holding(range(1000)), seed=0).select)

    assert 400 < np.mean(select) < 600


def test_calibration_samples_that_are_evaluated_too_are_reported() -> None:
    splits = make_splits(holding([1, 2, 2, 50], "c"), holding(range(10), "e"), seed=0)

    assert splits.overlap == 3
    assert "warning: 3 of the 4 calibration samples also occur in e" in splits.text


@pytest.mark.parametrize(
    ("calib", "evaluate", "words"),
    [
        (None, None, "no data .*give --calib, --eval or both"),
        ([1], [1], "at least 2 different samples, .* but it has 1; give more evaluation data"),
        ([1], [4, 4, 4], "at least 2 different samples"),
        (None, [1, 2], "at least 3 different samples, .* but it has 2; give more data, or a second set"),
        ([1, 2], None, "at least 3 different samples"),
    ],
)
def test_too_few_samples_say_how_many_are_needed(
    calib: list[int] | None, evaluate: list[int] | None, words: str
) -> None:
    with pytest.raises(DataError, match=words):
        make_splits(calib and holding(calib), evaluate and holding(evaluate), seed=0)  # type: ignore[arg-type]


def test_balanced_halves_are_equally_hard_where_a_shuffle_is_not() -> None:
    splits = make_splits(holding([9999]), holding(range(400)), seed=1)
    samples = np.array([*content(splits.select), *content(splits.report)])
    keys = np.stack([samples % 4 == 0, samples / 400], axis=1).astype(np.float64)

    fair = balanced(splits, keys, seed=1)

    halves = [np.array(content(half)) for half in (fair.select, fair.report)]
    assert [int((half % 4 == 0).sum()) for half in halves] == [50, 50]
    assert abs(halves[0].mean() - halves[1].mean()) < 1.5, "neighbours by margin go to different halves"
    assert sorted(np.concatenate(halves).tolist()) == list(range(400))
    assert "equally hard" in fair.text


@given(values=st.lists(st.integers(0, 9), min_size=4, max_size=40), seed=st.integers(0, 5))
def test_balancing_keeps_equal_samples_together_and_loses_none(values: list[int], seed: int) -> None:
    if len(set(values)) < 2:
        values = [*values, 99]
    splits = make_splits(holding([777]), holding(values), seed)
    samples = np.array([*content(splits.select), *content(splits.report)], np.float64)

    fair = balanced(splits, samples[:, None], seed)

    select, report = content(fair.select), content(fair.report)
    assert not set(select) & set(report)
    assert sorted([*select, *report]) == sorted(values)


def test_for_lack_of_time_both_parts_are_halved_evenly_until_they_fit() -> None:
    splits = make_splits(holding(range(100, 108)), holding(range(400)), seed=3)
    short = shortened(splits, 60.0)

    assert counts(short) == (8, 50, 50)
    assert content(short.select) == content(splits.select)[::4]
    assert short.text.endswith("; for lack of time, only every 4th of them is used: 50 selection, 50 held-out samples")


@pytest.mark.parametrize("most", [200.0, float("inf")])
def test_parts_that_fit_stay_as_they_are(most: float) -> None:
    splits = make_splits(holding(range(100, 108)), holding(range(400)), seed=3)

    assert shortened(splits, most) is splits


def test_however_little_time_there_is_32_samples_are_left_or_all_of_fewer() -> None:
    many, few = (make_splits(holding(range(1000, 1008)), holding(range(n)), seed=3) for n in (400, 40))

    assert counts(shortened(many, 1.0)) == (8, 50, 50)
    assert shortened(few, 1.0) is few
