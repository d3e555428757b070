"""The trial of a user's metric: what makes a score change is found before a plan is compared by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from autoprec.errors import MetricError
from autoprec.metrics.contract import check_contract, check_unchanged
from autoprec.metrics.metric import load_metric

Array = np.ndarray
OUTPUTS = {"y": np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)}
LABELS = np.arange(12) % 5
CALLS = [0]


def tried(function: Callable[[dict[str, Any], Any], Any]) -> None:
    check_contract(load_metric(function, "higher"), OUTPUTS, LABELS)


def own(outputs: dict[str, Array], labels: Array) -> Array:
    """Honest: the score of a sample depends on its own output and label alone."""
    return np.take_along_axis(outputs["y"], labels[:, None], 1)[:, 0]


def counts(outputs: dict[str, Array], labels: Array) -> Array:
    CALLS[0] += 1
    return own(outputs, labels) + CALLS[0]


def draws(outputs: dict[str, Array], labels: Array) -> Array:
    return own(outputs, labels) + np.random.default_rng().normal(size=len(labels))


def places(outputs: dict[str, Array], labels: Array) -> Array:
    return own(outputs, labels) * (1 + np.arange(len(labels)))


def sorts(outputs: dict[str, Array], labels: Array) -> Array:
    return np.sort(own(outputs, labels))


def normalises(outputs: dict[str, Array], labels: Array) -> Array:
    scores = own(outputs, labels)
    return scores - scores.mean()


def remembers_the_last(outputs: dict[str, Array], labels: Array) -> Array:
    scores, CALLS[0] = own(outputs, labels) + CALLS[0], len(labels)
    return scores


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (counts, "again for the same outputs; keep no state between calls"),
        (draws, "again for the same outputs; .*fix the seed"),
        (remembers_the_last, "again for the same outputs"),
        (places, "in another order of the samples; the place of a sample"),
        (sorts, "in another order of the samples"),
        (normalises, "in smaller batches; do not normalise"),
    ],
)
def test_a_metric_whose_scores_change_is_refused_with_what_changed(metric: Any, words: str) -> None:
    CALLS[0] = 0
    with pytest.raises(MetricError, match=rf":{metric.__name__} must repeat its scores, .* scored .*{words}"):
        tried(metric)


def test_a_metric_that_scores_each_sample_by_itself_is_believed() -> None:
    tried(own)


def test_a_metric_that_writes_through_another_view_is_refused() -> None:
    """A tensor of torch shares the memory of an array, and does not know that it must not be written to."""

    def writes(outputs: dict[str, Array], labels: Array) -> Array:
        array: Any = outputs["y"]
        array.base[0, 0] = 7.0
        return np.zeros(len(labels))

    with pytest.raises(MetricError, match="must leave its arguments as they are, but it writes into them"):
        check_contract(load_metric(writes, "higher"), {"y": OUTPUTS["y"].copy()}, LABELS)


def test_a_metric_that_changes_in_the_course_of_a_run_is_refused() -> None:
    CALLS[0] = 0
    metric = load_metric(counts, "higher")
    scores = metric.scores(OUTPUTS, LABELS, None)

    with pytest.raises(MetricError, match="again for the same outputs at the end of the run"):
        check_unchanged(metric, OUTPUTS, LABELS, scores)
