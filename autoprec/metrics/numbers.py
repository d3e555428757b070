"""Metrics over a data set of numbers: PSNR and correlations; and the recall of what is ranked highest."""

from __future__ import annotations

import numpy as np

from autoprec.errors import MetricError
from autoprec.metrics.over_set import ByStatistics, Rows, stacked
from autoprec.metrics.scores import Outputs
from autoprec.precision import Array

_LEAST_ERROR = 1e-12
"""A mean squared error below this share of the squared peak counts as this one: 120 dB."""


def psnr() -> ByStatistics:
    """The peak signal-to-noise ratio in dB, of all values together; the peak is 255 where a label exceeds 1, else 1."""
    return ByStatistics(_squares, _psnr)


def pearson() -> ByStatistics:
    """Pearson's correlation of outputs and labels."""
    return ByStatistics(lambda outputs, labels: _values("pearson", outputs, labels), _pearson)


def spearman() -> ByStatistics:
    """Spearman's correlation of outputs and labels: Pearson's of their ranks."""
    return ByStatistics(lambda outputs, labels: _values("spearman", outputs, labels), _spearman)


def recall_at(k: int) -> ByStatistics:
    """The share of a sample's labels that are among its `k` largest outputs, averaged over the samples."""
    return ByStatistics(
        lambda outputs, labels: _recalled(k, outputs, labels),
        lambda rows, weights: (weights @ stacked(rows)[:, 0]) / weights.sum(axis=1),
    )


def _squares(outputs: Outputs, labels: Array | None) -> list[Array]:
    made, true = _pair("psnr", outputs, labels)
    error = np.square(made - true).reshape(len(made), -1)
    return [
        np.array([row.sum(), row.size, label.max()])
        for row, label in zip(error, true.reshape(len(true), -1), strict=True)
    ]


def _psnr(rows: Rows, weights: Array) -> Array:
    table = stacked(rows)
    peak = 255.0 if table[:, 2].max() > 1 else 1.0
    above, below = (weights @ table[:, :2]).T
    result: Array = 10 * np.log10(peak**2 / np.maximum(above / below, _LEAST_ERROR * peak**2))
    return result


def _values(metric: str, outputs: Outputs, labels: Array | None) -> list[Array]:
    made, true = _pair(metric, outputs, labels)
    return [np.stack([a.reshape(-1), b.reshape(-1)], axis=1) for a, b in zip(made, true, strict=True)]


def _pearson(rows: Rows, weights: Array) -> Array:
    sums = np.stack([_moments(row) for row in _centred(rows)])
    n, x, y, xx, yy, xy = (weights @ sums).T
    covariance, spread = xy - x * y / n, (xx - x * x / n) * (yy - y * y / n)
    result: Array = np.where(spread > 0, covariance / np.sqrt(np.where(spread > 0, spread, 1.0)), 0.0)
    return result


def _centred(rows: Rows) -> list[Array]:
    # Sums of squares of numbers far from zero would lose their last digits where they are subtracted.
    middle = np.concatenate(rows).mean(axis=0)
    return [row - middle for row in rows]


def _moments(row: Array) -> Array:
    x, y = row.T
    return np.array([len(row), x.sum(), y.sum(), x @ x, y @ y, x @ y])


def _spearman(rows: Rows, weights: Array) -> Array:
    values, sample = np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    each = weights[:, sample]
    sides = [_weighted_ranks(values[:, side], each) for side in (0, 1)]
    total = each.sum(axis=1, keepdims=True)
    x, y = (side - (each * side).sum(axis=1, keepdims=True) / total for side in sides)
    covariance = (each * x * y).sum(axis=1)
    spread = (each * x * x).sum(axis=1) * (each * y * y).sum(axis=1)
    result: Array = np.where(spread > 0, covariance / np.sqrt(np.where(spread > 0, spread, 1.0)), 0.0)
    return result


def _weighted_ranks(values: Array, weights: Array) -> Array:
    """Return the rank of each value where it stands as often as its weight says, float64[draws, values]."""
    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    sizes = np.add.reduceat(weights[:, order], starts, axis=1)
    middle: Array = (np.cumsum(sizes, axis=1) - sizes / 2)[:, group]
    return middle


def _recalled(k: int, outputs: Outputs, labels: Array | None) -> list[Array]:
    name, array = next(iter(outputs.items()))
    made = np.asarray(array).reshape(len(array), -1)
    wanted = np.asarray(labels)
    if wanted.dtype.kind not in "iu":
        raise MetricError(f"recall@{k} needs the numbers of the right items as labels, got {wanted.dtype}")
    if not 0 < k <= made.shape[1]:
        raise MetricError(f"recall@{k} needs at least {k} scores a sample, output {name!r} has {made.shape[1]}")
    wanted = wanted.reshape(len(made), -1)
    if wanted.max() >= made.shape[1]:
        raise MetricError(f"labels must lie below {made.shape[1]}, as output {name!r} has so many scores")
    best = np.argsort(-made.astype(np.float64), axis=1, kind="stable")[:, :k]
    shares = [
        np.isin(row[row >= 0], top).mean() if (row >= 0).any() else 1.0 for row, top in zip(wanted, best, strict=True)
    ]
    return [np.array([share]) for share in shares]


def _pair(metric: str, outputs: Outputs, labels: Array | None) -> tuple[Array, Array]:
    name, array = next(iter(outputs.items()))
    made, true = np.asarray(array).astype(np.float64), np.asarray(labels)
    if true.dtype.kind not in "iufb" or made.size != true.size or len(made) != len(true):
        raise MetricError(
            f"{metric} needs one number as label for each value of output {name!r} of shape {made.shape}, got "
            f"{true.dtype} of shape {true.shape}"
        )
    return made, true.astype(np.float64).reshape(made.shape)
