"""What a metric returned, checked: one finite real number per sample."""

from __future__ import annotations

from typing import Any

import numpy as np

from autoprec.errors import MetricError
from autoprec.precision import Array

_LARGEST = 1e150
"""The largest score: the squares of larger ones overflow where the interval of their mean is computed."""


def as_array(result: Any, name: str) -> Array:
    """Return what a user's function returned as an array.

    Raises:
        MetricError: it is nothing, a mapping, a text, a generator or masked, which NumPy would take for one number.
    """
    if np.ma.is_masked(result):
        raise MetricError(f"the metric {name} must return a score for every sample, but some are masked")
    array: Array = np.asarray(result)
    if array.ndim == 0 and array.dtype.kind not in "biuf":
        raise MetricError(
            f"the metric {name} must return one score per sample, as a list or an array of numbers, got {_kind(result)}"
        )
    return array


def checked_scores(scores: Array, count: int, name: str) -> Array:
    """Return the scores of a metric as float64[count].

    Raises:
        MetricError: there are not as many, or one of them is not a finite real number.
    """
    if scores.shape != (count,):
        found = f"{scores.size} in an array of shape {scores.shape}" if scores.ndim else "a single number"
        raise MetricError(
            f"the metric {name} must return one score per sample: expected {count} scores, got {found}; "
            f"do not average over the batch"
        )
    if scores.dtype.kind not in "biufO":  # NumPy would read texts as numbers, and drop imaginary parts
        raise MetricError(f"the metric {name} must return numbers, got {scores.dtype}")
    try:
        checked: Array = scores.astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise MetricError(f"the metric {name} must return numbers, got {scores.dtype}: {error}") from error
    if not np.isfinite(checked).all():
        row = int(np.argmin(np.isfinite(checked)))
        raise MetricError(
            f"the metric {name} must return finite scores, got {checked[row]} for sample {row} of {count}; "
            f"return a finite worst score where there is no answer"
        )
    if np.abs(checked).max(initial=0.0) > _LARGEST:
        row = int(np.abs(checked).argmax())
        raise MetricError(
            f"the metric {name} must return scores of at most {_LARGEST:g}, got {checked[row]:g} for sample {row} of "
            f"{count}; bound the scores"
        )
    return checked


def _kind(result: Any) -> str:
    return "nothing (None)" if result is None else f"a {type(result).__name__}"
