"""Metrics over a data set that follow from counts of right and wrong decisions: mIoU, F1 and macro accuracy.

The statistics of a sample are three counts for each class: where the class was right, where the output says it, and
where the label does. An output with one value for each decision holds probabilities or logits, and only all samples
together tell which: then there are counts for both, and a last row that says whether a value lay outside 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from autoprec.errors import MetricError
from autoprec.metrics.over_set import ByStatistics, Rows
from autoprec.metrics.scores import Outputs
from autoprec.precision import Array

IGNORED = 255
"""The label of pixels that do not count, as the usual data sets for segmentation have it; so do negative labels."""
_HALF = 0.5
_BOTH = 7
"""The rows of statistics that allow for probabilities and for logits."""


def mean_iou() -> ByStatistics:
    """The intersection over union of each class that occurs, averaged over the classes."""
    return ByStatistics(
        lambda outputs, labels: _counts("miou", outputs, labels, ignored=IGNORED),
        lambda rows, weights: _over_classes(rows, weights, lambda right, said, true: (right, said + true - right)),
    )


def f1() -> ByStatistics:
    """F1 of the second of two classes, the mean over more classes, or over all decisions of many labels a sample."""
    return ByStatistics(lambda outputs, labels: _counts("f1", outputs, labels, many=True), _f1)


def macro_accuracy() -> ByStatistics:
    """The share of right decisions of each class of the labels, averaged over the classes."""
    return ByStatistics(
        lambda outputs, labels: _counts("macro-accuracy", outputs, labels),
        lambda rows, weights: _over_classes(rows, weights, lambda right, said, true: (right, true)),
        _worth,
    )


def _worth(rows: Rows) -> Array:
    """Return the number of samples over that of the sample's class and over that of classes."""
    true = _classes(rows).reshape(len(rows), 3, -1)[:, 2]
    totals = true.sum(axis=0)
    shares = true / np.where(totals > 0, totals, 1.0)
    result: Array = len(rows) * shares.sum(axis=1) / max(int((totals > 0).sum()), 1)
    return result


def _f1(rows: Rows, weights: Array) -> Array:
    counts = _classes(rows)
    if counts.shape[1] == 3 * 2:  # of two classes, the second one is what is looked for
        counts = counts[:, 1::2]
    return _shares(counts, weights, lambda right, said, true: (2 * right, said + true))


def _over_classes(rows: Rows, weights: Array, share: Callable[[Array, Array, Array], tuple[Array, Array]]) -> Array:
    return _shares(_classes(rows), weights, share)


def _shares(counts: Array, weights: Array, share: Callable[[Array, Array, Array], tuple[Array, Array]]) -> Array:
    """Return the mean over the classes of a quotient of sums; classes of which a draw has nothing do not count."""
    right, said, true = np.moveaxis((weights @ counts).reshape(len(weights), 3, -1), 1, 0)
    above, below = share(right, said, true)
    occurs = below > 0
    shares = np.where(occurs, above / np.where(occurs, below, 1.0), 0.0)
    result: Array = shares.sum(axis=1) / np.maximum(occurs.sum(axis=1), 1)
    return result


def _classes(rows: Rows) -> Array:
    """Return the counts of all samples, float64[samples, 3 * classes]; a model that decides itself may know more."""
    most = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 0), (0, most - row.shape[1]))) if row.shape[1] < most else row for row in rows]
    counts = np.stack(padded)
    if counts.shape[1] == _BOTH:
        counts = counts[:, 3:6] if counts[:, 6].any() else counts[:, :3]
    return counts.reshape(len(rows), -1)


def _counts(
    metric: str, outputs: Outputs, labels: Array | None, *, ignored: int | None = None, many: bool = False
) -> list[Array]:
    """Return for each sample: right, said and true, float64[3, classes]."""
    name, array = next(iter(outputs.items()))
    wanted, made = np.asarray(labels), np.asarray(array)
    if wanted.dtype.kind not in "iub":
        raise MetricError(f"{metric} needs integer labels, got {wanted.dtype}; convert them to class numbers")
    if many and made.ndim == wanted.ndim == 2 and made.shape == wanted.shape and made.shape[1] > 1:
        return _of_many_labels(metric, made, wanted)
    if made.dtype.kind not in "iub" and made.size == wanted.size:
        return _of_single_values(made, wanted, ignored)
    classes, decided = decisions(metric, name, made, wanted)
    result = []
    for said, true in zip(decided.reshape(len(made), -1), wanted.reshape(len(made), -1), strict=True):
        counts = true >= 0 if ignored is None else (true >= 0) & (true != ignored)
        if true[counts].max(initial=0) >= classes:
            raise MetricError(
                f"labels must lie below {classes}, since output {name!r} has {classes} classes, got "
                f"{true[counts].max()}; pixels that do not count have {IGNORED} or a negative label"
            )
        result.append(_three_counts(said[counts], true[counts], classes))
    return result


def _three_counts(said: Array, true: Array, classes: int) -> Array:
    both = (said[said == true], said, true)
    return np.stack([np.bincount(values.astype(np.int64), minlength=classes) for values in both])


def _of_single_values(made: Array, wanted: Array, ignored: int | None) -> list[Array]:
    """Return the counts of two classes, decided at a half, then at zero, and whether a value lies outside 0 to 1."""
    result = []
    for values, true in zip(made.reshape(len(made), -1), wanted.reshape(len(made), -1), strict=True):
        counts = true >= 0 if ignored is None else (true >= 0) & (true != ignored)
        if true[counts].max(initial=0) > 1:
            raise MetricError(f"labels must be 0 or 1 for outputs of one value each, got {true[counts].max()}")
        outside = float(((values < 0) | (values > 1)).any())
        tables = [_three_counts((values > at)[counts].astype(np.int64), true[counts], 2) for at in (_HALF, 0.0)]
        result.append(np.concatenate([*tables, [[outside, outside]]]))
    return result


def decisions(metric: str, name: str, made: Array, wanted: Array) -> tuple[int, Array]:
    """Return the number of classes, and the class that each position of each sample is decided for.

    The classes lie on the axis that the labels do not have: the second or the last one.

    Raises:
        MetricError: output and labels do not fit together.
    """
    shape = wanted.shape if wanted.ndim < 2 or wanted.shape[1:] != (1,) else wanted.shape[:1]
    if made.dtype.kind in "iub" and made.size == wanted.size:  # the model has decided itself
        known = wanted[wanted < IGNORED]
        return int(max(made.max(), known.max(initial=0))) + 1, made.reshape(len(made), -1)
    for axis in dict.fromkeys((1, made.ndim - 1)):
        if made.ndim < 2 or made.shape[axis] < 2:
            continue
        if (*made.shape[:axis], *made.shape[axis + 1 :]) == shape:
            return made.shape[axis], made.argmax(axis=axis)
    raise MetricError(
        f"{metric} needs one label for each decision: output {name!r} has shape {made.shape}, which is no axis of "
        f"classes beside labels of shape {wanted.shape}; bring both to one size by --decode module:function"
    )


def _of_many_labels(metric: str, made: Array, wanted: Array) -> list[Array]:
    """Return the counts of samples that have a yes or no for each label, over all labels together."""
    if wanted.min() < 0 or wanted.max() > 1:
        raise MetricError(f"{metric} needs 0 or 1 for each label of a sample, got {wanted.min()} to {wanted.max()}")
    if made.dtype.kind in "iub":
        return [_three_counts(said, true, 2) for said, true in zip(made, wanted, strict=True)]
    return _of_single_values(made, wanted, None)
