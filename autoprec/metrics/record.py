"""A metric as a record: what it is called, which direction is better, and how it is computed."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from autoprec.errors import MetricError
from autoprec.metrics.over_set import OverSet, Tally
from autoprec.metrics.returned import checked_scores
from autoprec.metrics.scores import Outputs, Score
from autoprec.precision import Array

Direction = Literal["higher", "lower"]

LABEL_ADVICE = "add labels to the data, or choose agreement, cosine, kl or sqnr"


_SHARES = ("top1", "agreement", "macro-accuracy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A measure of how good outputs are, sample by sample or for all samples together.

    Attributes:
        name: "top1", "agreement", "cosine", "kl", "sqnr", or "module:function".
        higher_is_better: whether a higher score is the better one.
        needs_labels: whether the scores cannot be computed without labels.
        needs_reference: whether the metric compares with FP32's outputs for the same samples.
        fingerprint: the fingerprint of what the metric computes; for a user's function, that of its source code.
        score: (outputs, labels, FP32's outputs) -> the score of each sample; use `scores`, which checks the result.
        margin: (outputs, labels) -> how clearly each sample was decided, float64[samples], above 0 where the decision
            is right; None if the metric makes no decisions.
        over_set: how the figure of a data set is computed where it is no mean of scores; the score of a sample is then
            what it contributes to the figure of the samples that it is scored with. None for other metrics.
        built_in: whether the scores are computed by autoprec itself, so that nothing about them needs to be tried.
    """

    name: str
    higher_is_better: bool
    needs_labels: bool
    needs_reference: bool
    fingerprint: str
    score: Score = field(repr=False, compare=False)
    margin: Callable[[Outputs, Array], Array] | None = field(default=None, repr=False, compare=False)
    over_set: OverSet | None = field(default=None, repr=False, compare=False)
    built_in: bool = field(default=False, repr=False, compare=False)

    def scores(
        self,
        outputs: Outputs,
        labels: Array | None,
        reference: Outputs | None,
        count: int | None = None,
    ) -> Array:
        """Return one score per sample.

        Args:
            outputs: the output arrays by name in the order of the model; the first axis of each is the samples. The
                metric gets them, and the labels, in a form that cannot be written to, since others read them later.
            labels: the labels, whose first axis is the samples, or None.
            reference: FP32's outputs for the same samples; only metrics that compare with them need it.
            count: the number of samples; by default the length of the labels, or of the first output.

        Returns:
            float64[count], all finite.

        Raises:
            MetricError: the metric raised an error, returned a wrong number of scores or one that is not finite, or
                cannot be computed for these outputs or without labels.
        """
        self._refuse_without_labels(labels)
        if self.needs_reference and reference is None:
            raise MetricError(f"the metric {self.name} compares with FP32's outputs, but was given none")
        if not outputs:
            raise MetricError(f"the metric {self.name} needs at least one output, but the model gave none")
        if count is None:
            count = len(labels) if labels is not None else len(next(iter(outputs.values())))
        known = None if reference is None else _sealed(reference)
        scores = self.score(_sealed(outputs), None if labels is None else _read_only(labels), known)
        return checked_scores(scores, count, self.name)

    def tell(self, tally: Tally, outputs: Outputs, labels: Array | None, count: int) -> None:
        """Give a tally of this metric the outputs for `count` more samples, in a form that cannot be written to.

        Raises:
            MetricError: the metric raised an error, or cannot be computed for these outputs or without labels.
        """
        self._refuse_without_labels(labels)
        tally.add(_sealed(outputs), None if labels is None else _read_only(labels), count)

    def drop(self, reference_scores: Array, scores: Array) -> float:
        """Return the mean loss from FP32's scores to a candidate's; it is positive if the candidate is worse."""
        loss = np.subtract(reference_scores, scores, dtype=np.float64)
        return float(np.mean(loss if self.higher_is_better else -loss))

    def _refuse_without_labels(self, labels: Array | None) -> None:
        if self.needs_labels and labels is None:
            raise MetricError(f"the metric {self.name} needs labels, but the data has none; {LABEL_ADVICE}")

    def describe(self, score: float) -> str:
        """Return a mean score as text with its unit; a drop of a built-in metric is written the same way."""
        if math.isnan(score):
            return "NaN"
        if self.name == "sqnr":
            return f"{-10 * math.log10(score):.1f} dB" if score > 0 else "no noise"
        if self.name in _SHARES:
            return f"{100 * score:.2f} %"
        return f"{score:.4g} nats" if self.name == "kl" else f"{score:.5g}"


def _sealed(outputs: Outputs) -> dict[str, Array]:
    return {name: _read_only(array) for name, array in outputs.items()}


def _read_only(array: Array) -> Array:
    """Return the same values in an array that refuses to be written to."""
    view: Array = np.asarray(array).view()
    view.flags.writeable = False
    return view
