"""Metrics of the user's own: functions that score samples, and objects or functions over a whole data set."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from autoprec.errors import MetricError, UsageError
from autoprec.files.functions import check_call
from autoprec.files.json import fingerprint
from autoprec.metrics.blocks import Updated, by_function, by_object
from autoprec.metrics.over_set import OverSet
from autoprec.metrics.record import Direction, Metric
from autoprec.metrics.returned import as_array
from autoprec.metrics.scores import Outputs, Score
from autoprec.metrics.user_code import calling, source_of
from autoprec.precision import Array

MetricLike = str | Callable[..., Any] | Updated
"""What a user may give as a metric: a name, a function, or an object with `update` and `compute`."""


def over_all_samples(metric: Metric) -> Metric:
    """Return the metric of a user's function, taken for one over all samples: it returns a single number."""
    over_set = by_function(lambda outputs, labels: metric.score(outputs, labels, None), metric.name)
    return replace(metric, over_set=over_set, score=contributions(over_set))


def user_metric(code: Any, name: str, direction: Direction | None) -> Metric:
    """Return the metric of a user's function or object; of a class an object is made.

    Args:
        code: the function, the object, or its class.
        name: the name of the metric.
        direction: which scores are better, for code that does not say it.

    Raises:
        UsageError: neither says which scores are better.
    """
    if not (callable(code) or is_updated(code)):
        raise MetricError(
            f"{name!r} must be a function, but is a {type(code).__name__}; or give an object with "
            f"update(outputs, labels) and compute()"
        )
    code = _made(code, name)
    text, is_object = source_of(code), is_updated(code)
    _check_calls(code, name)
    if is_object:  # two objects of one class may be set up differently
        text += repr(sorted((k, v) for k, v in vars(code).items() if isinstance(v, (bool, int, float, str))))
    higher = _direction_of(code, name, direction) == "higher"

    def score(outputs: Outputs, labels: Array | None, reference: Outputs | None) -> Array:
        with calling(name, "it is called as function(outputs, labels) with a dict of arrays by output name"):
            return as_array(code(dict(outputs), labels), name)

    over_set = by_object(code, name) if is_object else None
    return Metric(
        name=name,
        higher_is_better=higher,
        needs_labels=False,
        needs_reference=False,
        fingerprint=fingerprint([text, "higher" if higher else "lower"]),
        score=score if over_set is None else contributions(over_set),
        over_set=over_set,
    )


def _made(code: Any, name: str) -> Any:
    """Return an object of a class with `update` and `compute`, or of a function that needs no arguments to make one."""
    if inspect.isclass(code) and is_updated(code):
        with calling(name, "a class is called without arguments to make an object"):
            return code()
    if inspect.isfunction(code) and not inspect.signature(code).parameters:
        with calling(name, "a function without parameters must make an object with update and compute"):
            made = code()
        if not is_updated(made):
            raise MetricError(
                f"the metric {name} has no parameters, so it must make an object with update(outputs, labels) and "
                f"compute(), but it returned a {type(made).__name__}"
            )
        return made
    return code


def _check_calls(code: Any, name: str) -> None:
    """Check that the code takes what it will be called with, which would otherwise show after the model has run.

    Raises:
        MetricError: its signature is another one, or it is a generator or asynchronous.
    """
    if is_updated(code):
        check_call(
            code.update, ({}, None), f"update of the metric {name} is called as update(outputs, labels)", MetricError
        )
        check_call(code.compute, (), f"compute of the metric {name} is called without arguments", MetricError)
        return
    check_call(code, ({}, None), f"the metric {name} is called as function(outputs, labels)", MetricError)
    if inspect.isgeneratorfunction(code):
        raise MetricError(f"the metric {name} must return a list or an array of scores, but it is a generator")


def _direction_of(code: Any, name: str, direction: Direction | None) -> Direction | None:
    """Return which scores are better: what the code says by its attribute `higher_is_better`, else `direction`."""
    attribute = getattr(code, "higher_is_better", None)
    if attribute is not None and not isinstance(attribute, (bool, np.bool_)):
        raise UsageError(f"higher_is_better of the metric {name} must be True or False, got {attribute!r}")
    if attribute is None and direction is None:
        raise UsageError(
            f"the metric {name} must say which direction is better: set its attribute higher_is_better to "
            f"True or False where it is defined, or give the direction, 'higher' or 'lower'"
        )
    return direction if attribute is None else "higher" if attribute else "lower"


def is_updated(code: Any) -> bool:
    """Whether this is an object, or the class of one, that is given samples by `update` and asked by `compute`."""
    return all(callable(getattr(code, verb, None)) for verb in ("update", "compute"))


def contributions(over_set: OverSet) -> Score:
    """Return a score: what each sample contributes to the figure of the samples that are scored together."""

    def score(outputs: Outputs, labels: Array | None, reference: Outputs | None) -> Array:
        tally = over_set.tally()
        tally.add(outputs, labels, len(labels) if labels is not None else len(next(iter(outputs.values()))))
        return tally.score().contributions

    return score
