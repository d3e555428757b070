"""The trial of a user's metric: a sample must get the same score whenever, wherever and beside whatever it is scored.

Plans are compared sample by sample, in batches of whatever size the runtime takes, on samples that were dealt anew. A
score that depends on earlier calls, on the order, or on the other samples of the batch makes all of these figures
meaningless, although each of them looks like any other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from autoprec.backends.protocol import Computing
from autoprec.data.dataset import Dataset
from autoprec.errors import MetricError
from autoprec.files.json import array_fingerprint
from autoprec.graph.interface import Interface
from autoprec.metrics.metric import Metric, over_all_samples
from autoprec.metrics.running import run_dataset
from autoprec.metrics.scores import Outputs
from autoprec.precision import Array

_SAMPLES = 24
_TOLERANCE = 1e-4
"""Scores that differ by at most this share of the largest one are equal: a metric may compute in single precision."""


def try_metric(engine: Computing, dataset: Dataset, interface: Interface, metric: Metric, batch_size: int) -> Metric:
    """Try a user's metric on FP32's outputs for a few samples from the whole data set; built-in ones need no trial.

    Returns:
        The metric; a function that returns one number for several samples is taken for one over all samples.

    Raises:
        MetricError: see `check_contract`.
    """
    if metric.built_in:
        return metric
    few = min(dataset.count, _SAMPLES)
    spread = dataset.subset(np.linspace(0, dataset.count - 1, few).astype(int).tolist())
    runs = list(run_dataset(engine, spread, interface, batch_size))
    batches, outputs = zip(*runs, strict=True)
    # Outputs whose shape depends on the values cannot be joined, so that the trial has one batch only.
    shapes = [{name: array.shape[1:] for name, array in found.items()} for found in outputs]
    alike = all(shape == shapes[0] for shape in shapes)
    used = len(outputs) if alike else 1
    joined = {name: np.concatenate([o[name] for o in outputs[:used]]) for name in outputs[0]}
    known = [batch.labels for batch in batches[:used] if batch.labels is not None]
    labels = np.concatenate(known) if known else None
    metric = as_it_scores(metric, joined, labels)
    check_contract(metric, joined, labels)
    return metric


def as_it_scores(metric: Metric, outputs: Outputs, labels: Array | None) -> Metric:
    """Return the metric; one over all samples where it returns a single number for several samples."""
    count = len(next(iter(outputs.values())))
    if metric.built_in or metric.over_set is not None or count < 2:
        return metric
    copies = {name: np.array(array) for name, array in outputs.items()}
    found = metric.score(copies, None if labels is None else np.array(labels), None)
    return over_all_samples(metric) if found.ndim == 0 else metric


def check_contract(metric: Metric, outputs: Outputs, labels: Array | None) -> None:
    """Score the same samples twice, in another order, and in other batches; all scores must be the same.

    Args:
        metric: the metric to try.
        outputs: the outputs of FP32 for some samples.
        labels: their labels, or None.

    Raises:
        MetricError: a score changes, the metric writes into its arguments, or it cannot score these samples.
    """
    count = len(next(iter(outputs.values())))
    everything = np.arange(count)
    before = _contents(outputs, labels)
    first = _whole(metric, outputs, labels, count)
    if _contents(outputs, labels) != before:
        raise MetricError(
            f"the metric {metric.name} must leave its arguments as they are, but it writes into them; "
            f"work on a copy of outputs and labels"
        )
    _compare(metric, first, _whole(metric, outputs, labels, count), "again for the same outputs", _REPEATS)
    order = np.random.default_rng(0).permutation(count)
    _compare(metric, first, _scored(metric, outputs, labels, [order]), "in another order of the samples", _ORDER)
    parts = [part for part in np.split(everything, sorted({1, 3, count // 2})) if part.size]
    _compare(metric, first, _scored(metric, outputs, labels, parts), "in smaller batches", _BATCHES)


def check_unchanged(metric: Metric, outputs: Outputs, labels: Array | None, scores: Array) -> None:
    """Check that the metric still gives these outputs the scores that it gave them before.

    Raises:
        MetricError: a score has changed.
    """
    if not metric.built_in:
        again = metric.scores(outputs, labels, outputs, len(scores))
        _compare(metric, scores, again, "again for the same outputs at the end of the run", _REPEATS)


_REPEATS = "keep no state between calls, and fix the seed of whatever is random"
_ORDER = "the place of a sample among others must not count"
_BATCHES = "do not normalise, average or rank over the samples of a call"


def check_figure(metric: Metric, figure: float, scores: Array) -> None:
    """Check that a metric over the data set still gives FP32 the figure that it gave at the beginning.

    Raises:
        MetricError: the figure has changed.
    """
    again = np.array([scores.mean()])
    _compare(metric, np.array([figure]), again, "again for the same outputs at the end of the run", _REPEATS)


def _whole(metric: Metric, outputs: Outputs, labels: Array | None, count: int) -> Array:
    """Return what `_scored` returns, with the arrays themselves, so that it shows whether they are written into."""
    if metric.over_set is None:
        return metric.scores(outputs, labels, outputs, count)
    tally = metric.over_set.tally()
    metric.tell(tally, outputs, labels, count)
    return np.array([tally.score().figure])


def _scored(metric: Metric, outputs: Outputs, labels: Array | None, parts: Sequence[Array]) -> Array:
    """Return the score of each sample, scored in these parts; the figure alone of a metric over the data set."""
    if metric.over_set is not None:
        tally = metric.over_set.tally()
        for part in parts:
            some = {name: array[part] for name, array in outputs.items()}
            metric.tell(tally, some, None if labels is None else labels[part], len(part))
        return np.array([tally.score().figure])
    result = np.full(len(next(iter(outputs.values()))), np.nan)
    for part in parts:
        some = {name: array[part] for name, array in outputs.items()}
        result[part] = metric.scores(some, None if labels is None else labels[part], some, len(part))
    return result


def _compare(metric: Metric, first: Array, other: Array, how: str, advice: str) -> None:
    apart = np.abs(first - other)
    worst = int(apart.argmax())
    if apart[worst] > _TOLERANCE * max(float(np.abs(first).max()), float(np.abs(other).max())):
        what = "a sample" if metric.over_set is None else "a data set"
        raise MetricError(
            f"the metric {metric.name} must repeat its scores, but {what} that scored {first[worst]:.6g} scored "
            f"{other[worst]:.6g} when it was scored {how}; {advice}"
        )


def _contents(outputs: Outputs, labels: Array | None) -> str:
    return array_fingerprint({**outputs, **({} if labels is None else {"labels of the samples": labels})})
