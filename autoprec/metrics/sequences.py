"""Metrics over a data set of texts: likelihoods of a language model, and error rates of a recogniser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from autoprec.errors import MetricError
from autoprec.metrics.over_set import ByStatistics, Rows, stacked
from autoprec.metrics.scores import Outputs
from autoprec.precision import Array

Reader = Callable[[Outputs], Sequence[Any]]
"""Outputs -> what was recognised in each sample: a text, or the numbers of its characters or words."""

_LARGEST_LOGIT = 1e30
_LARGEST_EXPONENT = 700.0
_BLANK = 0
_CHUNK = 1 << 22
"""How many logits are brought to float64 at a time."""


def log_likelihood() -> ByStatistics:
    """The mean log-likelihood of a token, in nats."""
    return ByStatistics(_likelihoods, lambda rows, weights: _quotient(rows, weights))


def perplexity() -> ByStatistics:
    """The exponential of the mean negative log-likelihood of a token."""
    return ByStatistics(
        _likelihoods, lambda rows, weights: np.exp(np.minimum(-_quotient(rows, weights), _LARGEST_EXPONENT))
    )


def error_rate(read: Reader, *, by_word: bool) -> ByStatistics:
    """Edits that make the label of what was recognised, over the lengths of all labels, by words or by characters."""
    return ByStatistics(lambda outputs, labels: _edits(read, outputs, labels, by_word=by_word), _quotient)


def edit_similarity(read: Reader) -> ByStatistics:
    """One less the edits over the longer length of a sample, averaged over the samples."""
    return ByStatistics(lambda outputs, labels: _similarities(read, outputs, labels), _quotient)


def greedy_ctc(outputs: Outputs) -> list[Array]:
    """Return the best class of each column, of equal neighbours one, without the blank, which is class 0.

    The first output is [samples, columns, classes], as recognisers trained with CTC have it.

    Raises:
        MetricError: it has another number of axes.
    """
    array = _of_tokens("ctc", outputs)
    best = array if array.ndim == 2 else array.argmax(axis=-1)
    changes = np.concatenate([np.ones((len(best), 1), bool), best[:, 1:] != best[:, :-1]], axis=1)
    return [row[first & (row != _BLANK)] for row, first in zip(best, changes, strict=True)]


def greedy_tokens(outputs: Outputs) -> list[Array]:
    """Return the best class of each position, without negative ones, which the model may give as padding."""
    array = _of_tokens("tokens", outputs)
    best = array if array.ndim == 2 else array.argmax(axis=-1)
    return [row[row >= 0] for row in best]


def _of_tokens(decoder: str, outputs: Outputs) -> Array:
    name, array = next(iter(outputs.items()))
    made = np.asarray(array)
    if made.ndim == 3 or (made.ndim == 2 and made.dtype.kind in "iu"):
        return made
    raise MetricError(
        f"{decoder} needs scores of classes [samples, columns, classes] or class numbers [samples, columns] in output "
        f"{name!r}, got {made.dtype} of shape {made.shape}; read texts by --decode module:function"
    )


def edits(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Return how many items must be put in, left out or replaced to make one sequence of the other.

    The table of Wagner and Fischer (The String-to-String Correction Problem, JACM 21, 1974), a row at a time.
    """
    numbers: dict[Any, int] = {}
    a, b = (np.array([numbers.setdefault(item, len(numbers)) for item in side], np.int64) for side in (first, second))
    steps = np.arange(len(b) + 1)
    row = steps.copy()
    for index, item in enumerate(a, start=1):
        best = np.concatenate([[index], np.minimum(row[1:] + 1, row[:-1] + (b != item))])
        # An item that is put in costs one more than the place to its left, which may itself have come so.
        row = np.minimum.accumulate(best - steps) + steps
    return int(row[-1])


def _edits(read: Reader, outputs: Outputs, labels: Array | None, *, by_word: bool) -> list[Array]:
    pairs = _pairs(read, outputs, labels)
    split = [(_split(made), _split(true)) for made, true in pairs] if by_word else pairs
    return [np.array([edits(made, true), len(true)]) for made, true in split]


def _split(text: Any) -> Any:
    return text.split() if isinstance(text, str) else text


def _similarities(read: Reader, outputs: Outputs, labels: Array | None) -> list[Array]:
    pairs = _pairs(read, outputs, labels)
    return [np.array([1 - edits(made, true) / max(len(made), len(true), 1), 1.0]) for made, true in pairs]


