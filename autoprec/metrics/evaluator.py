"""Evaluation of models against the FP32 model: the user's metric for each sample, and how alike the outputs are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from autoprec.backends.protocol import Computing
from autoprec.data.dataset import Batch, Dataset
from autoprec.errors import MetricError, ModelError
from autoprec.graph.interface import Interface, is_float
from autoprec.metrics.contract import check_figure, check_unchanged
from autoprec.metrics.gathering import Gathering
from autoprec.metrics.metric import Metric, load_metric
from autoprec.metrics.outcome import Outcome
from autoprec.metrics.over_set import Rows, scored_rows
from autoprec.metrics.remembered_outputs import RememberingEngine
from autoprec.metrics.running import run_dataset
from autoprec.metrics.scores import finite_samples
from autoprec.precision import Array
from autoprec.stats.drop import NO_DROP, Drop, blended, estimate_drop, set_drop, smoothed_losses, smoothed_set_drop
from autoprec.stats.resampling import effect_of

CACHE_LIMIT_BYTES = 1 << 30
"""The most bytes of FP32 outputs that are kept in memory; larger outputs are computed again for each plan."""


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
        reference_outputs: the outputs of FP32 for each batch, or None if they are too large to be kept, or in files.
        reference_rows: the statistics of FP32's samples, or None if the metric has none.
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
    reference_rows: Rows | None = None

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
        kept: list[dict[str, Array]] | None = None if isinstance(reference, RememberingEngine) else []
        gathering, margins, held = Gathering(metric), [], 0
        for batch, outputs in run_dataset(reference, dataset, interface, batch_size):
            check_finite(outputs, dataset)
            gathering.add(outputs, batch.labels, outputs, batch.count)
            margins += _decision_margins(metric, batch, outputs)
            held += sum(array.nbytes for array in outputs.values())
            if kept is not None:
                kept = None if held > CACHE_LIMIT_BYTES else [*kept, outputs]
        scored = gathering.scored()
        return cls(
            reference=reference,
            dataset=dataset,
            interface=interface,
            metric=metric,
            batch_size=batch_size,
            measures={name: load_metric(name) for name in ("sqnr", *fidelity)},
            reference_scores=scored.contributions,
            reference_margins=np.concatenate(margins) if margins else None,
            reference_outputs=None if kept is None else tuple(kept),
            reference_rows=scored.rows,
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
        totals, count, finite = dict.fromkeys(self.measures, 0.0), 0, True
        gathering, margins = Gathering(self.metric), list[Array]()
        judged = enough is not None and (self.metric.over_set is None or self.metric.over_set.judges_parts)
        due = [share * self.dataset.count for share in looks] if judged else []
        stream = self._stream(engine)
        for (batch, outputs), expected in zip(stream, self._expected(), strict=False):
            good = finite_samples(outputs)
            finite = finite and bool(good.all())
            gathering.add(outputs, batch.labels, expected, batch.count, finite=bool(good.all()))
            margins += _decision_margins(self.metric, batch, outputs)
            for name, total in self._fidelity(outputs, expected, batch.count).items():
                totals[name] += total
            count += batch.count
            if count < self.dataset.count and not (due and count >= due[0]):
                continue
            mean = {name: total / count for name, total in totals.items() if name in self.measures}
            clear = np.concatenate(margins) if margins else None
            scored = gathering.scored()
            outcome = Outcome(
                scores=scored.contributions,
                finite=finite,
                noise=mean["sqnr"],
                kl=mean.get("kl"),
                agreement=mean.get("agreement"),
                margins=clear,
                groups=scored.groups,
                rows=scored.rows,
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
        return self.metric.drop(self._reference(outcome), outcome.scores)

    def estimated_drop(self, outcome: Outcome, confidence: float = 0.95) -> Drop:
        """Return the drop with its interval, estimated from margins if they are known, see `estimate_drop`."""
        if not outcome.finite:
            return replace(NO_DROP, samples=len(outcome.scores))
        reference = self._reference(outcome)
        # It computes what FP32 computes, which integers, such as decisions, do not show.
        floats = any(is_float(spec.dtype) for spec in self.interface.outputs)
        if floats and outcome.noise == 0.0 and np.array_equal(reference, outcome.scores):
            return Drop(estimate=0.0, low=0.0, high=0.0, samples=len(reference), method="counted")
        if self.metric.over_set is not None:
            return self._set_drop(outcome, reference, confidence)
        margins = None
        if self.reference_margins is not None and outcome.margins is not None:
            margins = (self.reference_margins[: len(outcome.scores)], outcome.margins)
        return estimate_drop(
            reference,
            outcome.scores,
            self.metric.higher_is_better,
            margins=margins,
            confidence=confidence,
        )

    def _set_drop(self, outcome: Outcome, reference: Array, confidence: float) -> Drop:
        """The drop of a figure over the data set."""
        loss = reference - outcome.scores if self.metric.higher_is_better else outcome.scores - reference
        method = "blocks" if outcome.rows is None else "resampled"
        groups = outcome.groups or len(loss)
        counted = set_drop(loss, groups, confidence, effect=effect_of(reference), method=method)
        smooth = self._smoothed(outcome)
        return counted if smooth is None else smoothed_set_drop(counted, loss, smooth, confidence)

    def _smoothed(self, outcome: Outcome) -> Array | None:
        """What each sample adds to the drop if its decision counts by a smooth step; None without such a decision."""
        before, after, over_set = self.reference_margins, outcome.margins, self.metric.over_set
        if before is None or after is None or over_set is None or outcome.rows is None:
            return None
        first, worth = before[: len(after)], over_set.worth(outcome.rows)
        if worth is None or not (np.isfinite(first).all() and np.isfinite(after).all()):
            return None
        result: Array = worth * smoothed_losses(first, after)
        return result

    def check_metric(self) -> None:
        """Check that the metric still gives FP32's first batch the scores that it gave it at the beginning.

        Raises:
            MetricError: a score has changed, so that those of other plans cannot be compared with FP32's.
        """
        if self.reference_outputs is not None or isinstance(self.reference, RememberingEngine):
            batch = next(self.dataset.batches(self.interface.batch_size or self.batch_size))
            scores = self.reference_scores[: batch.count]
            if self.metric.over_set is None:
                check_unchanged(self.metric, next(self._expected()), batch.labels, scores)
            elif not self.metric.built_in:
                check_figure(self.metric, float(self.reference_scores.mean()), self.evaluate(self.reference).scores)

    def losses(self, outcome: Outcome) -> Array:
        """Return what each sample adds to the drop, float64[samples]."""
        loss: Array = self._reference(outcome) - outcome.scores
        loss = loss if self.metric.higher_is_better else -loss
        if self.metric.over_set is not None or self.reference_margins is None or outcome.margins is None:
            return loss
        return blended(loss, smoothed_losses(self.reference_margins[: len(outcome.margins)], outcome.margins))

    def _reference(self, outcome: Outcome) -> Array:
        """FP32's scores of the samples of an outcome, which may be the first ones only."""
        count = len(outcome.scores)
        over_set, rows = self.metric.over_set, self.reference_rows
        if over_set is None or rows is None or count == len(rows):
            return self.reference_scores[:count]
        # What a sample contributes depends on the samples that are with it.
        return scored_rows(over_set, rows[:count]).contributions

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
                f"correct the model or the data before tuning"
            )


def _decision_margins(metric: Metric, batch: Batch, outputs: Mapping[str, Array]) -> list[Array]:
    """Return the margins of the samples of a batch, or nothing if the metric makes no decisions."""
    if metric.margin is None or batch.labels is None:
        return []
    return [metric.margin(outputs, batch.labels)]
