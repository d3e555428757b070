"""Runs of an engine over a data set, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator

from autoprec.backends.protocol import Computing
from autoprec.data.dataset import Batch, Dataset
from autoprec.data.feeds import feed_of, outputs_of_samples, samples_fed
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
        feed = feed_of(batch, interface, fixed)
        yield batch, feed, engine.run(feed)


def run_dataset(
    engine: Computing, dataset: Dataset, interface: Interface, batch_size: int
) -> Iterator[tuple[Batch, dict[str, Array]]]:
    """Yield each batch with the outputs of the model for exactly the samples of the batch.

    Raises:
        DataError: an output cannot be divided among the samples.
    """
    for batch, feed, outputs in run_whole(engine, dataset, interface, batch_size):
        fed = samples_fed(feed, batch, interface)
        yield batch, outputs_of_samples(outputs, interface, fed, batch.count)
