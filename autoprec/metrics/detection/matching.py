"""Detections of an image matched with its true boxes, best first, as COCO does it."""

from __future__ import annotations

import numpy as np

from autoprec.errors import MetricError
from autoprec.metrics.detection.heads import overlaps
from autoprec.precision import Array

THRESHOLDS = np.linspace(0.5, 0.95, 10)
"""The overlaps from which on a detection meets a true box."""
TRUE = -1.0
"""The score of a row that stands for a true box."""
_PLAIN = 5


def true_boxes(labels: Array | None) -> list[Array]:
    """Return the true boxes of each image, float64[boxes, 6]: class, corners, and whether it is a crowd.

    Args:
        labels: [images, most boxes, 5 or 6]; rows of which the class is negative are padding.

    Raises:
        MetricError: the labels have another form.
    """
    array = np.asarray(labels)
    if array.ndim != 3 or array.shape[2] not in (_PLAIN, _PLAIN + 1) or array.dtype.kind not in "iuf":
        raise MetricError(
            f"labels of boxes must be numbers [images, most boxes, 5]: class, left, top, right and bottom in pixels of "
            f"the model's input, padded with class -1; got {array.dtype} of shape {array.shape}; or give --labels"
        )
    rows = array.astype(np.float64)
    if rows.shape[2] == _PLAIN:
        rows = np.concatenate([rows, np.zeros((*rows.shape[:2], 1))], axis=2)
    return [image[image[:, 0] >= 0] for image in rows]


def matched(found: Array, true: Array) -> Array:
    """Return the statistics of an image: one row for each detection and for each true box.

    A detection may meet one true box, which no better detection has met. What meets a crowd counts neither way.

    Args:
        found: float64[detections, 6], class, score and corners.
        true: float64[boxes, 6], class, corners, and whether it is a crowd.

    Returns:
        float64[rows, 4]: class; score, or -1 for a true box; a bit for each threshold at which a true box was met; and
        a bit for each at which the detection does not count.
    """
    order = np.argsort(-found[:, 1], kind="stable")
    rows = [np.array([kind, TRUE, 0.0, 0.0]) for kind in true[true[:, 5] == 0, 0]]
    overlap = _overlaps(found, true)
    taken = np.zeros((len(THRESHOLDS), len(true)), bool)
    crowd = true[:, 5] != 0
    for index in order:
        met, ignored = 0, 0
        candidates = np.flatnonzero((true[:, 0] == found[index, 0]) & (overlap[index] >= THRESHOLDS[0]))
        for number, least in enumerate(THRESHOLDS if candidates.size else ()):
            best = _best(overlap[index], candidates[~taken[number, candidates] | crowd[candidates]], crowd, least)
            if best is None:
                continue
            taken[number, best] = True
            met |= (not crowd[best]) << number
            ignored |= bool(crowd[best]) << number
        rows.append(np.array([found[index, 0], found[index, 1], met, ignored], np.float64))
    return np.array(rows, np.float64).reshape(-1, 4)


def _overlaps(found: Array, true: Array) -> Array:
    """Return the overlap of each pair; with a crowd, the share of the detection that lies in it."""
    result = overlaps(found[:, 2:6], true[:, 1:5])
    crowd = np.flatnonzero(true[:, 5] != 0)
    if crowd.size:
        own = np.maximum((found[:, 4:6] - found[:, 2:4]).prod(axis=1), 1e-12)[:, None]
        corner = np.maximum(found[:, None, 2:4], true[None, crowd, 1:3])
        sides = np.minimum(found[:, None, 4:6], true[None, crowd, 3:5]) - corner
        result[:, crowd] = np.maximum(sides, 0).prod(axis=-1) / own
    return result


def _best(overlap: Array, candidates: Array, crowd: Array, least: float) -> int | None:
    """Return the box of the largest overlap; a crowd only where there is no other, the last of equal ones."""
    for group in (candidates[~crowd[candidates]], candidates[crowd[candidates]]):
        if group.size:
            values = overlap[group]
            best = len(values) - 1 - int(values[::-1].argmax())
            if values[best] >= min(least, 1 - 1e-10):
                return int(group[best])
    return None
