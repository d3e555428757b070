"""The built-in scores of outputs against labels or FP32's outputs: one number per sample.

All of them take the outputs by name, the labels, and FP32's outputs; the first axis of each array is the samples. A
sample whose outputs hold NaN or infinity gets the worst score instead of NaN. Where a score uses a single output, that
is the first one of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from autoprec.errors import MetricError
from autoprec.graph.interface import is_float
from autoprec.metrics.distributions import (
    are_probabilities,
    bounded_logits,
    divergences,
    log_normalised,
    log_softmax,
)
from autoprec.metrics.heads import clear_decisions, yes_or_no
from autoprec.metrics.kinds import Kind, decisions_agree, mixed, separate_kl
from autoprec.precision import Array

Outputs = Mapping[str, Array]
Score = Callable[[Outputs, "Array | None", "Outputs | None"], Array]

WORST_KL = 1e6
"""The largest KL divergence that a sample can get, in nats: the one of a sample whose outputs are not finite."""
WORST_NOISE_TO_SIGNAL = 1e6
"""The largest noise-to-signal power ratio that a sample can get: the one of outputs that are not finite."""
_LARGE = 1e12  # sums of squares of larger float32 numbers may overflow
_VERY_MANY = 1 << 20  # values in an output of a batch
_AT_ONCE = 1 << 18  # values of an output that stay in the processor's cache while a sum over them is computed


def finite_samples(outputs: Outputs) -> Array:
    """Return which samples have neither NaN nor infinity in any float output, bool[samples]."""
    finite = [_finite_rows(array) for array in outputs.values() if is_float(array.dtype)]
    if not finite:
        return np.ones(len(next(iter(outputs.values()))), dtype=bool)
    result: Array = np.logical_and.reduce(finite)
    return result


def top1(outputs: Outputs, labels: Array | None, reference: Outputs | None) -> Array:
    """Return whether the largest value of the output, flattened to [samples, classes], is at the label.

    Raises:
        MetricError: the output has one value per sample, or the labels are not one class number per sample.
    """
    name, array = next(iter(outputs.items()))
    flat = np.asarray(array).reshape(len(array), -1)
    wanted = np.asarray(labels)
    if flat.shape[1] < 2:
        raise MetricError(_single_value("top1", name))
    if wanted.dtype.kind not in "iu" or wanted.size != len(wanted):
        raise MetricError(
            f"top1 needs one integer label per sample, got {wanted.dtype} of shape {wanted.shape}; "
            f"convert the labels to class numbers"
        )
    wanted = wanted.reshape(-1)
    if len(wanted) != len(flat):
        raise MetricError(
            f"top1 needs one row per label in output {name!r}: expected {len(wanted)} rows, got {len(flat)}"
        )
    if wanted.min() < 0 or wanted.max() >= flat.shape[1]:
        raise MetricError(
            f"labels must lie between 0 and {flat.shape[1] - 1}, since output {name!r} has {flat.shape[1]} "
            f"classes; got {wanted.min()} to {wanted.max()}"
        )
    correct: Array = (flat.argmax(axis=1) == wanted) & _finite_rows(array)
    return correct


def label_margins(outputs: Outputs, labels: Array) -> Array:
    """Return by how much the log-probability of the label exceeds that of the best other class, float64[samples].

    The output holds logits or probabilities. The margin is minus infinity where it is not finite.
    """
    array = next(iter(outputs.values()))
    rows = np.asarray(array).reshape(len(array), -1).astype(np.float64)
    # For logits no softmax is needed: its normalising term cancels in the difference of two classes.
    logs = log_normalised(rows) if are_probabilities(rows) else bounded_logits(rows)
    indices = (np.arange(len(rows)), np.asarray(labels).reshape(-1))
    own = logs[indices]
    logs[indices] = -np.inf
    margins: Array = np.where(_finite_rows(array), own - logs.max(axis=1), -np.inf)
    return margins


def agreement(outputs: Outputs, labels: Array | None, reference: Outputs | None) -> Array:
    """Return the share of the decisions of the output that are those of FP32.

    A classifier has one position for each sample; a segmentation or language model has many, and at each of them the
    largest class is the decision. Where an output holds boxes and scores, the decisions are the scores that are high.
    Of several outputs that decide something, the one whose decisions agree least counts: beside the first one, those
    that hold probabilities, and logits where they are clear.

    Raises:
        MetricError: the output has one value per sample, or its shape differs from FP32's.
    """
    first, share = next(iter(outputs)), None
    for name, array in outputs.items():
        if not is_float(np.asarray(array).dtype) and name != first:
            continue
        decides = any(length > 1 for length in np.shape(array)[1:])
        if name == first and len(outputs) == 1 and not decides:
            break
        before, after = _pair("agreement", name, outputs, reference)
        if not decides:
            other = yes_or_no(before.reshape(len(before), -1)[:, 0], after.reshape(len(after), -1)[:, 0])
        elif name == first:
            other = _agreeing(name, before, after)
        else:
            other = _of_head(name, before, after)
        other = other * _finite_rows(after)
        share = other if share is None else np.minimum(share, other)
    if share is None:
        raise MetricError(_single_value("agreement", first))
    return share


def _of_head(name: str, before: Array, after: Array) -> Array:
    """Return the share of the decisions of a further output that agree, float64[samples]; 1 where it makes none."""
    first, second = (_class_rows("agreement", name, array) for array in (before, after))
    if are_probabilities(first):
        return _agreeing(name, before, after)
    share = clear_decisions(first, second)
    for row in np.flatnonzero(((first >= 0) & (first <= 1)).all(axis=(1, 2))):  # each is a yes or a no
        share[row] = decisions_agree(Kind(first[row], second[row], True))
    return share


def _agreeing(name: str, before: Array, after: Array) -> Array:
    """Return the share of the decisions of one output that agree, float64[samples]."""
    answers = [_class_rows("agreement", name, array).argmax(axis=-1) for array in (before, after)]
    share: Array = (answers[0] == answers[1]).mean(axis=1)
    for row, kinds in mixed(before, after):
        share[row] = min(decisions_agree(kind) for kind in kinds[1:])
    return share


def kl(outputs: Outputs, labels: Array | None, reference: Outputs | None) -> Array:
    """Return the KL divergence of the class distributions of the output from FP32's, in nats, averaged over positions.

    Outputs are taken as logits, to which softmax is applied, unless those of FP32 are probabilities already (Kullback
    and Leibler, On Information and Sufficiency, Annals of Mathematical Statistics 22, 1951).

    Raises:
        MetricError: the output has one value per sample, or its shape differs from FP32's.
    """
    name, before, after = _first_pair("kl", outputs, reference)
    rows = [_class_rows("kl", name, array) for array in (before, after)]
    to_log = log_normalised if are_probabilities(rows[0]) else log_softmax
    step = max(1, _AT_ONCE // max(rows[0][:, 0].size, 1))
    parts = [[whole[:, at : at + step] for whole in rows] for at in range(0, rows[0].shape[1], step)]
    divergence = np.concatenate([divergences(*map(to_log, part)) for part in parts], axis=1).mean(axis=1)
    for row, (_, *kinds) in mixed(before, after):
        for kind in [kind for kind in kinds if kind.probable]:  # boxes are no classes; each score is a decision
            divergence[row] = separate_kl(kind)
    bounded: Array = np.where(_finite_rows(after), np.clip(divergence, 0, WORST_KL), WORST_KL)
    return bounded


def cosine(outputs: Outputs, labels: Array | None, reference: Outputs | None) -> Array:
    """Return the cosine similarity with FP32's outputs, from 0 to 1; the output and kind of values least alike count.

    Raises:
        MetricError: there is no float output, or the shape of one differs from FP32's.
    """

    def similarity(before: Array, after: Array, floor: float) -> Array:
        if before.shape[1] == 1:  # two numbers always point the same way, whatever they are
            after, before = np.hstack([after, before]), np.hstack([before, after])
        norms = np.sqrt((np.square(before).sum(axis=1) + floor) * (np.square(after).sum(axis=1) + floor))
        dot = (before * after).sum(axis=1) + floor
        both_zero = ~before.any(axis=1) & ~after.any(axis=1)
        # A negative cosine counts as 0: an output that points the other way is as useless as one at a right angle.
        return np.where(norms > 0, np.clip(dot / np.where(norms > 0, norms, 1), 0, 1), both_zero)

    return _over_float_outputs("cosine", outputs, reference, similarity, worst=0.0, least=np.minimum)


def noise_to_signal(outputs: Outputs, labels: Array | None, reference: Outputs | None) -> Array:
    """Return the power of the error over that of FP32's outputs; the output and the kind of values least alike count.

    Raises:
        MetricError: there is no float output, or the shape of one differs from FP32's.
    """

    def ratio(before: Array, after: Array, floor: float) -> Array:
        error = after - before
        noise, signal = np.einsum("ij,ij->i", error, error), np.einsum("ij,ij->i", before, before) + floor
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            quotient = noise / signal
        return np.where(noise > 0, np.minimum(quotient, WORST_NOISE_TO_SIGNAL), 0.0)

    return _over_float_outputs("sqnr", outputs, reference, ratio, worst=WORST_NOISE_TO_SIGNAL, least=np.maximum)


def _over_float_outputs(
    metric: str,
    outputs: Outputs,
    reference: Outputs | None,
    compare: Callable[[Array, Array, float], Array],
    *,
    worst: float,
    least: np.ufunc,
) -> Array:
    """Return the worst score over all float outputs and the kinds of values in them, whatever their size and scale.

    Args:
        metric: the name of the metric in messages.
        outputs: the outputs of the candidate.
        reference: the outputs of FP32.
        compare: (before, after, power of the reference that is added to what is there) -> scores, with
            float64[samples, values] for each of the two.
        worst: the score of a sample that is not finite.
        least: takes the worse one of two scores.
    """
    result: Array | None = None
    for name in outputs:
        if not is_float(np.asarray(outputs[name]).dtype):
            continue
        shaped = _pair(metric, name, outputs, reference)
        before, after = (array.reshape(len(array), -1) for array in shaped)
        finite = _finite_rows(after)
        if not finite.all():
            after = np.where(finite[:, None], after, 0.0)
        # The squares of float64 numbers can overflow, and those of very many float32 numbers, such as masked logits.
        if np.asarray(outputs[name]).dtype.itemsize > 4 or _overflows(before, after):
            scale = np.maximum(np.abs(before).max(axis=1), np.abs(after).max(axis=1))
            scale = np.where(scale > 0, scale, 1.0)[:, None]
            before, after = before / scale, after / scale
        found = compare(before, after, 0.0)
        with np.errstate(over="ignore", invalid="ignore"):  # samples that are not finite get the worst score anyway
            for row, kinds in mixed(*shaped):
                for kind in kinds:
                    pair = (kind.before.reshape(1, -1), kind.after.reshape(1, -1))
                    found[row] = least(found[row], compare(*pair, kind.floor)[0])
        found = np.where(finite, found, worst)
        result = found if result is None else least(result, found)
    if result is None:
        raise MetricError(f"{metric} needs at least one float output, the model gives {', '.join(outputs)}")
    return result


def _overflows(*arrays: Array) -> bool:
    return any(array.dtype == np.float32 and np.abs(array).max() > _LARGE for array in arrays)


def _first_pair(metric: str, outputs: Outputs, reference: Outputs | None) -> tuple[str, Array, Array]:
    name = next(iter(outputs))
    return name, *_pair(metric, name, outputs, reference)


def _pair(metric: str, name: str, outputs: Outputs, reference: Outputs | None) -> tuple[Array, Array]:
    """Return FP32's and the candidate's output in float64; in float32 where both are so and hold very many values."""
    before, after = np.asarray((reference or {})[name]), np.asarray(outputs[name])
    # Over the vocabulary of a language model, float64 takes longer than the model does.
    if before.size < _VERY_MANY or {before.dtype, after.dtype} != {np.dtype(np.float32)}:
        before, after = before.astype(np.float64), after.astype(np.float64)
    if before.shape != after.shape:
        raise MetricError(
            f"{metric} needs output {name!r} in FP32's shape {before.shape}, got {after.shape}; "
            f"where an output's shape depends on the values, use module:function"
        )
    if before.size == 0:
        raise MetricError(f"{metric} needs values, but output {name!r} has shape {before.shape}")
    return before, after


def _class_rows(metric: str, name: str, array: Array) -> Array:
    """Return the output as [samples, positions, classes].

    The classes are taken to lie on the last axis that is longer than 1, as ONNX does not name axes.
    """
    axes = [length for length in array.shape[1:] if length > 1]
    if not axes:
        raise MetricError(_single_value(metric, name))
    return array.reshape(len(array), -1, axes[-1])


def _single_value(metric: str, name: str) -> str:
    return (
        f"{metric} compares classes, but output {name!r} has one value per sample; use cosine, sqnr or module:function"
    )


def _finite_rows(array: Array) -> Array:
    finite = np.isfinite(array).reshape(len(array), -1)
    return np.asarray(finite.all(axis=1))
