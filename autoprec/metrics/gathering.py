"""The scores of a model, gathered batch by batch, whatever kind of metric gives them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from autoprec.metrics.metric import Metric
from autoprec.metrics.over_set import SetScore
from autoprec.precision import Array


class Gathering:
    """The scores of one model on the samples so far.

    A plan that overflows is worthless, but the user made no mistake. So the metric, which may be the user's own
    function, is not called with outputs that are not finite. Their samples get NaN; where the metric is over the data
    set, all samples do, since its figure is unknown.
    """

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self._tally = None if metric.over_set is None else metric.over_set.tally()
        self._parts: list[Array] = []
        self._count, self._finite = 0, True

    def add(
        self,
        outputs: Mapping[str, Array],
        labels: Array | None,
        expected: Mapping[str, Array],
        count: int,
        *,
        finite: bool = True,
    ) -> None:
        """Take in a batch.

        Args:
            outputs: the outputs of the model.
            labels: the labels of the samples, or None.
            expected: FP32's outputs for the same samples.
            count: the number of samples.
            finite: whether all outputs are finite.
        """
        self._count += count
        self._finite = self._finite and finite
        if self._tally is None:
            scores = self._metric.scores(outputs, labels, expected, count) if finite else np.full(count, np.nan)
            self._parts.append(scores)
        elif self._finite:
            self._metric.tell(self._tally, outputs, labels, count)

    def scored(self) -> SetScore:
        """Return the scores of all samples so far; those of a per-sample metric are its contributions."""
        if self._tally is None:
            return SetScore(contributions=np.concatenate(self._parts), groups=self._count, rows=None)
        if not self._finite:
            return SetScore(contributions=np.full(self._count, np.nan), groups=self._count, rows=None)
        return self._tally.score()
