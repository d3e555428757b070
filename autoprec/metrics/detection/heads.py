"""Boxes from the raw outputs of the usual detectors.

Each head gives candidates for each image: boxes with their corners in pixels of the model's input, and the scores of
classes. Detections are what non-maximum suppression within each class leaves of them; set-based heads need none.

    yolox        [n, places, 5 + classes]: offsets in the grid, logarithms of sizes, objectness and class scores
    yolov5       [n, places, 5 + classes]: centre and size in pixels, objectness and class scores; YOLOv7 too
    yolov8       [n, 4 + classes, places]: centre and size in pixels, class scores; YOLO11 too
    ssd          [n, places, 4] corners and [n, places, 1 + classes] scores, the background first
    detr         [n, queries, classes + 1] logits, nothing last, and [n, queries, 4] centres and sizes
    rtdetr       the same with one sigmoid for each class, and no class for nothing
    detections   [n, boxes, 6]: corners, score and class, as a model with suppression of its own gives them

Boxes of which all coordinates lie below two are taken as shares of the width and height of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from autoprec.errors import MetricError
from autoprec.metrics.scores import Outputs
from autoprec.precision import Array

LEAST_SCORE = 0.01
"""Detections with lower scores are left out: they change a mean average precision in the third digit at most."""
_OVERLAP = 0.65
_MOST = 100
"""The most detections of a class in an image, as COCO counts them."""
_CANDIDATES = 1500
_NUMBERED_AS_COCO = ("detr",)
_STRIDES = (8, 16, 32)
_SHARES_BELOW = 2.0

Picture = tuple[int, int]
"""Height and width of the model's input in pixels."""
Candidates = tuple[Array, Array]
"""Boxes float64[m, 4] with corners, and scores float64[m, classes]."""


def detections_of(head: str, outputs: Outputs, picture: Picture | None) -> list[Array]:
    """Return the detections of each image, float64[detections, 6]: class, score, and corners; the best first.

    Raises:
        MetricError: the outputs are not those of such a head.
    """
    candidates, suppressed = _HEADS[head]
    return [_kept(boxes, scores, suppressed) for boxes, scores in candidates(_float_outputs(outputs), picture)]


def heads() -> tuple[str, ...]:
    """Return the names of the heads."""
    return tuple(_HEADS)


def counts_as_coco(head: object) -> bool:
    """Whether a head counts classes by the numbers of COCO's categories, which have gaps, and not from 0 on."""
    return head in _NUMBERED_AS_COCO


def _kept(boxes: Array, scores: Array, suppressed: bool) -> Array:
    places, classes = np.nonzero(scores > LEAST_SCORE)
    values = scores[places, classes]
    order = np.argsort(-values, kind="stable")[:_CANDIDATES]
    places, classes, values = places[order], classes[order], values[order]
    corners = boxes[places]
    alive = np.ones(len(order), bool)
    if suppressed:
        # Boxes of two classes are moved apart, so that only those of one class can overlap.
        apart = corners + classes[:, None] * (np.abs(corners).max(initial=0.0) * 2 + 1)
        rivals = overlaps(apart, apart) > _OVERLAP
        for index in range(len(order)):
            if alive[index]:
                alive[index + 1 :] &= ~rivals[index, index + 1 :]
    found = np.concatenate([classes[:, None], values[:, None], corners], axis=1)[alive]
    place = np.zeros(len(found), np.int64)
    for number in np.unique(found[:, 0]):
        same = found[:, 0] == number
        place[same] = np.arange(same.sum())
    result: Array = found[place < _MOST]
    return result


def overlaps(first: Array, second: Array) -> Array:
    """Return the intersection over union of each pair of boxes, float64[first, second]."""
    sides = np.minimum(first[:, None, 2:], second[None, :, 2:]) - np.maximum(first[:, None, :2], second[None, :, :2])
    both = np.maximum(sides, 0).prod(axis=-1)
    areas = [np.maximum(side[:, 2:] - side[:, :2], 0).prod(axis=-1) for side in (first, second)]
    either = areas[0][:, None] + areas[1][None] - both
    result: Array = both / np.where(either > 0, either, 1.0)
    return result


def _float_outputs(outputs: Outputs) -> list[Array]:
    return [np.asarray(array).astype(np.float64) for array in outputs.values()]


def _yolox(outputs: list[Array], picture: Picture | None) -> Iterator[Candidates]:
    made = _single("yolox", outputs, 6)
    cells = _cells(made.shape[1], picture)
    for rows in made:
        centre = (rows[:, :2] + cells[:, :2]) * cells[:, 2:]
        size = np.exp(np.minimum(rows[:, 2:4], 20)) * cells[:, 2:]
        yield _corners(centre, size), rows[:, 4:5] * rows[:, 5:]