def _pairs(read: Reader, outputs: Outputs, labels: Array | None) -> list[tuple[Any, Any]]:
    """Return what was recognised and what is true of each sample: two texts, or two lists of numbers."""
    true = [_true(label) for label in np.asarray(labels)]
    made = [text if isinstance(text, str) else np.asarray(text).reshape(-1).tolist() for text in read(outputs)]
    if len(made) != len(true):
        raise MetricError(f"there must be one text for each of {len(true)} labels, got {len(made)}")
    for one, other in zip(made, true, strict=True):
        if isinstance(one, str) is not isinstance(other, str):
            raise MetricError(
                f"texts must be compared with texts, but a {type(one).__name__} is to be compared with a "
                f"{type(other).__name__}; give labels as class numbers padded with -1, or read texts by --decode "
                f"module:function"
            )
    return list(zip(made, true, strict=True))


def _true(label: Any) -> Any:
    if isinstance(label, (str, bytes)):
        return label if isinstance(label, str) else label.decode()
    numbers = np.asarray(label).reshape(-1)
    if numbers.dtype.kind not in "iu":
        raise MetricError(f"labels must be texts or class numbers padded with -1, got {numbers.dtype}")
    return numbers[numbers >= 0].tolist()


def _quotient(rows: Rows, weights: Array) -> Array:
    above, below = (weights @ stacked(rows)).T
    result: Array = np.where(below > 0, above / np.where(below > 0, below, 1.0), 0.0)
    return result


def _likelihoods(outputs: Outputs, labels: Array | None) -> list[Array]:
    """Return for each sample the sum of the log-likelihoods of its tokens, and how many of them count."""
    name, array = next(iter(outputs.items()))
    made = np.asarray(array)
    if made.ndim == 2:
        return _of_likelihoods(name, made, labels)
    if made.ndim != 3:
        raise MetricError(f"likelihoods need logits [samples, positions, tokens] in output {name!r}, got {made.shape}")
    if labels is None:
        raise MetricError(
            "likelihoods of logits need labels: for each position the token that follows it, or the tokens of the "
            "whole text; padding has a negative label"
        )
    targets = _targets(name, made, np.asarray(labels))
    return [_of_logits(row, target) for row, target in zip(made, targets, strict=True)]


def _targets(name: str, made: Array, labels: Array) -> Array:
    wanted = labels[:, 1:] if labels.ndim == 2 and labels.shape[1] == made.shape[1] + 1 else labels
    if wanted.shape != made.shape[:2] or wanted.dtype.kind not in "iu":
        raise MetricError(
            f"labels must be integers [samples, positions] that fit output {name!r} of shape {made.shape}, or one "
            f"token longer, got {labels.dtype} of shape {labels.shape}"
        )
    if wanted.max() >= made.shape[2]:
        raise MetricError(f"labels must lie below {made.shape[2]}, as output {name!r} has so many tokens")
    return wanted


def _of_likelihoods(name: str, made: Array, labels: Array | None) -> list[Array]:
    """The model gives the log-likelihood of each next token itself; labels only say which of them count."""
    if made.dtype.kind != "f" or made.max() > 0:
        raise MetricError(
            f"output {name!r} of shape {made.shape} must hold logits [samples, positions, tokens], or log-likelihoods "
            f"of at most 0, got {made.dtype} up to {made.max():.3g}"
        )
    counts = np.ones(made.shape, bool) if labels is None else np.asarray(labels).reshape(made.shape) >= 0
    return [np.array([row[use].sum(dtype=np.float64), use.sum()]) for row, use in zip(made, counts, strict=True)]


def _of_logits(logits: Array, targets: Array) -> Array:
    counts = np.flatnonzero(targets >= 0)
    total, step = 0.0, max(1, _CHUNK // logits.shape[1])
    for start in range(0, len(counts), step):
        places = counts[start : start + step]
        rows = np.clip(logits[places].astype(np.float64), -_LARGEST_LOGIT, _LARGEST_LOGIT)
        top = rows.max(axis=1)
        sums = np.log(np.exp(rows - top[:, None]).sum(axis=1)) + top
        total += float((rows[np.arange(len(places)), targets[places]] - sums).sum())
    return np.array([total, len(counts)])
