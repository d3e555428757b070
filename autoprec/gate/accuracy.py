"""The check of the accuracy: is it different from the baseline, and is the difference large enough to matter?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from autoprec.backends.protocol import Backend
from autoprec.backends.slow_builds import TimesByCarrier
from autoprec.data.annotations import BoxLabels
from autoprec.data.dataset import Dataset
from autoprec.data.sources import load_data
from autoprec.errors import DataError
from autoprec.gate.decision import UNSEEN, caught_drop, decide
from autoprec.gate.evidence import Evidence, SampleScores
from autoprec.gate.gather import kept_scores, statistics_of
from autoprec.gate.rebuild import Rebuilt
from autoprec.gate.runtime import Runtime
from autoprec.gate.set_accuracy import compare_figures
from autoprec.gate.verdict import Check, Status
from autoprec.graph.model import to_bytes
from autoprec.metrics.contract import try_metric
from autoprec.metrics.evaluator import Evaluator
from autoprec.metrics.metric import Metric
from autoprec.metrics.outcome import Outcome
from autoprec.metrics.over_set import scored_rows
from autoprec.precision import Array
from autoprec.recipes.ranging import CalibrationRecipe
from autoprec.run.settings import DataLike
from autoprec.stats.significance import Compared, SignificanceTest, compare_scores

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The scores of the rebuilt plan.

    Attributes:
        samples: the scores with the digests of the samples.
        data: the samples.
        finite: whether all outputs were finite.
        missing: the number of samples of the baseline that the data does not have.
        metric: the metric as it scored: a function that returns one number is one over all samples.
        groups: the number of independent groups behind the scores.
    """

    samples: SampleScores
    data: Dataset
    finite: bool
    missing: int
    metric: Metric
    groups: int | None


def default_bound(committed: Evidence) -> float:
    """Return the default bound: half of the drop that the tune allowed, but no less than decisions can show.

    The tune allowed its whole bound against FP32. If the gate allowed it again, the model could lose twice as much as
    the user wanted.
    """
    half = float(committed.metric["max_drop"]) / 2
    scores = committed.samples.plan
    if not scores or any(score not in (0.0, 1.0) for score in scores):
        return half
    return max(half, math.ceil(1e4 * UNSEEN / len(scores)) / 1e4)


def find_samples(
    source: DataLike,
    rebuilt: Rebuilt,
    recipe: CalibrationRecipe,
    committed: SampleScores,
    labels: BoxLabels | None = None,
) -> Dataset:
    """Return the samples of `source` that the baseline was reported on, with these true boxes if there are any.

    Raises:
        DataError: the data is missing, does not fit the model, or has none of these samples.
    """
    data = load_data(source, rebuilt.model.interface, recipe, labels)
    left: dict[str, int] = {}
    for fingerprint in committed.digests:
        left[fingerprint] = left.get(fingerprint, 0) + 1
    chosen = []
    for index, fingerprint in enumerate(data.identities()):
        if left.get(fingerprint[:8], 0):
            left[fingerprint[:8]] -= 1
            chosen.append(index)
    if not chosen:
        raise DataError(
            f"{data.origin} has none of the {len(committed.digests)} samples that the baseline was measured on; give "
            f"the data of the tune by --eval, labels included, or make a new baseline"
        )
    return data.subset(chosen)


def _in_order_of(data: Dataset, digests: Sequence[str]) -> Dataset:
    """Return the same samples in the order of the baseline."""
    places: dict[str, list[int]] = {}
    for index, identity in enumerate(data.identities()):
        places.setdefault(identity[:8], []).append(index)
    return data.subset([places[digest].pop(0) for digest in digests if places.get(digest)])


def measure(
    data: Dataset,
    rebuilt: Rebuilt,
    runtime: Runtime,
    metric: Metric,
    *,
    batch: int,
    digests: Sequence[str],
    exact: bool = False,
) -> Measured:
    """Score FP32 and the plan on `data`, in the runtime if it computes here, otherwise in exact arithmetic.

    Args:
        data: the samples of the baseline.
        rebuilt: the committed plan on the model of today.
        runtime: the runtime of the plan.
        metric: the metric of the baseline.
        batch: the number of samples of one run.
        digests: the first digits of the digests of the baseline's samples, in its order.
        exact: whether exact arithmetic is scored too, as a new baseline needs it.
    """
    backend, interface = runtime.backend, rebuilt.model.interface
    # A tune takes FP32's scores from exact arithmetic too where its engine takes long to build.
    by_carrier = isinstance(backend, TimesByCarrier) and backend.times_by_carrier
    with backend.build(to_bytes(rebuilt.model.original), exact=by_carrier or not runtime.computes) as reference:
        metric = try_metric(reference, data, interface, metric, batch)
        if metric.over_set is not None:
            data = _in_order_of(data, digests)  # blocks of samples must be those of the baseline
        evaluator = Evaluator.against(reference, data, interface, metric, batch)
        outcome = _outcome(evaluator, backend, rebuilt, exact=not runtime.computes)
        other = outcome
        if exact and runtime.computes and not backend.portable:
            other = _outcome(evaluator, backend, rebuilt, exact=True)
    kept = exact and (not backend.portable or runtime.absent is not None)
    fingerprints = tuple(fingerprint[:8] for fingerprint in data.identities())
    scores = SampleScores(
        digests=fingerprints,
        fp32=kept_scores(evaluator.reference_scores),
        plan=kept_scores(outcome.scores),
        exact=kept_scores(other.scores) if kept else None,
        statistics=statistics_of(fp32=evaluator.reference_rows, plan=outcome.rows, exact=other.rows if kept else None),
    )
    return Measured(
        samples=scores,
        data=data,
        finite=outcome.finite,
        missing=len(digests) - data.count,
        metric=metric,
        groups=outcome.groups,
    )


