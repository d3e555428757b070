"""Boxes from the raw outputs of the usual heads: each is given outputs that say the same two boxes."""

from __future__ import annotations

import numpy as np
import pytest

from autoprec.errors import MetricError
from autoprec.metrics.detection.heads import detections_of, heads

Array = np.ndarray
PICTURE = (64, 96)
"""Height and width."""
BOXES = np.array([[8.0, 16.0, 40.0, 48.0], [50.0, 10.0, 90.0, 30.0]])
KINDS, SCORES = np.array([2, 0]), np.array([0.9, 0.6])
CLASSES, PLACES = 3, 8 * 12 + 4 * 6 + 2 * 3
SIDES = np.array([96.0, 64, 96, 64])


def middle(boxes: Array) -> Array:
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)


def likely(background: int | None = None) -> Array:
    """Scores [boxes, classes], with a background of what is left where there is one."""
    scores = np.zeros((2, CLASSES))
    scores[np.arange(2), KINDS] = SCORES
    return scores if background is None else np.insert(scores, background, 1 - SCORES, axis=1)


def yolox() -> list[Array]:
    """The first box at a place of stride 8, the second one at one of stride 32; and a poorer box over the first one."""
    made = np.zeros((PLACES, 5 + CLASSES))
    for place, column, row, stride, box, share in (
        (13, 1, 1, 8, 0, 1.0),
        (14, 2, 1, 8, 0, 0.8),
        (121, 1, 0, 32, 1, 1.0),
    ):
        x, y, width, height = middle(BOXES)[box]
        made[place, :4] = [x / stride - column, y / stride - row, np.log(width / stride), np.log(height / stride)]
        made[place, 4], made[place, 5 + KINDS[box]] = share, SCORES[box]
    return [made]


def yolov5() -> list[Array]:
    return [np.concatenate([middle(BOXES), np.ones((2, 1)), likely()], axis=1)]


OUTPUTS = {
    "yolox": yolox,
    "yolov5": yolov5,
    "yolov8": lambda: [np.concatenate([middle(BOXES), likely()], axis=1).T],
    "ssd": lambda: [likely(0), BOXES / SIDES],
    "detr": lambda: [np.log(likely(CLASSES) + 1e-9), middle(BOXES) / SIDES],
    "rtdetr": lambda: [np.log(likely() + 1e-9) - np.log(1 - likely() + 1e-9), middle(BOXES) / SIDES],
    "detections": lambda: [np.concatenate([BOXES, SCORES[:, None], KINDS[:, None]], axis=1)],
}


@pytest.mark.parametrize("head", heads())
def test_a_head_says_class_score_and_corners_in_pixels(head: str) -> None:
    outputs = {f"y{n}": array[None].astype(np.float32) for n, array in enumerate(OUTPUTS[head]())}
    (found,) = detections_of(head, outputs, PICTURE)

    assert found[:, 0].tolist() == KINDS.tolist()
    np.testing.assert_allclose(found[:, 1], SCORES, atol=1e-4)
    np.testing.assert_allclose(found[:, 2:], BOXES, atol=1e-3)


def test_boxes_of_two_classes_do_not_suppress_each_other() -> None:
    rows = np.array([[50.0, 30, 20, 20, 1, 0.9, 0.0], [50.5, 30, 20, 20, 1, 0.0, 0.8], [50, 30.5, 20, 20, 1, 0.7, 0.0]])
    (found,) = detections_of("yolov5", {"y": rows[None]}, PICTURE)

    np.testing.assert_allclose(found[:, :2], [[0, 0.9], [1, 0.8]])


@pytest.mark.parametrize(
    ("head", "shapes", "message"),
    [
        ("yolov5", [(1, 85)], "needs a first output of three axes"),
        ("yolox", [(1, 99, 85)], "yolox has 126 places in an input of 64 x 96"),
        ("ssd", [(1, 9, 5)], r"ssd needs an output \[n, boxes, 4\]"),
        ("detr", [(1, 9, 4), (1, 8, 92)], "needs scores of classes for each of the 9 boxes"),
    ],
)
def test_outputs_of_another_head_are_refused(head: str, shapes: list[tuple[int, ...]], message: str) -> None:
    outputs = {f"y{n}": np.zeros(shape, np.float32) for n, shape in enumerate(shapes)}

    with pytest.raises(MetricError, match=message):
        detections_of(head, outputs, PICTURE)
