"""What a model scored on a data set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoprec.metrics.over_set import Rows
from autoprec.precision import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The scores of a model on a data set.

    Attributes:
        scores: the metric of each sample, or what it contributes to the figure of all of them, float64[samples]; NaN
            for the samples of a batch with outputs that are not finite.
        finite: whether all outputs were finite.
        noise: the mean over the samples of the noise-to-signal power ratio of the outputs against FP32.
        kl: the mean KL divergence from FP32 in nats, or None if the outputs are not class distributions.
        agreement: the share of samples with the same top-1 decision as FP32, or None likewise.
        margins: how clearly each sample was decided, float64[samples], or None if the metric makes no decisions.
        groups: the number of independent pieces behind the scores, None for one for each sample.
        rows: the statistics of each sample, None if the metric has none.
    """

    scores: Array
    finite: bool
    noise: float
    kl: float | None
    agreement: float | None
    margins: Array | None = None
    groups: int | None = None
    rows: Rows | None = None

    @property
    def sqnr_db(self) -> float:
        """The signal to quantisation noise ratio in dB; minus infinity where outputs were not finite."""
        if not self.finite:
            return float("-inf")
        return float("inf") if self.noise <= 0 else float(-10 * np.log10(self.noise))
