"""The decisions of outputs beside the first one: heads of a network that decide something of their own."""

from __future__ import annotations

import numpy as np

from autoprec.precision import Array

_CLEAR = 0.5
"""A class decides if the softmax gives it at least this. Features and caches, which are no classes, seldom do."""
_YES = 0.5
_AT_ONCE = 1 << 18


def clear_decisions(before: Array, after: Array) -> Array:
    """Return the share of FP32's clear decisions that are kept, for an output of logits; 1 where it decides nothing.

    Args:
        before: FP32's output, float[samples, positions, classes].
        after: the candidate's.

    Returns:
        float64[samples]
    """
    share = np.ones(len(before))
    for row in np.flatnonzero((before < 0).any(axis=(1, 2))):  # boxes and other magnitudes are no logits
        kept = clear = 0
        step = max(1, _AT_ONCE // before.shape[2])
        for begin in range(0, before.shape[1], step):
            logits, others = (array[row, begin : begin + step].astype(np.float64) for array in (before, after))
            best = logits.argmax(axis=1)
            largest = logits.max(axis=1, keepdims=True)
            decided = 1 / np.exp(np.maximum(logits - largest, -700)).sum(axis=1) >= _CLEAR
            clear += int(decided.sum())
            kept += int((decided & (others.argmax(axis=1) == best)).sum())
        share[row] = kept / clear if clear else 1.0
    return share


def yes_or_no(before: Array, after: Array) -> Array:
    """Return whether the decision of an output of one probability for each sample is kept; 1 where it is none.

    Args:
        before: FP32's output, float[samples].
        after: the candidate's.
    """
    probable = (before >= 0) & (before <= 1)
    same: Array = np.where(probable, (before >= _YES) == (after >= _YES), True).astype(np.float64)
    return same
