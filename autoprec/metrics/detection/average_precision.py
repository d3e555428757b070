"""COCO's mean average precision, from matched detections and any weights of the images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from autoprec.metrics.detection.matching import THRESHOLDS, TRUE, matched, true_boxes
from autoprec.metrics.over_set import ByStatistics, Rows
from autoprec.metrics.scores import Outputs
from autoprec.precision import Array

Detector = Callable[[Outputs], Sequence[Array]]
"""Outputs -> the detections of each image, float64[detections, 6]: class, score, and corners."""

_RECALLS = np.linspace(0, 1, 101)
_TINY = float(np.spacing(1))


def mean_average_precision(detect: Detector, thresholds: Sequence[int] = range(len(THRESHOLDS))) -> ByStatistics:
    """The mean over classes and thresholds of the precision at 101 recalls (Lin et al., Microsoft COCO, ECCV 2014).

    Args:
        detect: makes detections of outputs.
        thresholds: the numbers of the overlaps that count, by default 0.5, 0.55 ... 0.95.
    """

    def statistics(outputs: Outputs, labels: Array | None) -> list[Array]:
        true = true_boxes(labels)
        return [matched(found, boxes) for found, boxes in zip(detect(outputs), true, strict=True)]

    return ByStatistics(statistics, lambda rows, weights: _figures(rows, weights, np.asarray(thresholds)))


def _figures(rows: Rows, weights: Array, thresholds: Array) -> Array:
    table = np.concatenate(rows)
    image = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    total, classes = np.zeros(len(weights)), np.zeros(len(weights))
    true = table[:, 1] == TRUE
    for kind in np.unique(table[true, 0]):
        own = table[:, 0] == kind
        boxes = weights[:, image[own & true]].sum(axis=1)
        found = np.flatnonzero(own & ~true)
        best = found[np.argsort(-table[found, 1], kind="stable")]
        occurs = boxes > 0
        if best.size:
            total += np.where(occurs, _average(table[best], weights[:, image[best]], boxes, thresholds), 0.0)
        classes += occurs
    result: Array = total / np.maximum(classes, 1)
    return result


def _average(rows: Array, weights: Array, boxes: Array, thresholds: Array) -> Array:
    """Return the average precision of a class in each draw, float64[draws].

    Args:
        rows: the detections of the class, the best first.
        weights: how often each of them counts, float64[draws, detections].
        boxes: how many true boxes there are, float64[draws].
        thresholds: the numbers of the overlaps that count.
    """
    bits = 1 << thresholds
    met = (rows[:, 2].astype(np.int64)[:, None] & bits) > 0
    counts = (rows[:, 3].astype(np.int64)[:, None] & bits) == 0
    total = np.zeros(len(weights))
    for right, valid in zip(met.T, counts.T, strict=True):
        if not right.any():
            continue
        hits = np.cumsum(weights * right, axis=1)
        misses = np.cumsum(weights * (valid & ~right), axis=1)
        precision = hits / (hits + misses + _TINY)
        # The precision at a recall is the best one at this recall or a higher one.
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        recall = hits / np.maximum(boxes, 1)[:, None]
        reached = np.searchsorted(_RECALLS, recall.ravel(), side="right").reshape(recall.shape)
        total += (envelope * np.diff(reached, axis=1, prepend=0)).sum(axis=1) / len(_RECALLS)
    result: Array = total / len(thresholds)
    return result
