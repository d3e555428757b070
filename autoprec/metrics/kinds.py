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
        probable: whether FP32's values all lie between 0 and 1, and others do not.
    """

    before: Array
    after: Array
    probable: bool

    @property
    def floor(self) -> float:
        """The power below which differences count for nothing, so that a sample without any object is no failure."""
        return self.before.size * NEGLIGIBLE**2 if self.probable else 0.0


def mixed(before: Array, after: Array) -> Iterator[tuple[int, tuple[Kind, ...]]]:
    """Yield the index and the kinds of each sample whose output holds several kinds.

    Args:
        before: FP32's output, float64[samples, ...].
        after: the candidate's, of the same shape.
    """
    if before.ndim < 3:
        return
    for row in range(len(before)):
        for axis, channels in enumerate(before.shape[1:]):
            positions = before[row].size // max(channels, 1)
            lower = None if channels < 2 or positions < _POSITIONS else _ruled(before[row], axis)
            if lower is not None:
                sample = np.moveaxis(before[row], axis, -1).reshape(-1, channels)
                other = np.moveaxis(after[row], axis, -1).reshape(sample.shape)
                probable = bool((sample[:, lower] >= 0).all() and (sample[:, lower] <= 1).all())
                yield (
                    row,
                    (
                        Kind(sample[:, ~lower], other[:, ~lower], False),
                        Kind(sample[:, lower], other[:, lower], probable),
                    ),
                )
                break


def _ruled(sample: Array, axis: int) -> Array | None:
    """Which channels of a sample are ruled by the others, bool[channels]; None where no kind rules another one."""
    others = tuple(other for other in range(sample.ndim) if other != axis)
    power = np.square(sample).mean(axis=others, dtype=np.float64)
    unit = (sample.min(axis=others) >= 0) & (sample.max(axis=others) <= 1)
    if 0 < unit.sum() < len(unit) and power[~unit].mean() >= _RULES * power[unit].mean() > 0:
        found: Array = unit
        return found
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


def decisions_agree(kind: Kind) -> float:
    """Return the share of the scores that FP32 or the candidate takes for a decision that both take for one."""
    first, second = kind.before >= _ON, kind.after >= _ON
    either = int((first | second).sum())
    return 1.0 if either == 0 else float((first & second).sum()) / either


def separate_kl(kind: Kind) -> float:
    """Return the KL divergence from FP32 of probabilities that stand for a yes or no each, in nats a position."""
    p, q = (np.clip(np.nan_to_num(values), _LEAST, 1 - _LEAST) for values in (kind.before, kind.after))
    total = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    return float(total.sum(axis=1).mean())
