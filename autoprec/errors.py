"""The errors that autoprec raises; every message says what must hold, what was found and what to do.

::

    AutoprecError               exit 2
    ├── UsageError              exit 2   an option, a name or a combination that cannot work
    ├── ModelError              exit 2   the ONNX file is unreadable, incomplete or unsuitable
    ├── DataError               exit 2   calibration or evaluation data does not fit the model
    ├── MetricError             exit 2   the metric raised or returned something other than one score per sample
    ├── PlanError               exit 2   a plan file is broken or belongs to another model
    ├── BaselineError           exit 2   a baseline is broken, edited, or of another model
    │   └── NoBaselineError     exit 3   there is no baseline to judge by
    ├── RecipeError             exit 2   a search space or calibration recipe is broken
    ├── RunDirectoryError       exit 2   the run directory cannot be read or written
    │   └── SearchOverError     exit 2   a worker tried to join a search that has ended
    ├── StorageError            exit 2   the storage that a study is kept in cannot be used
    ├── OutOfTimeError          exit 2   the time limit ended before anything could be answered
    └── BackendError            exit 2   a runtime could not build or run a model
        └── NotHonouredError    exit 2   it runs units in other precisions than the plan asks for
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

EXIT_OK = 0
"""The command did what was asked."""
EXIT_WORSE = 1
"""A gate found the candidate worse than allowed."""
EXIT_USAGE = 2
"""Bad input: the message says what to do."""
EXIT_CANNOT_JUDGE = 3
"""There is too little evidence to decide."""
EXIT_INFEASIBLE = 4
"""No plan met the bound; the best plan found was written."""
EXIT_NOT_HONOURED = 5
"""A requested precision did not run in a unit where it matters; the files were written."""
EXIT_INTERRUPTED = 130
"""Stopped by the user; the same command continues the run."""


class AutoprecError(Exception):
    """The root of all errors that autoprec raises on purpose.

    Attributes:
        exit_code: the exit status of the command line when the error ends it.
    """

    exit_code = EXIT_USAGE


class UsageError(AutoprecError):
    """An option, a name or a combination of options cannot work."""


class ModelError(AutoprecError):
    """The ONNX model is unreadable, incomplete, or of a kind that cannot be tuned."""


class DataError(AutoprecError):
    """Calibration or evaluation data is missing or does not fit the model."""


class MetricError(AutoprecError):
    """The metric raised, or returned something other than one finite score per sample."""


class PlanError(AutoprecError):
    """A plan file is broken, or belongs to another model."""


class BaselineError(AutoprecError):
    """A baseline is broken, was edited by hand, or belongs to another model."""


class NoBaselineError(BaselineError):
    """There is no baseline to judge by. This says nothing about the model, hence the exit code of its own."""

    exit_code = EXIT_CANNOT_JUDGE


class RecipeError(AutoprecError):
    """A search space or calibration recipe has an unknown key or a value out of range."""


class RunDirectoryError(AutoprecError):
    """The run directory cannot be read or written."""


class SearchOverError(RunDirectoryError):
    """The search that a worker tried to join has ended already."""


class StorageError(AutoprecError):
    """The database or proxy that keeps a study cannot be reached, or its library is missing."""


class OutOfTimeError(AutoprecError):
    """The time limit of a run ended a step before it was done.

    A run goes on with what is known by then, and ends with this error only where nothing can be answered.
    """


class BackendError(AutoprecError):
    """A runtime could not build, run or time a model."""


class NotHonouredError(BackendError):
    """A runtime runs units with arithmetic in other precisions than a plan asks for.

    Attributes:
        units: the names of these units.
        ran: unit -> the precision that it ran in, of those that a search may give it.
    """

    def __init__(self, message: str, units: Sequence[str], ran: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.units, self.ran = tuple(units), dict(ran or {})
