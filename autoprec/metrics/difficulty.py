"""How difficult each sample is for FP32, by which samples are dealt to two equally hard halves."""

from __future__ import annotations

import numpy as np

from autoprec.backends.protocol import Computing
from autoprec.data.dataset import Dataset
from autoprec.graph.interface import Interface
from autoprec.metrics.evaluator import check_finite
from autoprec.metrics.gathering import Gathering
from autoprec.metrics.metric import Metric
from autoprec.metrics.running import run_dataset
from autoprec.precision import Array


def difficulty(engine: Computing, dataset: Dataset, interface: Interface, metric: Metric, batch_size: int) -> Array:
    """Return how difficult each sample is for FP32: its score, and the margin between its two largest outputs.

    Returns:
        float64[samples, 2]. The margin is 0 if the first output does not hold one value per class.

    Raises:
        ModelError: the outputs of FP32 hold NaN or infinity.
    """
    gathering, margins = Gathering(metric), []
    for batch, outputs in run_dataset(engine, dataset, interface, batch_size):
        check_finite(outputs, dataset)
        gathering.add(outputs, batch.labels, outputs, batch.count)
        margins.append(_top_margins(next(iter(outputs.values())), batch.count))
    return np.stack([gathering.scored().contributions, np.concatenate(margins)], axis=1)


def _top_margins(array: Array, count: int) -> Array:
    classes = array.shape[-1] if array.ndim > 1 else 1
    if array.size != count * classes or classes < 2 or array.dtype.kind != "f":
        return np.zeros(count)
    largest = np.partition(array.reshape(count, classes).astype(np.float64), -2, axis=1)[:, -2:]
    result: Array = largest[:, 1] - largest[:, 0]
    return result
