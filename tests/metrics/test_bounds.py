"""Bounds that cannot be meant, and too few samples, are questioned before anything is measured."""

from __future__ import annotations

import math

import numpy as np
import pytest

from autoprec.errors import UsageError
from autoprec.metrics.bounds import doubtful_bound, doubtful_for_scores, few_samples, refuse_bound
from autoprec.metrics.metric import Metric, load_metric


def own(direction: str) -> Metric:
    return load_metric(lambda outputs, labels: outputs["y"], direction)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["top1", "agreement", "cosine"])
def test_a_bound_that_no_plan_can_exceed_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"at most 1 for the metric {name}.* got 5: .* 5 percentage points give 0.05"):
        refuse_bound(load_metric(name), 5.0)


@pytest.mark.parametrize(("name", "bound"), [("top1", 1.0), ("top1", math.inf), ("kl", 5.0), ("sqnr", 5.0)])
def test_a_bound_that_a_plan_may_exceed_is_not_refused(name: str, bound: float) -> None:
    refuse_bound(load_metric(name), bound)


@pytest.mark.parametrize(
    ("name", "bound", "words"),
    [("top1", 0.5, "50 percentage points; for 0.5 points give 0.005"), ("sqnr", 30.0, "not decibels; 30 dB is 0.001")],
)
def test_a_bound_in_another_unit_is_questioned(name: str, bound: float, words: str) -> None:
    assert words in str(doubtful_bound(load_metric(name), bound))


@pytest.mark.parametrize(("name", "bound"), [("top1", 0.01), ("sqnr", 0.001), ("kl", 0.1), ("agreement", math.inf)])
def test_a_usual_bound_is_not_questioned(name: str, bound: float) -> None:
    assert doubtful_bound(load_metric(name), bound) is None


def test_a_bound_above_what_fp32_scores_is_questioned() -> None:
    scores = np.array([0.7, 0.9])

    assert "0.8 on average" in str(doubtful_for_scores(own("higher"), scores, 5.0))
    assert "11 times as much" in str(doubtful_for_scores(own("lower"), scores, 8.0))
    assert doubtful_for_scores(own("higher"), scores, 0.1) is None
    assert doubtful_for_scores(own("higher"), scores - 1.0, 5.0) is None


def test_too_few_samples_are_refused_and_few_are_said() -> None:
    with pytest.raises(UsageError, match=r"at least 4 samples are needed .* but there are 2 and 1"):
        few_samples(2, 1, 0.01)

    assert "a fault in up to 26% of all samples can stay unseen" in str(few_samples(11, 10, 0.01))
    assert few_samples(16, 16, 0.01) is None
