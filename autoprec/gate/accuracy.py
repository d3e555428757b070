"""The check of the accuracy: is it different from the baseline, and is the difference large enough to matter?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from autoprec.backends.protocol import Backend
from autoprec.data.dataset import Dataset
from autoprec.data.sources import load_data
from autoprec.errors import DataError
from autoprec.gate.evidence import Evidence, SampleScores
from autoprec.gate.gather import kept_scores
from autoprec.gate.rebuild import Rebuilt
from autoprec.gate.runtime import Runtime
from autoprec.gate.verdict import Check, Status
from autoprec.graph.model import to_bytes
from autoprec.metrics.contract import try_metric
from autoprec.metrics.evaluator import Evaluator, Outcome
from autoprec.metrics.metric import Metric
from autoprec.precision import Array
from autoprec.recipes.ranging import CalibrationRecipe
from autoprec.run.settings import DataLike
from autoprec.stats.significance import ALPHA, Compared, SignificanceTest, compare_scores, mcnemar

FEWEST_SAMPLES = 20
"""The fewest pairs of scores from which the gate draws a conclusion."""
_UNSEEN = 3.0  # the rule of three: if none of n samples changed, still up to 3 / n of all may have changed
_ROUNDING = 1e-12  # the tolerance for a drop that equals the bound but for rounding
_FINEST = 0.005  # the smallest bound for which samples are demanded; a bound of 0 would need infinitely many


@dataclass(frozen=True, slots=True)
class Measured:
    """The scores of the rebuilt plan.

    Attributes:
        samples: the scores with the digests of the samples.
        data: the samples.
        finite: whether all outputs were finite.
        missing: the number of samples of the baseline that the data does not have.
    """

    samples: SampleScores
    data: Dataset
    finite: bool
    missing: int


def default_bound(committed: Evidence) -> float:
    """Return the default bound: half of the drop that the tune allowed, but no less than decisions can show.

    The tune allowed its whole bound against FP32. If the gate allowed it again, the model could lose twice as much as
    the user wanted.
    """
    half = float(committed.metric["max_drop"]) / 2
    scores = committed.samples.plan
    if not scores or any(score not in (0.0, 1.0) for score in scores):
        return half
    return max(half, math.ceil(1e4 * _UNSEEN / len(scores)) / 1e4)


def find_samples(source: DataLike, rebuilt: Rebuilt, recipe: CalibrationRecipe, committed: SampleScores) -> Dataset:
    """Return the samples of `source` that the baseline was reported on.

    Raises:
        DataError: the data is missing, does not fit the model, or has none of these samples.
    """
    data = load_data(source, rebuilt.model.interface, recipe)
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


def measure(
    data: Dataset,
    rebuilt: Rebuilt,
    runtime: Runtime,
    metric: Metric,
    *,
    batch: int,
    wanted: int,
    exact: bool = False,
) -> Measured:
    """Score FP32 and the plan on `data`, in the runtime if it computes here, otherwise in exact arithmetic.

    Args:
        data: the samples of the baseline.
        rebuilt: the committed plan on the model of today.
        runtime: the runtime of the plan.
        metric: the metric of the baseline.
        batch: the number of samples of one run.
        wanted: the number of samples that the baseline has.
        exact: whether exact arithmetic is scored too, as a new baseline needs it.
    """
    backend, interface = runtime.backend, rebuilt.model.interface
    with backend.build(to_bytes(rebuilt.model.original), exact=not runtime.computes) as reference:
        metric = try_metric(reference, data, interface, metric, batch)
        evaluator = Evaluator.against(reference, data, interface, metric, batch)
        outcome = _outcome(evaluator, backend, rebuilt, exact=not runtime.computes)
        other = outcome
        if exact and runtime.computes and not backend.portable:
            other = _outcome(evaluator, backend, rebuilt, exact=True)
    kept = exact and (not backend.portable or runtime.absent is not None)
    fingerprints = tuple(fingerprint[:8] for fingerprint in data.identities())
    scores = SampleScores(
        fingerprints,
        kept_scores(evaluator.reference_scores),
        kept_scores(outcome.scores),
        kept_scores(other.scores) if kept else None,
    )
    return Measured(scores, data, outcome.finite, wanted - data.count)


def judge_accuracy(committed: Evidence, now: Measured, metric: Metric, allowed: float, *, absent: bool) -> Check:
    """Compare the scores with those of the baseline.

    Args:
        committed: the evidence of the baseline.
        now: the scores that were measured now.
        metric: the metric of both.
        allowed: the largest drop of the metric that is fine.
        absent: whether the plan's runtime is missing, so that exact arithmetic is compared with exact arithmetic.
    """
    check = Check(
        name="accuracy",
        status=Status.CANNOT_JUDGE,
        baseline="-",
        now="-",
        change="-",
        allowed=f"{metric.name} -{allowed:g}",
        sentence="",
    )
    if metric.fingerprint != committed.metric["fingerprint"]:
        return replace(
            check,
            sentence=f"the metric {metric.name} computes something else than at the time of the baseline, so their "
            f"scores cannot be compared; make a new baseline",
        )
    before, after = _committed_scores(committed.samples, now.samples, absent=absent), now.samples.plan
    if not now.finite and None not in before:
        return replace(
            check,
            status=Status.WORSE,
            sentence="outputs are no longer finite: a value overflows its precision; tune the model again",
        )
    if None in before or None in after:
        return replace(
            check,
            sentence="the baseline's own outputs were not finite, so there is nothing to compare with; tune again",
        )
    first, second = _array(before), _array(after)
    compared = compare_scores(first, second, metric.higher_is_better)
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


def _committed_scores(committed: SampleScores, now: SampleScores, *, absent: bool) -> list[float | None]:
    """The baseline's scores of the samples at hand: without the plan's runtime those of exact arithmetic."""
    column = committed.exact if absent and committed.exact is not None else committed.plan
    return paired(committed.digests, column, now.digests)


def _change(compared: Compared) -> str:
    """Return the change of the score as text: the loss with the opposite sign."""
    loss = compared.change  # 0 - x instead of -x, which would be -0 for a loss of 0
    return f"{0 - loss.estimate:+.4f} ({0 - loss.high:+.4f} .. {0 - loss.low:+.4f})"


def decide(compared: Compared, allowed: float) -> tuple[Status, str]:
    """Return the verdict and its sentence by two questions: is the score different, and by more than is allowed?"""
    loss, count = compared.change.estimate, compared.samples
    beyond = loss > allowed + _ROUNDING
    counted = f"{compared.lost} of {count} samples got worse and {compared.won} better"
    if compared.different and beyond:
        return Status.WORSE, (
            f"{counted}: a drop of {loss:.4g}, more than the {allowed:g} allowed, and no chance "
            f"({compared.test}, p = {compared.p:.2g}); tune the model again, or accept it by a new baseline"
        )
    if beyond:
        return Status.CANNOT_JUDGE, (
            f"{counted}: a drop of {loss:.4g}, more than the {allowed:g} allowed, but chance may do that "
            f"({compared.test}, p = {compared.p:.2g}); about {samples_to_decide(compared):,} samples would decide"
        )
    enough = samples_to_see(compared, allowed)
    if count < enough:
        return Status.CANNOT_JUDGE, (
            f"{count} samples are too few to see a drop of {allowed:g}; about {enough:,} would do, or allow more by "
            f"--max-drop"
        )
    gain = ", and better" if mirrored(compared).different else ""
    return Status.FINE, f"{counted}: within the bound{gain}"


def samples_to_see(compared: Compared, allowed: float) -> int:
    """Return how many samples it takes to see a drop of `allowed`, estimated from the scatter of these."""
    if compared.test is SignificanceTest.MCNEMAR:
        return max(FEWEST_SAMPLES, math.ceil(_UNSEEN / max(allowed, _FINEST)))
    half = compared.change.high - compared.change.estimate
    return max(FEWEST_SAMPLES, math.ceil(compared.samples * (half / allowed) ** 2) if allowed > 0 else 0)


def caught_drop(samples: int, allowed: float) -> float:
    """Return the smallest drop of decisions that so many samples call worse in 95 of 100 cases.

    It assumes that decisions are only lost and none is won. Then the number of lost decisions is nearly Poisson
    distributed, and it must be at least 7 to be significant, and must exceed the bound.
    """
    fewest = max(math.ceil(math.log2(1 / ALPHA)), math.floor(allowed * samples + _ROUNDING) + 1)
    if fewest > 300:  # then the distribution is nearly normal, and exp(-mean) would underflow below
        return (fewest + 1.645 * math.sqrt(fewest) + 1.35) / samples
    low, high = 0.0, fewest + 10 * math.sqrt(fewest) + 10
    for _ in range(50):
        mean = (low + high) / 2
        term = missed = math.exp(-mean)
        for count in range(1, fewest):
            term *= mean / count
            missed += term
        low, high = (mean, high) if missed > 0.05 else (low, mean)
    return high / samples


def mirrored(compared: Compared) -> Compared:
    """Return the comparison with the question reversed: is it better? Only decisions are ever called better."""
    if compared.test is not SignificanceTest.MCNEMAR:
        return replace(compared, p=1.0)
    return replace(compared, p=mcnemar(compared.won, compared.lost))


def samples_to_decide(compared: Compared) -> int:
    """Return about how many samples would make the same drop significant."""
    change = compared.change
    error = (change.high - change.low) / (2 * 1.96)
    needed = compared.samples * (2.33 * error / change.estimate) ** 2  # 2.33 is the normal quantile of 0.99
    fewest = math.log2(1 / ALPHA) / change.estimate if compared.test is SignificanceTest.MCNEMAR else 0
    return max(compared.samples + 1, math.ceil(needed * 1.2), math.ceil(fewest))


def paired(digests: Sequence[str], scores: Sequence[float | None], wanted: Sequence[str]) -> list[float | None]:
    """Return the scores of the wanted samples in their order; equal samples are taken one after the other."""
    found: dict[str, list[float | None]] = {}
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
        lines.append(f"{count} samples catch a drop of {seen:.3g} in 95 of 100 cases, and larger ones more often")
    if absent:
        lines.append("judged in exact arithmetic, since the plan's runtime does not work here")
    return tuple(lines)


def _outcome(evaluator: Evaluator, backend: Backend, rebuilt: Rebuilt, *, exact: bool) -> Outcome:
    model = rebuilt.simulated() if exact else rebuilt.lowered
    with backend.build(model, exact=exact) as engine:
        return evaluator.evaluate(engine)


def _array(scores: Sequence[float | None]) -> Array:
    return np.array(scores, np.float64)
