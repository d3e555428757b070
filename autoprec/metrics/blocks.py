"""A user's metric over a data set: an object with `update` and `compute`, or a function over all samples.

Nothing is known of what such a metric keeps of each sample. How uncertain its figure is can only be told by computing
it again without some of the samples: one of sixteen blocks at a time, each of which has every sixteenth sample. That
costs seventeen computations for each model. Fewer blocks would make the interval wider for want of degrees of freedom.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from autoprec.errors import MetricError
from autoprec.metrics.over_set import Rows, SetScore, Tally
from autoprec.metrics.scores import Outputs
from autoprec.metrics.user_code import calling, one_number
from autoprec.precision import Array
from autoprec.stats.resampling import spread_over

BLOCKS = 16
"""The number of blocks of samples; the figure is computed without each of them."""
KEPT_BYTES = 1 << 30
"""The most bytes of outputs that are kept for a function over all samples."""
_TENSORS = ("torchmetrics", "torcheval")
"""Packages whose metrics take tensors: the first output, and the labels."""


class Updated(Protocol):
    """A user's metric object: samples are given to it batch by batch."""

    def update(self, outputs: Any, labels: Any, /) -> Any:
        """Take in the outputs for more samples, and their labels or None."""

    def compute(self) -> Any:
        """Return the figure of all samples so far, one finite number."""


@dataclass(frozen=True, slots=True)
class ByBlocks:
    """A metric that is computed again without each block of samples.

    Attributes:
        name: the name of the metric in messages.
        begin: returns an empty tally.
    """

    name: str
    begin: Callable[[], Tally]

    @property
    def judges_parts(self) -> bool:
        """Never: each look at a part of the samples would compute the metric seventeen times."""
        return False

    def tally(self) -> Tally:
        """Return an empty tally."""
        return self.begin()

    def worth(self, rows: Rows) -> None:
        """Nothing is known of decisions."""

    def figures(self, rows: Rows, weights: Array) -> Array:
        """Refuse: there are no statistics of samples.

        Raises:
            TypeError: always.
        """
        raise TypeError(f"the metric {self.name} has no statistics of samples")


def by_object(example: Any, name: str) -> ByBlocks:
    """Return how a metric is computed that has `update(outputs, labels)` and `compute()`.

    Args:
        example: an object that no sample was given to, or that has `reset()`; it is copied and never changed.
        name: the name of the metric in messages.
    """
    pristine = copy.deepcopy(example)
    if callable(getattr(pristine, "reset", None)):
        with calling(name, "its method reset() is called without arguments"):
            pristine.reset()
    return ByBlocks(name, lambda: _ObjectTally(pristine, name))


def by_function(function: Callable[[Outputs, Array | None], Any], name: str) -> ByBlocks:
    """Return how a metric is computed that is one number of all outputs and labels."""
    return ByBlocks(name, lambda: _FunctionTally(function, name))


def spread_blocks(full: float, left_out: list[float], count: int) -> SetScore:
    """Return the score of so many samples from the figures without each block."""
    groups = len(left_out)
    if groups < 2:
        return SetScore(contributions=np.full(count, full), groups=groups, rows=None)
    found = spread_over(full, np.array(left_out), np.arange(count) % groups)
    return SetScore(contributions=found, groups=groups, rows=None)


class _ObjectTally:
    """One copy of the user's object for all samples, and one without each block."""

    def __init__(self, pristine: Any, name: str) -> None:
        self._name = name
        self._all, *self._without = [copy.deepcopy(pristine) for _ in range(BLOCKS + 1)]
        self._count = 0

    def add(self, outputs: Outputs, labels: Array | None, count: int) -> None:
        block = (self._count + np.arange(count)) % BLOCKS
        self._count += count
        self._update(self._all, outputs, labels)
        for number, partial in enumerate(self._without):
            rows = np.flatnonzero(block != number)
            if rows.size == count:
                self._update(partial, outputs, labels)
            elif rows.size:
                some = {name: array[rows] for name, array in outputs.items()}
                self._update(partial, some, None if labels is None else labels[rows])

    def score(self) -> SetScore:
        groups = min(BLOCKS, self._count)
        full = self._compute(self._all)
        left_out = [self._compute(partial) for partial in self._without[:groups]] if groups > 1 else []
        return spread_blocks(full, left_out, self._count)

    def _update(self, metric: Any, outputs: Outputs, labels: Array | None) -> None:
        arguments: tuple[Any, ...] = (dict(outputs), labels)
        call = "its method update(outputs, labels) gets a dict of arrays by output name"
        if any(kind.__module__.partition(".")[0] in _TENSORS for kind in type(metric).__mro__):
            arguments = (_tensor(next(iter(outputs.values()))), None if labels is None else _tensor(labels))
            call = "its method update(preds, target) gets the first output and the labels as tensors"
        with calling(self._name, call):
            metric.update(*arguments)

    def _compute(self, metric: Any) -> float:
        with calling(self._name, "its method compute() is called without arguments"):
            # Whatever compute() does to the object must not matter for the samples that follow.
            return one_number(copy.deepcopy(metric).compute(), self._name)


def _tensor(array: Array) -> Any:
    # Such a metric has loaded torch, which autoprec itself does not need.
    return sys.modules["torch"].from_numpy(np.array(array))


class _FunctionTally:
    """All outputs and labels, since nothing less is enough for a function over all samples."""

    def __init__(self, function: Callable[[Outputs, Array | None], Any], name: str) -> None:
        self._function, self._name = function, name
        self._outputs: list[Mapping[str, Array]] = []
        self._labels: list[Array] = []
        self._count = self._bytes = 0

    def add(self, outputs: Outputs, labels: Array | None, count: int) -> None:
        self._count += count
        self._bytes += sum(array.nbytes for array in outputs.values())
        if self._bytes > KEPT_BYTES:
            raise MetricError(
                f"the metric {self._name} is a function over all samples, whose outputs take more than "
                f"{KEPT_BYTES >> 30} GiB; give an object with update(outputs, labels) and compute() instead"
            )
        self._outputs.append(dict(outputs))
        self._labels += [] if labels is None else [labels]

    def score(self) -> SetScore:
        try:
            joined = {name: np.concatenate([part[name] for part in self._outputs]) for name in self._outputs[0]}
        except ValueError as error:
            raise MetricError(
                f"the metric {self._name} is a function over all samples, so their outputs must have one shape "
                f"({error}); give an object with update(outputs, labels) and compute() instead"
            ) from error
        labels = np.concatenate(self._labels) if self._labels else None
        groups = min(BLOCKS, self._count)
        block = np.arange(self._count) % groups
        full = self._figure(joined, labels)
        kept = [np.flatnonzero(block != number) for number in range(groups)] if groups > 1 else []
        left_out = [
            self._figure({k: a[rows] for k, a in joined.items()}, None if labels is None else labels[rows])
            for rows in kept
        ]
        return spread_blocks(full, left_out, self._count)

    def _figure(self, outputs: Outputs, labels: Array | None) -> float:
        sealed = {name: array.view() for name, array in outputs.items()}
        for array in [*sealed.values(), *([] if labels is None else [labels])]:
            array.flags.writeable = False
        with calling(self._name, "it is called as function(outputs, labels) with a dict of arrays by output name"):
            return one_number(self._function(sealed, labels), self._name)
