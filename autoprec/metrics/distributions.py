"""Class distributions: logits and probabilities, and how far two of them are apart."""

from __future__ import annotations

import numpy as np

from autoprec.precision import Array

_SMALLEST_PROBABILITY = 1e-12  # a smaller probability counts as this one, since log(0) is infinite
_LARGEST_LOGIT = 1e30  # larger logits are clipped, so that differences of two of them do not overflow


def bounded_logits(rows: Array) -> Array:
    """Return logits without NaN and infinity, so that differences of two of them do not overflow."""
    result: Array = np.nan_to_num(np.clip(rows, -_LARGEST_LOGIT, _LARGEST_LOGIT))
    return result


def log_softmax(rows: Array) -> Array:
    """Return the logarithms of the probabilities that logits stand for, along the last axis."""
    bounded = bounded_logits(rows)
    shifted = bounded - bounded.max(axis=-1, keepdims=True)
    result: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return result


def are_probabilities(rows: Array) -> bool:
    """Return whether all rows are non-negative and add up to 1; the tolerance allows for FP16 outputs."""
    return bool((rows >= 0).all() and np.allclose(rows.sum(axis=-1), 1, rtol=0, atol=1e-3))


def log_normalised(probabilities: Array) -> Array:
    """Return the logarithms of probabilities, made to add up to 1 along the last axis."""
    floored = np.clip(np.nan_to_num(probabilities), _SMALLEST_PROBABILITY, 1.0)
    result: Array = np.log(floored / floored.sum(axis=-1, keepdims=True))
    return result


def divergences(log_p: Array, log_q: Array) -> Array:
    """Return the KL divergence of each position, [samples, positions]."""
    result: Array = (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)
    return result
