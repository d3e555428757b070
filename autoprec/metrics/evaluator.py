"""Running models over data: outputs batch by batch, per-sample scores, fidelity to FP32."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoprec.backends.protocol import Computing
from autoprec.data.dataset import Batch, Dataset
from autoprec.errors import MetricError, ModelError
from autoprec.graph.interface import Interface
from autoprec.metrics.metric import Metric, load_metric
from autoprec.metrics.running import run_dataset
from autoprec.metrics.scores import finite_samples
from autoprec.precision import Array
from autoprec.stats.drop import Drop, counted_drop, estimate_drop, smoothed_losses

CACHE_LIMIT_BYTES = 1 << 30
"""Reference outputs above this are computed again for each plan instead of being kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a model did on a data set.

    Attributes:
        scores: the metric for each sample, float64[samples]; NaN where its outputs were not finite.
        finite: whether all outputs were.
        noise: mean over samples of the noise-to-signal power ratio of the outputs against FP32.
        kl: mean KL divergence from FP32 in nats, None for outputs that are no distributions.
        agreement: share of equal top-1 decisions with FP32, None likewise.
        margins: how clearly each sample was decided, None for metrics that make no decisions.
    """

    scores: Array
    finite: bool
    noise: float
    kl: float | None
    agreement: float | None
    margins: Array | None = None

    @property
    def sqnr_db(self) -> float:
        """Signal to quantisation noise ratio in dB."""
        return float("inf") if self.noise <= 0 else float(-10 * np.log10(self.noise))


class Evaluator:
    """Scores models on one data set against the FP32 model.

    Args:
        reference: the FP32 engine.
        dataset: the samples.
        interface: of the model.
        metric: the user's.
        batch_size: samples for each run.
        fidelity: what to measure against FP32, besides "sqnr".

    Raises:
        ModelError: the FP32 model gives NaN or infinity.
    """

    def __init__(
        self,
        reference: Computing,
        dataset: Dataset,
        interface: Interface,
        metric: Metric,
        batch_size: int,
        fidelity: tuple[str, ...] = ("kl", "agreement"),
    ) -> None:
        self.dataset, self.interface, self.metric, self.batch_size = dataset, interface, metric, batch_size
        self._engine = reference
        self._cache: list[dict[str, Array]] | None = []
        self._measures = {name: load_metric(name) for name in ("sqnr", *fidelity)}
        scores, margins, held = [], [], 0
        for batch, outputs in run_dataset(reference, dataset, interface, batch_size):
            check_finite(outputs, dataset)
            scores.append(metric.scores(outputs, batch.labels, outputs, batch.count))
            margins += self._margins(batch, outputs)
            held += sum(array.nbytes for array in outputs.values())
            if self._cache is not None:
                self._cache = None if held > CACHE_LIMIT_BYTES else [*self._cache, outputs]
        self.reference_scores: Array = np.concatenate(scores)
        self.reference_margins: Array | None = np.concatenate(margins) if margins else None

    def evaluate(
        self, engine: Computing, enough: Callable[[Outcome], bool] | None = None, looks: Sequence[float] = (0.25,)
    ) -> Outcome:
        """Scores and fidelity of a model on every sample.

        Args:
            engine: the model.
            enough: looks at the outcome on the first samples; where it says so, that is the result.
            looks: the shares of the samples that it looks at, rising. More of them need wider intervals.
        """
        scores, totals, count, finite = [], dict.fromkeys(self._measures, 0.0), 0, True
        margins: list[Array] = []
        due = [share * self.dataset.count for share in looks] if enough is not None else []
        stream = self._stream(engine)
        for (batch, outputs), expected in zip(stream, self._expected(), strict=False):
            good = finite_samples(outputs)
            finite = finite and bool(good.all())
            scores.append(self._scores(batch, outputs, expected, good))
            margins += self._margins(batch, outputs)
            for name, total in self._fidelity(outputs, expected, batch.count).items():
                totals[name] += total
            count += batch.count
            if count < self.dataset.count and not (due and count >= due[0]):
                continue
            mean = {name: total / count for name, total in totals.items() if name in self._measures}
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
        """The mean loss of the metric against FP32, positive = worse; infinite where outputs were not finite."""
        if not outcome.finite:
            return float("inf")
        return self.metric.drop(self.reference_scores[: len(outcome.scores)], outcome.scores)

    def estimated_drop(self, outcome: Outcome, confidence: float = 0.95) -> Drop:
        """The drop with its interval, as well as these samples let it be known."""
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
        if self.metric.needs_reference:  # what it scores are the changes themselves
            return counted_drop(reference, outcome.scores, self.metric.higher_is_better, confidence)
        if self.reference_margins is not None and outcome.margins is not None:
            margins = (self.reference_margins[: len(outcome.scores)], outcome.margins)
            changed = outcome.agreement  # of top-1 decisions, which other metrics do not make
        return estimate_drop(
            reference,
            outcome.scores,
            self.metric.higher_is_better,
            margins=margins,
            changed=None if changed is None else 1.0 - changed,
            confidence=confidence,
        )

    def losses(self, outcome: Outcome) -> Array:
        """What each sample adds to the drop, float64[samples]."""
        if self.reference_margins is not None and outcome.margins is not None:
            return smoothed_losses(self.reference_margins[: len(outcome.margins)], outcome.margins)
        loss: Array = self.reference_scores[: len(outcome.scores)] - outcome.scores
        return loss if self.metric.higher_is_better else -loss

    def _margins(self, batch: Batch, outputs: Mapping[str, Array]) -> list[Array]:
        if self.metric.margin is None or batch.labels is None:
            return []
        return [self.metric.margin(outputs, batch.labels)]

    def _scores(self, batch: Batch, outputs: Mapping[str, Array], expected: Mapping[str, Array], good: Array) -> Array:
        if not good.all():  # a plan that overflows is worthless, not an error of the user's
            return np.full(batch.count, np.nan)
        return self.metric.scores(outputs, batch.labels, expected, batch.count)

    def _fidelity(self, outputs: Mapping[str, Array], expected: Mapping[str, Array], count: int) -> dict[str, float]:
        totals = {}
        for name, measure in list(self._measures.items()):
            try:
                totals[name] = float(measure.scores(outputs, None, expected, count).sum())
            except MetricError:  # one value per sample is no distribution
                del self._measures[name]
        return totals

    def _stream(self, engine: Computing) -> Iterator[tuple[Batch, Mapping[str, Array]]]:
        """Each batch with the outputs of an engine; FP32's are known already."""
        if engine is self._engine and self._cache is not None:
            batches = self.dataset.batches(self.interface.batch_size or self.batch_size)
            return zip(batches, self._cache, strict=True)
        return run_dataset(engine, self.dataset, self.interface, self.batch_size)

    def _expected(self) -> Iterator[dict[str, Array]]:
        if self._cache is not None:
            return iter(self._cache)
        stream = run_dataset(self._engine, self.dataset, self.interface, self.batch_size)
        return (outputs for _, outputs in stream)


def check_finite(outputs: Mapping[str, Array], dataset: Dataset) -> None:
    """Refuse FP32 outputs that no plan can be compared with.

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
    """How hard each sample is for FP32: its score, and the margin between its two largest outputs.

    Returns:
        float64[samples, 2]; the margin is 0 where the first output is no list of classes.

    Raises:
        ModelError: FP32 gives NaN or infinity.
    """
    rows = []
    for batch, outputs in run_dataset(engine, dataset, interface, batch_size):
        check_finite(outputs, dataset)
        scores = metric.scores(outputs, batch.labels, outputs, batch.count)
        rows.append(np.stack([scores, _margins(next(iter(outputs.values())), batch.count)], axis=1))
    return np.concatenate(rows)


def _margins(array: Array, count: int) -> Array:
    classes = array.shape[-1] if array.ndim > 1 else 1
    if array.size != count * classes or classes < 2 or array.dtype.kind != "f":
        return np.zeros(count)
    largest = np.partition(array.reshape(count, classes).astype(np.float64), -2, axis=1)[:, -2:]
    result: Array = largest[:, 1] - largest[:, 0]
    return result
