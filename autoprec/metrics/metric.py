"""Metrics: one score per sample with an explicit direction, computed from outputs and labels or FP32's outputs.

    top1        whether the largest output is at the label             higher is better, needs labels
    agreement   share of decisions equal to FP32's                     higher is better
    cosine      cosine similarity with FP32's outputs, 0 to 1          higher is better
    kl          KL(FP32 || candidate) of class distributions, nats     lower is better
    sqnr        noise-to-signal power ratio against FP32's outputs     lower is better

Of several outputs, and of several kinds of values in one, the one that fares worst counts, see
`autoprec.metrics.kinds`. The score of `sqnr` is the ratio, not decibels, because ratios can be averaged. Its drop is
that ratio too, so a bound of 0.001 means 30 dB. If the outputs of a candidate hold NaN or infinity, the sample gets the
worst score instead of NaN.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from autoprec.errors import MetricError, UsageError
from autoprec.files.functions import import_function, importable_folder, is_function_name
from autoprec.files.json import fingerprint
from autoprec.metrics.returned import as_array, checked_scores
from autoprec.metrics.scores import Outputs, Score, agreement, cosine, kl, label_margins, noise_to_signal, top1
from autoprec.precision import Array

Direction = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """A measure of how good outputs are, sample by sample.

    Attributes:
        name: "top1", "agreement", "cosine", "kl", "sqnr", or "module:function".
        higher_is_better: whether a higher score is the better one.
        needs_labels: whether the scores cannot be computed without labels.
        needs_reference: whether the metric compares with FP32's outputs for the same samples.
        fingerprint: the fingerprint of what the metric computes; for a user's function, that of its source code.
        score: (outputs, labels, FP32's outputs) -> the score of each sample; use `scores`, which checks the result.
        margin: (outputs, labels) -> how clearly each sample was decided, float64[samples], above 0 where the decision
            is right; None if the metric makes no decisions.
    """

    name: str
    higher_is_better: bool
    needs_labels: bool
    needs_reference: bool
    fingerprint: str
    score: Score = field(repr=False, compare=False)
    margin: Callable[[Outputs, Array], Array] | None = field(default=None, repr=False, compare=False)

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
        if self.needs_labels and labels is None:
            raise MetricError(f"the metric {self.name} needs labels, but the data has none; {_LABEL_ADVICE}")
        if self.needs_reference and reference is None:
            raise MetricError(f"the metric {self.name} compares with FP32's outputs, but was given none")
        if not outputs:
            raise MetricError(f"the metric {self.name} needs at least one output, but the model gave none")
        if count is None:
            count = len(labels) if labels is not None else len(next(iter(outputs.values())))
        known = None if reference is None else _sealed(reference)
        scores = self.score(_sealed(outputs), None if labels is None else _read_only(labels), known)
        return checked_scores(scores, count, self.name)

    @property
    def built_in(self) -> bool:
        """Whether the scores are computed by autoprec itself, so that nothing about them needs to be tried."""
        return _BUILT_IN.get(self.name) is self

    def drop(self, reference_scores: Array, scores: Array) -> float:
        """Return the mean loss from FP32's scores to a candidate's; it is positive if the candidate is worse."""
        loss = np.subtract(reference_scores, scores, dtype=np.float64)
        return float(np.mean(loss if self.higher_is_better else -loss))

    def describe(self, score: float) -> str:
        """Return a mean score as text with its unit; a drop of a built-in metric is written the same way."""
        if math.isnan(score):
            return "NaN"
        if self.name == "sqnr":
            return f"{-10 * math.log10(score):.1f} dB" if score > 0 else "no noise"
        if self.name in ("top1", "agreement"):
            return f"{100 * score:.2f} %"
        return f"{score:.4g} nats" if self.name == "kl" else f"{score:.5g}"


def load_metric(metric: str | Callable[..., Any] | Metric, direction: Direction | None = None) -> Metric:
    """Return the metric of that name, or one that calls the user's function.

    The function is called for each batch as `function(outputs, labels)`, with a dict of output arrays by name and the
    labels or None. It must return one finite number per sample.

    Args:
        metric: the name of a built-in metric, "module:function", a function, or a metric.
        direction: which scores are better. A function may say so itself by its attribute `higher_is_better`.

    Raises:
        MetricError: the function cannot be imported.
        UsageError: there is no such metric, no direction is given, or two directions contradict each other.
    """
    if direction not in (None, "higher", "lower"):
        raise UsageError(f"a metric's direction must be 'higher' or 'lower', got {direction!r}")
    if isinstance(metric, Metric):
        return _agreed(metric, direction)
    if not isinstance(metric, str):
        if not callable(metric):
            raise UsageError(f"a metric must be a name or a function, got {type(metric).__name__}")
        return _from_function(metric, _qualified_name(metric), direction)
    if metric in _BUILT_IN:
        return _agreed(_BUILT_IN[metric], direction)
    if is_function_name(metric):
        return _from_function(import_function(metric, MetricError), metric, direction)
    raise UsageError(f"a metric must be one of {', '.join(_BUILT_IN)}, or module:function, got {metric!r}")


def choose_metric(
    metric: str | Callable[..., Any] | Metric | None, has_labels: bool, direction: Direction | None = None
) -> Metric:
    """Return the metric that the user wants; None stands for `top1` if there are labels, otherwise `agreement`.

    Raises:
        MetricError: the function cannot be imported.
        UsageError: `load_metric` refuses the metric, or the metric needs labels and there are none.
    """
    chosen = load_metric(("top1" if has_labels else "agreement") if metric is None else metric, direction)
    if chosen.needs_labels and not has_labels:
        raise UsageError(f"the metric {chosen.name} needs labels, but the data has none; {_LABEL_ADVICE}")
    return chosen


_LABEL_ADVICE = "add labels to the data, or choose agreement, cosine, kl or sqnr"


def _agreed(metric: Metric, direction: Direction | None) -> Metric:
    """Return the metric after checking that `direction` does not contradict it."""
    if direction is not None and (direction == "higher") != metric.higher_is_better:
        known = "higher" if metric.higher_is_better else "lower"
        raise UsageError(f"for the metric {metric.name}, {known} is better; leave the direction out")
    return metric


def _from_function(function: Callable[..., Any], name: str, direction: Direction | None) -> Metric:
    attribute = getattr(function, "higher_is_better", None)
    if attribute is not None and not isinstance(attribute, (bool, np.bool_)):
        raise UsageError(f"higher_is_better of the metric {name} must be True or False, got {attribute!r}")
    if attribute is None and direction is None:
        raise UsageError(
            f"the metric {name} must say which direction is better: set its attribute higher_is_better to "
            f"True or False where it is defined, or give the direction, 'higher' or 'lower'"
        )
    higher = bool(attribute) if attribute is not None else direction == "higher"
    text = fingerprint([_source(function), "higher" if higher else "lower"])

    def score(outputs: Outputs, labels: Array | None, reference: Outputs | None) -> Array:
        try:
            with importable_folder():  # the function may import modules of the user's only when it is called
                return as_array(function(dict(outputs), labels), name)
        except (MetricError, KeyboardInterrupt):
            raise
        except BaseException as error:  # sys.exit raises SystemExit, which would end the run as if all were well
            raise MetricError(f"the metric {name} raised {type(error).__name__}: {error}; {_call_of(error)}") from error

    return _agreed(
        Metric(
            name=name, higher_is_better=higher, needs_labels=False, needs_reference=False, fingerprint=text, score=score
        ),
        direction,
    )


def _call_of(error: BaseException) -> str:
    """Return what a user's function that raised should do, or how it is called."""
    if isinstance(error, ValueError) and "read-only" in str(error):
        return "outputs and labels cannot be written to, since others read them later: work on a copy of them"
    if isinstance(error, SystemExit):
        return "a metric must return scores and not end the program"
    return "it is called as function(outputs, labels) with a dict of arrays by output name"


def _qualified_name(function: Callable[..., Any]) -> str:
    owner = function if hasattr(function, "__qualname__") else type(function)
    return f"{owner.__module__}:{owner.__qualname__}"


def _source(function: Callable[..., Any]) -> str:
    """Return the source code of a function or of a callable's class, or its name if there is no source code."""
    for candidate in (function, type(function)):
        try:
            return inspect.getsource(candidate)
        except (OSError, TypeError):
            continue
    return _qualified_name(function)


def _sealed(outputs: Outputs) -> dict[str, Array]:
    return {name: _read_only(array) for name, array in outputs.items()}


def _read_only(array: Array) -> Array:
    """Return the same values in an array that refuses to be written to."""
    view: Array = np.asarray(array).view()
    view.flags.writeable = False
    return view


_VERSIONS = {"top1": "1", "agreement": "2", "cosine": "2", "kl": "2", "sqnr": "2"}
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