def judge_accuracy(committed: Evidence, now: Measured, allowed: float, *, absent: bool) -> Check:
    """Compare the scores with those of the baseline.

    Args:
        committed: the evidence of the baseline.
        now: the scores that were measured now.
        allowed: the largest drop of the metric that is fine.
        absent: whether the plan's runtime is missing, so that exact arithmetic is compared with exact arithmetic.
    """
    metric = now.metric
    check = Check(
        name="accuracy",
        status=Status.CANNOT_JUDGE,
        baseline="-",
        now="-",
        change="-",
        allowed=f"{metric.name} -{allowed:g}",
        sentence="",
    )
    before, after = _committed_scores(committed.samples, now.samples, absent=absent), now.samples.plan
    status, why = _without_comparison(committed, now, before)
    if status is not None:
        return replace(check, status=status, sentence=why)
    compared, first, second = _compared(committed, now, _array(before), _array(after), absent=absent)
    status, sentence = decide(compared, allowed)
    return replace(
        check,
        status=status,
        sentence=sentence,
        baseline=metric.describe(float(first.mean())),
        now=metric.describe(float(second.mean())),
        details=_details(committed, now, metric, compared, allowed=allowed, absent=absent),
        change=_change(compared),
    )


def _without_comparison(
    committed: Evidence, now: Measured, before: Sequence[float | None]
) -> tuple[Status | None, str]:
    """Return the verdict where the scores cannot or need not be compared, and why; None where they are."""
    metric = now.metric
    if metric.fingerprint != committed.metric["fingerprint"]:
        return Status.CANNOT_JUDGE, (
            f"the metric {metric.name} computes something else than at the time of the baseline, so their scores "
            f"cannot be compared; make a new baseline"
        )
    if not now.finite and None not in before:
        return Status.WORSE, "outputs are no longer finite: a value overflows its precision; tune the model again"
    if None in before or None in now.samples.plan:
        return Status.CANNOT_JUDGE, (
            "the baseline's own outputs were not finite, so there is nothing to compare with; tune again"
        )
    if metric.over_set is not None and now.missing and committed.samples.statistics is None:
        return Status.CANNOT_JUDGE, (
            f"{now.missing} of the baseline's samples are missing, and {metric.name} is a figure of all of them "
            f"together; give the whole data of the tune by --eval, or make a new baseline"
        )
    return None, ""


def _compared(
    committed: Evidence, now: Measured, before: Array, after: Array, *, absent: bool
) -> tuple[Compared, Array, Array]:
    """Compare the scores; a figure over the data set by the statistics of samples, where there are any.

    Returns:
        The comparison, and the scores that it compared.
    """
    if now.metric.over_set is None:
        return compare_scores(before, after, now.metric.higher_is_better), before, after
    kept, fresh = committed.samples.statistics, now.samples.statistics
    if kept is None or fresh is None:
        return compare_figures(now.metric, before, after, groups=now.groups), before, after
    column = kept["exact"] if absent and "exact" in kept else kept["plan"]
    rows = tuple(paired(committed.samples.digests, column, now.samples.digests)), fresh["plan"]
    first, second = (scored_rows(now.metric.over_set, side).contributions for side in rows)
    return compare_figures(now.metric, first, second, rows=rows), first, second


def _committed_scores(committed: SampleScores, now: SampleScores, *, absent: bool) -> list[float | None]:
    """The baseline's scores of the samples at hand: without the plan's runtime those of exact arithmetic."""
    column = committed.exact if absent and committed.exact is not None else committed.plan
    return paired(committed.digests, column, now.digests)


def _change(compared: Compared) -> str:
    """Return the change of the score as text: the loss with the opposite sign."""
    loss = compared.change  # 0 - x instead of -x, which would be -0 for a loss of 0
    return f"{0 - loss.estimate:+.4f} ({0 - loss.high:+.4f} .. {0 - loss.low:+.4f})"


def paired(digests: Sequence[str], scores: Sequence[T], wanted: Sequence[str]) -> list[T]:
    """Return the scores of the wanted samples in their order; equal samples are taken one after the other."""
    found: dict[str, list[T]] = {}
    for fingerprint, score in zip(digests, scores, strict=True):
        found.setdefault(fingerprint, []).append(score)
    return [found[fingerprint].pop(0) for fingerprint in wanted]


def _details(
    committed: Evidence, now: Measured, metric: Metric, compared: Compared, *, allowed: float, absent: bool
) -> tuple[str, ...]:
    lines, count = [], compared.samples
    if now.missing:
        lines.append(f"{now.missing} of the baseline's {now.missing + count} samples are not in {now.data.origin}")
    before = paired(committed.samples.digests, committed.samples.fp32, now.samples.digests)
    if None not in before and None not in now.samples.fp32:
        own = metric.drop(_array(before), _array(now.samples.fp32))
        if own:
            lines.append(f"FP32 itself changed by {-own:+.4g}: that much is the model's own, not precision's")
    seen = caught_drop(count, allowed) if compared.test is SignificanceTest.MCNEMAR else 1.0
    if seen < 1:
        lines.append(f"with {count} samples, a drop of {seen:.3g} or more is found in at least 95 of 100 cases")
    if absent:
        lines.append("judged in exact arithmetic, since the plan's runtime does not work here")
    return tuple(lines)


def _outcome(evaluator: Evaluator, backend: Backend, rebuilt: Rebuilt, *, exact: bool) -> Outcome:
    model = rebuilt.simulated() if exact else rebuilt.lowered
    with backend.build(model, exact=exact) as engine:
        return evaluator.evaluate(engine)


def _array(scores: Sequence[float | None]) -> Array:
    return np.array(scores, np.float64)
