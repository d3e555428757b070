"""Outputs that hold values of several kinds, such as the boxes and the scores of a detector in one tensor.

One figure over all values of such an output is ruled by the kind with the largest numbers: boxes in pixels hide that
all scores have changed. So the channels of an output are divided into kinds, sample by sample and by FP32's values
alone, and a comparison counts the kind that fares worst.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from autoprec.precision import Array

_POSITIONS = 16
"""With fewer values in a channel its range is a matter of chance, as in the logits of a classifier."""
_FEW_POSITIONS, _FEW_CHANNELS = 4, 8
"""That so many values lie between 0 and 1, or are whole, is no chance in one of so few channels."""
_PRESENT = 0.05
"""Coordinates lie above this share of the image in most places, and scores of an object in few."""
_MOST = 0.8
_RULES = 25.0
"""A kind rules another one if the mean power of its values is at least this many times as large."""
_VISIBLE = 1e-6
"""Weaker channels than this share of the power of the strongest ones are dead, unless they are probabilities."""
NEGLIGIBLE = 0.003
"""A probability that changes by this much, and not by more, changes no decision of a detector."""
_LEAST = 1e-12
_ON = 0.3
"""A score counts as a decision from here on, as the usual thresholds of detectors have it."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Some channels of one sample of an output.

    Attributes:
        before: FP32's values, float64[positions, channels].
        after: those of the candidate.
        probable: whether FP32's values are probabilities, beside values that are none.
        labels: whether they are the numbers of classes, as a detector returns them after its selection.
    """

    before: Array
    after: Array
    probable: bool
    labels: bool = False

    @property
    def floor(self) -> float:
        """The power below which differences count for nothing, so that a sample without any object is no failure."""
        return self.before.size * NEGLIGIBLE**2 if self.probable else 0.0


def mixed(before: Array, after: Array) -> Iterator[tuple[int, tuple[Kind, ...]]]:
    """Yield the index and the kinds of each sample whose output holds several kinds, the ruling kind first.

    Args:
        before: FP32's output, float64[samples, ...].
        after: the candidate's, of the same shape.
    """
    if before.ndim < 3:
        return
    for row in range(len(before)):
        for axis, channels in enumerate(before.shape[1:]):
            positions = before[row].size // max(channels, 1)
            if channels < 2 or positions < (_FEW_POSITIONS if channels <= _FEW_CHANNELS else _POSITIONS):
                continue
            if (labels := _labels(before[row], axis)) is None and _ruled(before[row], axis) is None:
                continue
            sample = np.moveaxis(before[row], axis, -1).reshape(-1, channels)
            other = np.moveaxis(after[row], axis, -1).reshape(sample.shape)
            yield row, _kinds(sample, other, np.zeros(channels, dtype=bool) if labels is None else labels)
            break


def _kinds(before: Array, after: Array, labels: Array) -> tuple[Kind, ...]:
    """Return the kinds of one sample, float64[positions, channels], of which some channels are numbers of classes."""
    rest, other = before[:, ~labels], after[:, ~labels]
    lower = _ruled(rest, 1) if rest.shape[1] > 1 else None
    kinds = [Kind(rest, other, False)]
    if lower is not None:
        probable = bool((rest[:, lower] >= 0).all() and (rest[:, lower] <= 1).all())
        kinds = [Kind(rest[:, ~lower], other[:, ~lower], False), Kind(rest[:, lower], other[:, lower], probable)]
    return (*kinds, *([Kind(before[:, labels], after[:, labels], False, labels=True)] if labels.any() else []))


def _labels(sample: Array, axis: int) -> Array | None:
    """Return which channels hold the numbers of classes: whole numbers, more than 0 and 1, beside broken numbers."""
    view = np.moveaxis(sample, axis, -1)
    few = view[(0,) * (view.ndim - 2)][:_FEW_POSITIONS]
    if not (few == np.round(few)).all(axis=0).any():  # so that large outputs, which have none, take no time
        return None
    rows = view.reshape(-1, view.shape[-1])
    whole = (rows == np.round(rows)).all(axis=0) & (rows >= 0).all(axis=0)
    found: Array = whole & (rows.max(axis=0) > 1) & (rows.max(axis=0) > rows.min(axis=0))
    return found if found.any() and 2 * found.sum() < len(found) and not whole.all() else None


def _ruled(sample: Array, axis: int) -> Array | None:
    """Which channels of a sample are ruled by the others, bool[channels]; None where no kind rules another one."""
    others = tuple(other for other in range(sample.ndim) if other != axis)
    power = np.square(sample).mean(axis=others, dtype=np.float64)
    unit = (sample.min(axis=others) >= 0) & (sample.max(axis=others) <= 1)
    if 0 < unit.sum() < len(unit) and power[~unit].mean() >= _RULES * power[unit].mean() > 0:
        found: Array = unit
        return found
    if sample.size < _POSITIONS * len(power):
        return None
    if unit.all():
        return _sparse(np.moveaxis(sample, axis, -1).reshape(-1, len(power)))
    order = np.argsort(power)
    ranked = power[order]
    gaps = ranked[1:] / np.maximum(ranked[:-1], np.finfo(np.float64).tiny)
    cut = int(gaps.argmax()) + 1
    visible = ranked[:cut].mean() >= _VISIBLE * ranked[cut:].mean()
    if gaps[cut - 1] < _RULES or 2 * cut < len(power) or not visible:
        return None
    lower = np.zeros(len(power), dtype=bool)
    lower[order[:cut]] = True
    return lower


def _sparse(sample: Array) -> Array | None:
    """Which channels hold scores, where boxes are shares of the image, so that all values lie between 0 and 1.

    Each channel must be one of both: large in most places, or in few. Classes that exclude each other are one kind.
    """
    present = (sample > _PRESENT).mean(axis=0)
    scores: Array = present <= 1 - _MOST
    boxes = present >= _MOST
    if not scores.any() or boxes.sum() < 2 or not (scores | boxes).all():
        return None
    return None if np.allclose(sample.sum(axis=1), 1, rtol=0, atol=1e-3) else scores


def decisions_agree(kind: Kind) -> float:
    """Return the share of the scores that FP32 or the candidate takes for a decision that both take for one.

    Of the numbers of classes it is the share that is the same.
    """
    if kind.labels:
        return float((np.round(kind.after) == kind.before).mean())
    first, second = kind.before >= _ON, kind.after >= _ON
    either = int((first | second).sum())
    return 1.0 if either == 0 else float((first & second).sum()) / either


def separate_kl(kind: Kind) -> float:
    """Return the KL divergence from FP32 of probabilities that stand for a yes or no each, in nats a position."""
    p, q = (np.clip(np.nan_to_num(values), _LEAST, 1 - _LEAST) for values in (kind.before, kind.after))
    total = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return float(total.sum(axis=1).mean())
