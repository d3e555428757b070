"""A figure over the data set against that of the baseline."""

from __future__ import annotations

import numpy as np
import pytest

from autoprec.gate.decision import decide
from autoprec.gate.set_accuracy import compare_figures
from autoprec.gate.verdict import Status
from autoprec.metrics.metric import Metric, load_metric
from autoprec.metrics.over_set import Rows, scored_rows
from autoprec.stats.significance import Compared, SignificanceTest

Array = np.ndarray
CER = load_metric("cer")


def compared(before: Rows, after: Rows, metric: Metric = CER) -> Compared:
    assert metric.over_set is not None
    sides = [scored_rows(metric.over_set, rows).contributions for rows in (before, after)]
    return compare_figures(metric, *sides, rows=(before, after))


def lines(generator: np.random.Generator, rate: Array) -> Rows:
    """Edits and lengths of lines: a statistic of the character error rate."""
    lengths = np.random.default_rng(0).integers(10, 60, len(rate))
    return tuple(np.array([pair], float) for pair in zip(generator.poisson(rate * lengths), lengths, strict=True))


def test_the_loss_is_the_difference_of_the_figures_of_all_samples() -> None:
    generator = np.random.default_rng(3)
    before, after = lines(generator, np.full(80, 0.02)), lines(generator, np.full(80, 0.10))
    result = compared(before, after)
    rates = [np.concatenate(rows).sum(axis=0) for rows in (before, after)]

    assert result.change.estimate == pytest.approx(rates[1][0] / rates[1][1] - rates[0][0] / rates[0][1])
    assert result.test is SignificanceTest.SWAPS
    assert decide(result, 0.02)[0] is Status.WORSE
    assert decide(compared(after, before), 0.02)[0] is Status.FINE


def test_under_the_null_few_gates_fail() -> None:
    """One in a hundred may; three in forty would be a fault."""
    generator = np.random.default_rng(1)
    few = np.full(60, 0.05)
    alarms = sum(compared(lines(generator, few), lines(generator, few)).p < 0.01 for _ in range(40))

    assert alarms <= 2


@pytest.mark.parametrize(("shift", "different"), [(0.0, False), (0.3, True)])
def test_a_metric_without_statistics_is_compared_by_its_blocks(shift: float, different: bool) -> None:
    """Sixteen blocks of five samples each, whose samples have the same contribution."""
    generator = np.random.default_rng(2)
    before = np.tile(generator.normal(0, 1, 16), 5)
    after = before - np.tile(generator.normal(shift, 0.2, 16), 5)
    result = compare_figures(load_metric("f1"), before, after, groups=16)

    assert result.test is SignificanceTest.STUDENT
    assert result.different is different


def test_equal_figures_are_no_loss() -> None:
    rows = lines(np.random.default_rng(4), np.full(30, 0.05))

    assert compared(rows, rows).p == 1.0
