"""Metrics with an explicit direction, computed from outputs and labels or FP32's outputs.

Of most metrics each sample has a score, and the figure of a data set is their mean:

    top1        whether the largest output is at the label             higher is better, needs labels
    agreement   share of decisions equal to FP32's                     higher is better
    cosine      cosine similarity with FP32's outputs, 0 to 1          higher is better
    kl          KL(FP32 || candidate) of class distributions, nats     lower is better
    sqnr        noise-to-signal power ratio against FP32's outputs     lower is better

Of several outputs, and of several kinds of values in one, the one that fares worst counts, see
`autoprec.metrics.kinds`. The score of `sqnr` is the ratio, not decibels, because ratios can be averaged. Its drop is
that ratio too, so a bound of 0.001 means 30 dB. If the outputs of a candidate hold NaN or infinity, the sample gets the
worst score instead of NaN.

Other metrics have one figure for all samples together, see `autoprec.metrics.over_set`; `autoprec.metrics.offered`
lists those that are built in.
"""

from __future__ import annotations

import difflib

from autoprec.errors import MetricError, UsageError
from autoprec.files.functions import import_named, is_function_name
from autoprec.files.json import fingerprint
from autoprec.metrics.offered import Decoding, names, offered
from autoprec.metrics.record import LABEL_ADVICE, Direction, Metric
from autoprec.metrics.scores import Score, agreement, cosine, kl, label_margins, noise_to_signal, top1
from autoprec.metrics.user_code import qualified_name
from autoprec.metrics.user_metric import MetricLike, is_updated, over_all_samples, user_metric

__all__ = ["Direction", "Metric", "MetricLike", "choose_metric", "load_metric", "metric_names", "over_all_samples"]


def load_metric(
    metric: MetricLike | Metric, direction: Direction | None = None, decoding: Decoding | None = None
) -> Metric:
    """Return the metric of that name, or one that calls the user's function.

    A function is called as `function(outputs, labels)`, with a dict of output arrays by name and the labels or None. It
    must return one finite number per sample, or a single one if it is over all samples. An object, or its class, may
    have `update(outputs, labels)` and `compute()` instead; then its figure is that of all samples together.

    Args:
        metric: the name of a built-in metric, "module:name", a function, an object, or a metric.
        direction: which scores are better. A function may say so itself by its attribute `higher_is_better`.
        decoding: how a built-in metric over a data set reads outputs, such as those of a detector.

    Raises:
        MetricError: the function cannot be imported.
        UsageError: there is no such metric, no direction is given, two directions contradict each other, or there is a
            decoder that the metric cannot use.
    """
    if direction not in (None, "higher", "lower"):
        raise UsageError(f"a metric's direction must be 'higher' or 'lower', got {direction!r}")
    own = offered(metric, decoding or Decoding()) if isinstance(metric, str) else None
    if own is None and decoding is not None and decoding.decoder is not None:
        called = metric if isinstance(metric, str) else "a metric of your own"
        raise UsageError(f"--decode reads outputs for {', '.join(names())}, not for {called}; leave it out")
    if own is not None:
        return _agreed(own, direction)
    if isinstance(metric, Metric):
        return _agreed(metric, direction)
    if not isinstance(metric, str):
        if not (callable(metric) or is_updated(metric)):
            raise UsageError(
                f"a metric must be a name, a function, or an object with update(outputs, labels) and compute(), got "
                f"{type(metric).__name__}"
            )
        return _agreed(user_metric(metric, qualified_name(metric), direction), direction)
    if metric in _BUILT_IN:
        return _agreed(_BUILT_IN[metric], direction)
    if is_function_name(metric):
        return _agreed(user_metric(import_named(metric, MetricError), metric, direction), direction)
    known = metric_names()
    close = difflib.get_close_matches(metric.lower(), known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise UsageError(f"a metric must be one of {', '.join(known)}, or module:function, got {metric!r}{hint}")


def metric_names() -> tuple[str, ...]:
    """Return the names of all built-in metrics."""
    return (*_BUILT_IN, *names())


def choose_metric(
    metric: MetricLike | Metric | None,
    has_labels: bool,
    direction: Direction | None = None,
    decoding: Decoding | None = None,
) -> Metric:
    """Return the metric that the user wants; None stands for `top1` if there are labels, otherwise `agreement`.

    Raises:
        MetricError: the function cannot be imported.
        UsageError: `load_metric` refuses the metric, or the metric needs labels and there are none.
    """
    chosen = load_metric(("top1" if has_labels else "agreement") if metric is None else metric, direction, decoding)
    if chosen.needs_labels and not has_labels:
        raise UsageError(f"the metric {chosen.name} needs labels, but the data has none; {LABEL_ADVICE}")
    return chosen


def _agreed(metric: Metric, direction: Direction | None) -> Metric:
    """Return the metric after checking that `direction` does not contradict it."""
    if direction is not None and (direction == "higher") != metric.higher_is_better:
        known = "higher" if metric.higher_is_better else "lower"
        raise UsageError(f"for the metric {metric.name}, {known} is better; leave the direction out")
    return metric


_VERSIONS = {"top1": "1", "agreement": "3", "cosine": "3", "kl": "3", "sqnr": "3"}
"""Built-in metric -> the version of what it computes: figures of another version are measured anew."""


def _built_in(name: str, score: Score, *, higher: bool, labels: bool) -> Metric:
    margin = label_margins if name == "top1" else None
    return Metric(
        name=name,
        higher_is_better=higher,
        needs_labels=labels,
        needs_reference=not labels,
        fingerprint=fingerprint([name, _VERSIONS[name]]),
        score=score,
        margin=margin,
        built_in=True,
    )


_BUILT_IN = {
    metric.name: metric
    for metric in (
        _built_in("top1", top1, higher=True, labels=True),
        _built_in("agreement", agreement, higher=True, labels=False),
        _built_in("cosine", cosine, higher=True, labels=False),
        _built_in("kl", kl, higher=False, labels=False),
        _built_in("sqnr", noise_to_signal, higher=False, labels=False),
    )
}
