"""Runs of an engine over a data set, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from autoprec.backends.protocol import Computing
from autoprec.data.dataset import Batch, Dataset
from autoprec.errors import DataError
from autoprec.graph.interface import Interface
from autoprec.precision import Array


def run_whole(
    engine: Computing, dataset: Dataset, interface: Interface, batch_size: int
) -> Iterator[tuple[Batch, dict[str, Array], dict[str, Array]]]:
    """Yield each batch, the arrays that the model was fed for it, and all of its outputs, whatever their axes mean.

    If the model takes a fixed number of samples, the last batch is filled up with copies of the last sample.
    """
    fixed = interface.batch_size
    for batch in dataset.batches(fixed or batch_size):
        missing = (fixed - batch.count) if fixed else 0
        feed = {name: _filled(array, missing) for name, array in batch.inputs.items()}
        yield batch, feed, engine.run(feed)


def run_dataset(
    engine: Computing, dataset: Dataset, interface: Interface, batch_size: int
) -> Iterator[tuple[Batch, dict[str, Array]]]:
    """Yield each batch with the outputs of the model for exactly the samples of the batch.

    Raises:
        DataError: the first axis of an output is not the samples.
    """
    for batch, feed, outputs in run_whole(engine, dataset, interface, batch_size):
        fed = len(next(iter(feed.values())))
        yield batch, of_samples(outputs, fed, batch.count)


def of_samples(outputs: Mapping[str, Array], fed: int, count: int) -> dict[str, Array]:
    """Return the outputs for the first `count` of the `fed` samples that the model was fed.

    Raises:
        DataError: the first axis of an output is not the samples.
    """
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != fed:
            raise DataError(
                f"output {name!r} must have one entry per sample on its first axis, got shape {array.shape} for "
                f"{fed} samples; give the model an output with a batch axis"
            )
    return {name: array[:count] for name, array in outputs.items()}


def _filled(array: Array, missing: int) -> Array:
    return array if missing <= 0 else np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])
