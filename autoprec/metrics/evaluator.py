"""Evaluation of models against the FP32 model: the user's metric for each sample, and how alike the outputs are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoprec.backends.protocol import Computing
from autoprec.data.dataset import Batch, Dataset
from autoprec.errors import MetricError, ModelError
from autoprec.graph.interface import Interface
from autoprec.metrics.contract import check_unchanged
from autoprec.metrics.metric import Metric, load_metric
from autoprec.metrics.running import run_dataset
from autoprec.metrics.scores import finite_samples
from autoprec.precision import Array
from autoprec.stats.drop import Drop, counted_drop, estimate_drop, smoothed_losses

CACHE_LIMIT_BYTES = 1 << 30
"""The most bytes of FP32 outputs that are kept in memory; larger outputs are computed again for each plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The scores of a model on a data set.

    Attributes:
        scores: the metric of each sample, float64[samples]; NaN for the samples of a batch with outputs that are not
            finite.
        finite: whether all outputs were finite.
        noise: the mean over the samples of the noise-to-signal power ratio of the outputs against FP32.
        kl: the mean KL divergence from FP32 in nats, or None if the outputs are not class distributions.
        agreement: the share of samples with the same top-1 decision as FP32, or None likewise.
        margins: how clearly each sample was decided, float64[samples], or None if the metric makes no decisions.
    """

    scores: Array
    finite: bool
    noise: float
    kl: float | None
    agreement: float | None
    margins: Array | None = None

    @property
    def sqnr_db(self) -> float:
        """The signal to quantisation noise ratio in dB; minus infinity where outputs were not finite."""
        if not self.finite:
            return float("-inf")
        return float("inf") if self.noise <= 0 else float(-10 * np.log10(self.noise))


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluator:
    """An evaluator of models on one data set against the FP32 model; `against` makes one.

    Attributes:
        reference: the FP32 engine.
        dataset: the samples.
        interface: the interface of the model.
        metric: the user's metric.
        batch_size: the number of samples of one run.
        measures: name -> metric that compares with FP32. A metric that cannot compare these outputs is removed.
        reference_scores: the scores of FP32, float64[samples].
        reference_margins: the margins of FP32, float64[samples], or None if the metric makes no decisions.
        reference_outputs: the outputs of FP32 for each batch, or None if they are too large to be kept.
    """

    reference: Computing
    dataset: Dataset
    interface: Interface
    metric: Metric
    batch_size: int
    measures: dict[str, Metric]
    reference_scores: Array
    reference_margins: Array | None
    reference_outputs: tuple[dict[str, Array], ...] | None

    @classmethod
    def against(
        cls,
        reference: Computing,
        dataset: Dataset,
        interface: Interface,
        metric: Metric,
        batch_size: int,
        *,
        fidelity: tuple[str, ...] = ("kl", "agreement"),
    ) -> Evaluator:
        """Run the FP32 engine `reference` over `dataset`, and return the evaluator that compares with it.

        Args:
            reference: the FP32 engine, which must stay open.
            dataset: the samples.
            interface: the interface of the model.
            metric: the user's metric.
            batch_size: the number of samples of one run.
            fidelity: the names of the metrics that compare with FP32, besides "sqnr".

        Raises:
            ModelError: the FP32 model gives NaN or infinity.
        """
        kept: list[dict[str, Array]] | None = []
        scores, margins, held = [], [], 0
        for batch, outputs in run_dataset(reference, dataset, interface, batch_size):
            check_finite(outputs, dataset)
            scores.append(metric.scores(outputs, batch.labels, outputs, batch.count))
            margins += _decision_margins(metric, batch, outputs)
            held += sum(array.nbytes for array in outputs.values())
            if kept is not None:
                kept = None if held > CACHE_LIMIT_BYTES else [*kept, outputs]
        return cls(
            reference=reference,
            dataset=dataset,
            interface=interface,
            metric=metric,
            batch_size=batch_size,
            measures={name: load_metric(name) for name in ("sqnr", *fidelity)},
            reference_scores=np.concatenate(scores),
            reference_margins=np.concatenate(margins) if margins else None,
            reference_outputs=None if kept is None else tuple(kept),
        )

    def evaluate(
        self, engine: Computing, enough: Callable[[Outcome], bool] | None = None, looks: Sequence[float] = (0.25,)
    ) -> Outcome:
        """Return the scores of a model on every sample, or on the first ones if `enough` says that these suffice.

        Args:
            engine: the engine of the model.
            enough: receives the outcome on the first samples and returns whether to stop there.
            looks: the shares of the samples after which `enough` is asked, in rising order. The more often it is
                asked, the wider must be the intervals that it decides by.
        """
        scores, totals, count, finite = [], dict.fromkeys(self.measures, 0.0), 0, True
        margins: list[Array] = []
        due = [share * self.dataset.count for share in looks] if enough is not None else []
        stream = self._stream(engine)
        for (batch, outputs), expected in zip(stream, self._expected(), strict=False):
            good = finite_samples(outputs)
            finite = finite and bool(good.all())
            scores.append(self._scores(batch, outputs, expected, good))
            margins += _decision_margins(self.metric, batch, outputs)
            for name, total in self._fidelity(outputs, expected, batch.count).items():
                totals[name] += total
            count += batch.count
            if count < self.dataset.count and not (due and count >= due[0]):
                continue
            mean = {name: total / count for name, total in totals.items() if name in self.measures}
            clear = np.concatenate(margins) if margins else None
            outcome = Outcome(
                scores=np.concatenate(scores),
                finite=finite,
                noise=mean["sqnr"],
                kl=mean.get("kl"),
                agreement=mean.get("agreement"),
                margins=clear,
            )
            if count < self.dataset.count and enough is not None and enough(outcome):
                return outcome
            due = [index for index in due if index > count]
        return outcome

    def drop(self, outcome: Outcome) -> float:
        """Return the mean loss of the metric against FP32; it is infinite if some outputs were not finite.

        A positive value means that the model is worse than FP32.
        """
        if not outcome.finite:
            return float("inf")
        return self.metric.drop(self.reference_scores[: len(outcome.scores)], outcome.scores)

    def estimated_drop(self, outcome: Outcome, confidence: float = 0.95) -> Drop:
        """Return the drop with its interval, estimated from margins if they are known, see `estimate_drop`."""
        if not outcome.finite:
            return Drop(
                estimate=float("inf"),
                low=float("inf"),
                high=float("inf"),
                samples=len(outcome.scores),
                method="counted",
            )
        margins, changed = None, None
        reference = self.reference_scores[: len(outcome.scores)]
        if self.metric.needs_reference:  # such a metric scores the changes themselves, so the prior has nothing to add
            return counted_drop(reference, outcome.scores, self.metric.higher_is_better, confidence)
        if self.reference_margins is not None and outcome.margins is not None:
            margins = (self.reference_margins[: len(outcome.scores)], outcome.margins)
            changed = outcome.agreement  # it counts top-1 decisions, so it fits only metrics that have margins
        return estimate_drop(
            reference,
            outcome.scores,
            self.metric.higher_is_better,
            margins=margins,
            changed=None if changed is None else 1.0 - changed,
            confidence=confidence,
        )

    def check_metric(self) -> None:
        """Check that the metric still gives FP32's first batch the scores that it gave it at the beginning.

        Raises:
            MetricError: a score has changed, so that those of other plans cannot be compared with FP32's.
        """
        if self.reference_outputs is not None:
            batch = next(self.dataset.batches(self.interface.batch_size or self.batch_size))
            scores = self.reference_scores[: batch.count]
            check_unchanged(self.metric, self.reference_outputs[0], batch.labels, scores)

    def losses(self, outcome: Outcome) -> Array:
        """Return what each sample adds to the drop, float64[samples]."""
        if self.reference_margins is not None and outcome.margins is not None:
            return smoothed_losses(self.reference_margins[: len(outcome.margins)], outcome.margins)
        loss: Array = self.reference_scores[: len(outcome.scores)] - outcome.scores
        return loss if self.metric.higher_is_better else -loss

    def _scores(self, batch: Batch, outputs: Mapping[str, Array], expected: Mapping[str, Array], good: Array) -> Array:
        # A plan that overflows is worthless, but the user made no mistake. So the metric, which may be the user's own
        # function, is not called with such outputs, and no error is raised.
        if not good.all():
            return np.full(batch.count, np.nan)
        return self.metric.scores(outputs, batch.labels, expected, batch.count)

    def _fidelity(self, outputs: Mapping[str, Array], expected: Mapping[str, Array], count: int) -> dict[str, float]:
        totals = {}
        for name, measure in list(self.measures.items()):
            try:
                totals[name] = float(measure.scores(outputs, None, expected, count).sum())
            except MetricError:  # outputs with one value per sample are not a class distribution
                del self.measures[name]
        return totals

    def _stream(self, engine: Computing) -> Iterator[tuple[Batch, Mapping[str, Array]]]:
        """Yield each batch with the outputs of an engine; those of FP32 are known already if they were kept."""
        if engine is self.reference and self.reference_outputs is not None:
            batches = self.dataset.batches(self.interface.batch_size or self.batch_size)
            return zip(batches, self.reference_outputs, strict=True)
        return run_dataset(engine, self.dataset, self.interface, self.batch_size)

    def _expected(self) -> Iterator[dict[str, Array]]:
        if self.reference_outputs is not None:
            return iter(self.reference_outputs)
        stream = run_dataset(self.reference, self.dataset, self.interface, self.batch_size)
        return (outputs for _, outputs in stream)


def check_finite(outputs: Mapping[str, Array], dataset: Dataset) -> None:
    """Check that the outputs of FP32 are finite, since no plan can be compared with other ones.

    Raises:
        ModelError: an output holds NaN or infinity.
    """
    for name, array in outputs.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ModelError(
                f"output {name!r} of the FP32 model holds NaN or infinity on {dataset.origin}; "
                f"mend the model or the data before tuning"
            )


def difficulty(engine: Computing, dataset: Dataset, interface: Interface, metric: Metric, batch_size: int) -> Array:
    """Return how difficult each sample is for FP32: its score, and the margin between its two largest outputs.

    Returns:
        float64[samples, 2]. The margin is 0 if the first output does not hold one value per class.

    Raises:
        ModelError: the outputs of FP32 hold NaN or infinity.
    """
    rows = []
    for batch, outputs in run_dataset(engine, dataset, interface, batch_size):
        check_finite(outputs, dataset)
        scores = metric.scores(outputs, batch.labels, outputs, batch.count)
        rows.append(np.stack([scores, _top_margins(next(iter(outputs.values())), batch.count)], axis=1))
    return np.concatenate(rows)


def _decision_margins(metric: Metric, batch: Batch, outputs: Mapping[str, Array]) -> list[Array]:
    """Return the margins of the samples of a batch, or nothing if the metric makes no decisions."""
    if metric.margin is None or batch.labels is None:
        return []
    return [metric.margin(outputs, batch.labels)]


def _top_margins(array: Array, count: int) -> Array:
    classes = array.shape[-1] if array.ndim > 1 else 1
    if array.size != count * classes or classes < 2 or array.dtype.kind != "f":
        return np.zeros(count)
    largest = np.partition(array.reshape(count, classes).astype(np.float64), -2, axis=1)[:, -2:]
    result: Array = largest[:, 1] - largest[:, 0]
    return result