def _cells(places: int, picture: Picture | None) -> Array:
    """Return column, row and stride of each place of the grids, float64[places, 3]."""
    if picture is None:
        side = round((places / sum(1 / stride**2 for stride in _STRIDES)) ** 0.5)
        picture = side, side
    grids = [
        (x, y, stride) for stride in _STRIDES for y in range(picture[0] // stride) for x in range(picture[1] // stride)
    ]
    if len(grids) != places:
        raise MetricError(
            f"yolox has {len(grids)} places in an input of {picture[0]} x {picture[1]} with strides 8, 16 and 32, but "
            f"the output has {places}; read boxes by --decode module:function"
        )
    return np.array(grids, np.float64)


def _yolov5(outputs: list[Array], picture: Picture | None) -> Iterator[Candidates]:
    for rows in _single("yolov5", outputs, 6):
        yield _pixels(_corners(rows[:, :2], rows[:, 2:4]), picture), rows[:, 4:5] * rows[:, 5:]


def _yolov8(outputs: list[Array], picture: Picture | None) -> Iterator[Candidates]:
    for columns in _single("yolov8", outputs, 5, axis=1):
        yield _pixels(_corners(columns[:2].T, columns[2:4].T), picture), columns[4:].T


def _detections(outputs: list[Array], picture: Picture | None) -> Iterator[Candidates]:
    for rows in _single("detections", outputs, 6):
        scores = np.zeros((len(rows), int(max(rows[:, 5].max(initial=0), 0)) + 1))
        scores[np.arange(len(rows)), np.maximum(rows[:, 5], 0).astype(np.int64)] = rows[:, 4]
        yield _pixels(rows[:, :4], picture), scores


def _ssd(outputs: list[Array], picture: Picture | None) -> Iterator[Candidates]:
    boxes, scores = _two("ssd", outputs, boxes_first=True)
    for corners, rows in zip(boxes, scores, strict=True):
        yield _pixels(corners, picture), (rows if _sums_to_one(rows) else _softmax(rows))[:, 1:]


def _detr(outputs: list[Array], picture: Picture | None) -> Iterator[Candidates]:
    boxes, logits = _two("detr", outputs, boxes_first=False)
    for rows, scores in zip(boxes, logits, strict=True):
        yield _pixels(_corners(rows[:, :2], rows[:, 2:]), picture), _softmax(scores)[:, :-1]


def _rtdetr(outputs: list[Array], picture: Picture | None) -> Iterator[Candidates]:
    boxes, logits = _two("rtdetr", outputs, boxes_first=False)
    for rows, scores in zip(boxes, logits, strict=True):
        sigmoid = 0.5 * (1 + np.tanh(0.5 * scores))
        yield _pixels(_corners(rows[:, :2], rows[:, 2:]), picture), sigmoid


_Head = Callable[[list[Array], "Picture | None"], Iterator[Candidates]]
_HEADS: dict[str, tuple[_Head, bool]] = {
    "yolox": (_yolox, True),
    "yolov5": (_yolov5, True),
    "yolov8": (_yolov8, True),
    "ssd": (_ssd, True),
    "detr": (_detr, False),
    "rtdetr": (_rtdetr, False),
    "detections": (_detections, False),
}


def _single(head: str, outputs: list[Array], least: int, axis: int = 2) -> Array:
    """Return the first output, which must have three axes and as many channels as a box and a class need."""
    made = outputs[0]
    if made.ndim != 3 or made.shape[axis] < least:
        raise MetricError(
            f"{head} needs a first output of three axes with at least {least} channels on axis {axis}, got "
            f"{made.shape}; choose another head, or read boxes by --decode module:function"
        )
    return made


def _two(head: str, outputs: list[Array], *, boxes_first: bool) -> tuple[Array, Array]:
    """Return the output with the boxes and that with the scores of classes, told apart by their last axis."""
    three = [array for array in outputs if array.ndim == 3]
    boxes = [index for index, array in enumerate(three) if array.shape[2] == 4]
    if len(three) < 2 or not boxes:
        shapes = ", ".join(str(array.shape) for array in outputs)
        raise MetricError(
            f"{head} needs an output [n, boxes, 4] and one [n, boxes, classes], got {shapes}; choose another head, or "
            f"read boxes by --decode module:function"
        )
    if boxes_first:  # of three classes and a background, the probabilities have four columns too
        boxes.sort(key=lambda index: _sums_to_one(three[index]))
    where = boxes[0] if boxes_first or len(boxes) == 1 else boxes[-1]
    count = three[where].shape[1]
    scores = next((a for i, a in enumerate(three) if i != where and a.shape[1] == count), None)
    if scores is None:
        raise MetricError(f"{head} needs scores of classes for each of the {count} boxes, but no output has so many")
    return three[where], scores


def _sums_to_one(rows: Array) -> bool:
    return bool((rows >= 0).all() and np.allclose(rows.sum(axis=-1), 1, atol=1e-2))


def _corners(centre: Array, size: Array) -> Array:
    result: Array = np.concatenate([centre - size / 2, centre + size / 2], axis=1)
    return result


def _pixels(corners: Array, picture: Picture | None) -> Array:
    if picture is None or np.abs(corners).max(initial=0.0) >= _SHARES_BELOW:
        return corners
    height, width = picture
    return corners * np.array([width, height, width, height], np.float64)


def _softmax(rows: Array) -> Array:
    powers = np.exp(rows - rows.max(axis=1, keepdims=True))
    result: Array = powers / powers.sum(axis=1, keepdims=True)
    return result
