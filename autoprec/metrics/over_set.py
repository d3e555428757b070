"""Metrics over a data set: figures that are no mean of per-sample scores, such as a mean average precision.

A model that is evaluated leaves a `SetScore`: the figure, and what each sample contributes to it. The contributions are
jackknife pseudo-values that are shifted so that their mean is exactly the figure. Whatever is known about means of
scores, such as paired intervals, holds for them to first order (Efron and Tibshirani, An Introduction to the Bootstrap,
1993, chapter 11).

A built-in metric keeps sufficient statistics of each sample, such as the counts of a confusion matrix, so that a draw
of a bootstrap costs a weighted sum and no new evaluation. A user's object or function has none: it is computed again
without one block of samples at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from autoprec.metrics.scores import Outputs
from autoprec.precision import Array
from autoprec.stats.resampling import contributions_of

Rows = tuple[Array, ...]
"""The statistics of each sample: float64[rows, columns], where the number of rows may differ between samples."""

Figures = Callable[[Rows, Array], Array]
"""(statistics of n samples, weights float64[draws, n]) -> the figure of each draw, float64[draws]."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetScore:
    """What a metric over a data set says of a model.

    Attributes:
        contributions: what each sample contributes, float64[samples]; their mean is the figure.
        groups: the number of independent pieces behind the contributions.
        rows: the statistics of each sample, None where the metric has none.
    """

    contributions: Array
    groups: int
    rows: Rows | None

    @property
    def figure(self) -> float:
        """The figure of all samples together."""
        return float(self.contributions.mean())


class Tally(Protocol):
    """What is gathered while a model runs over a data set."""

    def add(self, outputs: Outputs, labels: Array | None, count: int) -> None:
        """Take in the outputs for `count` more samples."""

    def score(self) -> SetScore:
        """Return the score of all samples so far; more may follow."""


class OverSet(Protocol):
    """How a metric over a data set is computed."""

    @property
    def judges_parts(self) -> bool:
        """Whether the score of the first samples is known without a new run, so that a plan may be judged by them."""

    def tally(self) -> Tally:
        """Return an empty tally."""

    def worth(self, rows: Rows) -> Array | None:
        """Return what each sample's decision is worth, float64[samples]; None where there is no such thing."""

    def figures(self, rows: Rows, weights: Array) -> Array:
        """Return the figure of each draw, float64[draws]; see `Figures`.

        Raises:
            TypeError: the metric has no statistics.
        """


@dataclass(frozen=True, slots=True)
class ByStatistics:
    """A metric that is a function of sufficient statistics of the samples.

    Attributes:
        statistics: (outputs, labels) -> the statistics of each sample.
        function: from statistics and weights to figures.
        worth_of: statistics -> by how much the figure drops for each decision that is lost, times the number of
            samples, float64[samples]; None where the figure is not one of a decision for each sample.
    """

    statistics: Callable[[Outputs, Array | None], Sequence[Array]]
    function: Figures
    worth_of: Callable[[Rows], Array] | None = None

    @property
    def judges_parts(self) -> bool:
        """Always, since the statistics of the first samples are at hand."""
        return True

    def tally(self) -> Tally:
        """Return an empty tally."""
        return _StatisticsTally(self)

    def worth(self, rows: Rows) -> Array | None:
        """Return what each sample's decision is worth, float64[samples]; None where there is no such thing."""
        return None if self.worth_of is None else self.worth_of(rows)

    def figures(self, rows: Rows, weights: Array) -> Array:
        """Return the figure of each draw, float64[draws]."""
        return self.function(rows, weights)


class _StatisticsTally:
    def __init__(self, metric: ByStatistics) -> None:
        self._metric = metric
        self._rows: list[Array] = []

    def add(self, outputs: Outputs, labels: Array | None, count: int) -> None:
        self._rows += [np.atleast_2d(np.asarray(row, np.float64)) for row in self._metric.statistics(outputs, labels)]

    def score(self) -> SetScore:
        return scored_rows(self._metric, tuple(self._rows))


def scored_rows(metric: OverSet, rows: Rows) -> SetScore:
    """Return the score that follows from statistics."""
    found, groups = contributions_of(lambda weights: metric.figures(rows, weights), len(rows), sum(map(len, rows)))
    return SetScore(contributions=found, groups=groups, rows=rows)


def stacked(rows: Rows) -> Array:
    """Return statistics of one row a sample as float64[samples, columns]."""
    result: Array = np.concatenate(rows)
    return result
