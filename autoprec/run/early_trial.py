"""A first look at a user's metric, before the search itself is imported and the samples are run."""

from __future__ import annotations

from autoprec.graph.model import to_bytes
from autoprec.metrics.contract import as_it_scores
from autoprec.metrics.running import run_dataset
from autoprec.run.task import Task

_MOST_BYTES = 64 << 20
_SAMPLES = 2
"""As many as tell one score for each sample from one for all of them."""


def try_early(task: Task) -> None:
    """Score two samples by a user's metric, which may return nonsense; a large model is not opened for that alone.

    Raises:
        MetricError: the metric fails, or returns no scores.
    """
    model, data = task.subject.model, task.splits.select.largest_bucket()
    if task.metric.built_in or model.weight_bytes > _MOST_BYTES:
        return
    few = data.subset(range(min(_SAMPLES, data.count)))
    with task.backend.build(to_bytes(model.original), exact=True) as engine:
        for batch, outputs in run_dataset(engine, few, model.interface, _SAMPLES):
            if task.metric.over_set is None:
                as_it_scores(task.metric, outputs, batch.labels)
            else:  # a figure of two samples may not exist
                task.metric.over_set.tally().add(outputs, batch.labels, batch.count)
