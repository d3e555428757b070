"""Outputs of several kinds are judged by the kind that fares worst, and outputs of one kind as they always were."""

from __future__ import annotations

import numpy as np
import pytest

from autoprec.metrics.kinds import mixed
from autoprec.metrics.scores import agreement, cosine, kl, noise_to_signal

Array = np.ndarray
RANDOM = np.random.default_rng(0)
BOXES = RANDOM.uniform(10, 400, (4, 50, 4))
SCORES = np.where(RANDOM.random((4, 50, 6)) < 0.05, 0.9, RANDOM.uniform(0, 0.002, (4, 50, 6)))
DETECTOR = np.concatenate([BOXES, SCORES], axis=2)
ERASED = np.concatenate([BOXES, np.roll(SCORES, 7, axis=1)], axis=2)
"""The same boxes, and every score at another place."""


def laid_out(array: Array, form: str) -> Array:
    if form == "channels first":
        return array.transpose(0, 2, 1)
    return array.reshape(4, 5, 10, 10) if form == "grid" else array


@pytest.mark.parametrize("form", ["channels last", "channels first", "grid"])
def test_scores_that_are_wrong_are_seen_beside_boxes_that_are_right(form: str) -> None:
    before, after = ({"y": laid_out(array, form)} for array in (DETECTOR, ERASED))
    one_figure = (DETECTOR * ERASED).sum() / (DETECTOR**2).sum()

    assert one_figure > 0.9999
    assert cosine(after, None, before).max() < 0.4
    assert noise_to_signal(after, None, before).min() > 1.0
    assert agreement(after, None, before).max() < 0.4
    assert kl(after, None, before).min() > 1.0


def test_a_detector_that_changes_little_keeps_its_decisions() -> None:
    after = DETECTOR.astype(np.float16).astype(np.float64)

    assert cosine({"y": after}, None, {"y": DETECTOR}).min() > 0.99999
    assert noise_to_signal({"y": after}, None, {"y": DETECTOR}).max() < 1e-5
    assert agreement({"y": after}, None, {"y": DETECTOR}).min() == 1.0


def test_a_sample_without_objects_is_no_failure() -> None:
    """Its scores are next to nothing, and what quantisation makes of them decides nothing."""
    empty = np.concatenate([BOXES, RANDOM.uniform(0, 0.001, (4, 50, 6))], axis=2)
    other = np.concatenate([BOXES, RANDOM.uniform(0, 0.001, (4, 50, 6))], axis=2)

    assert cosine({"y": other}, None, {"y": empty}).min() > 0.9
    assert agreement({"y": other}, None, {"y": empty}).min() == 1.0


@pytest.mark.parametrize("shape", [(4, 10), (4, 50, 10), (4, 10, 8, 8)])
def test_an_output_of_one_kind_is_not_divided(shape: tuple[int, ...]) -> None:
    logits = RANDOM.normal(size=shape)
    odds = np.exp(4 * logits)

    for array in (logits, np.maximum(logits, 0), odds / odds.sum(axis=-1, keepdims=True)):
        assert not list(mixed(array, array))


def test_channels_of_large_numbers_do_not_rule_the_others() -> None:
    """As outliers of a transformer do."""
    before = RANDOM.normal(size=(2, 20, 8)) * np.array([100.0, *[1.0] * 7])
    after = before.copy()
    after[:, :, 1:] = RANDOM.normal(size=(2, 20, 7))

    assert cosine({"y": after}, None, {"y": before}).max() < 0.4


@pytest.mark.parametrize("boxes_first", [True, False])
def test_the_head_that_fares_worst_counts(boxes_first: bool) -> None:
    before, after = {"scores": SCORES, "boxes": BOXES}, {"scores": np.roll(SCORES, 7, axis=1), "boxes": BOXES}
    if boxes_first:
        before, after = dict(reversed(before.items())), dict(reversed(after.items()))

    assert cosine(after, None, before).max() < 0.4
    assert agreement(after, None, before).max() < 0.9


SHARES = np.concatenate([BOXES / 400, SCORES], axis=2)
SELECTED = np.concatenate([BOXES, RANDOM.uniform(0.4, 1, (4, 50, 1)), RANDOM.integers(0, 9, (4, 50, 1))], axis=2)


@pytest.mark.parametrize("form", ["channels last", "channels first", "grid"])
def test_scores_are_seen_beside_boxes_that_are_shares_of_the_image(form: str) -> None:
    erased = np.concatenate([BOXES / 400, np.roll(SCORES, 7, axis=1)], axis=2)
    before, after = ({"y": laid_out(array, form)} for array in (SHARES, erased))

    assert agreement(after, None, before).max() < 0.4
    assert cosine(after, None, before).max() < 0.6
    assert agreement({"y": SHARES + 1e-3}, None, {"y": SHARES}).min() == 1.0


@pytest.mark.parametrize("objects", [4, 10, 50])
def test_numbers_of_classes_are_compared_one_by_one_and_scores_of_few_objects_too(objects: int) -> None:
    before = SELECTED[:, :objects]
    classes, scores = before.copy(), before.copy()
    classes[..., 5] = (classes[..., 5] + 4) % 9
    scores[..., 4] *= 0.3

    assert agreement({"y": classes}, None, {"y": before}).max() < 0.2
    assert agreement({"y": scores}, None, {"y": before}).max() == 0.0
    assert cosine({"y": classes}, None, {"y": before}).mean() < 0.9
    assert agreement({"y": before * 1.001}, None, {"y": before}).min() == 1.0
