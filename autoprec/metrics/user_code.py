"""Calls of metrics that the user wrote: what they are named, how their errors are told, what they return."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np

from autoprec.errors import MetricError
from autoprec.files.functions import user_code


@contextlib.contextmanager
def calling(name: str, call: str) -> Iterator[None]:
    """Call the user's code: it may import modules that lie beside it, and its errors name the metric.

    Args:
        name: the name of the metric.
        call: how its code is called, for the message.

    Raises:
        MetricError: the code raised an error, or tried to end the program.
    """

    def told(error: BaseException) -> MetricError:
        return MetricError(f"the metric {name} raised {type(error).__name__}: {error}; {_advice(error, call)}")

    with user_code(told, (MetricError,)):
        yield


def _advice(error: BaseException, call: str) -> str:
    """Return what the user's code that raised should do, or how it is called."""
    if isinstance(error, ValueError) and "read-only" in str(error):
        return "outputs and labels cannot be written to, since others read them later: work on a copy of them"
    if isinstance(error, SystemExit):
        return "a metric must return scores and not end the program"
    return call


def qualified_name(code: Any) -> str:
    """Return the name of a function, or of the class of an object, as "module:name"."""
    owner = code if hasattr(code, "__qualname__") else type(code)
    return f"{owner.__module__}:{owner.__qualname__}"


def source_of(code: Any) -> str:
    """Return the source code of a function or of an object's class, or its name if there is no source code."""
    for candidate in (code, type(code)):
        try:
            return inspect.getsource(candidate)
        except (OSError, TypeError):
            continue
    return qualified_name(code)


def one_number(result: Any, name: str) -> float:
    """Return the figure that a metric over a data set returned.

    Raises:
        MetricError: it is not one finite real number.
    """
    try:
        array = np.asarray(result)
        value = float(array.reshape(())) if array.dtype.kind in "biufO" else None
    except (TypeError, ValueError):
        value = None
    if value is None or result is None:
        keys = f" with {', '.join(map(str, result))}" if isinstance(result, dict) else ""
        raise MetricError(
            f"the metric {name} must return one number for all samples, got a {type(result).__name__}{keys}; return "
            f"one of them"
        )
    if not np.isfinite(value):
        raise MetricError(
            f"the metric {name} must return a finite figure, got {value}; return a finite worst figure where there is "
            f"no answer"
        )
    return value
