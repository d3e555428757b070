"""How values look on other samples than those that calibrated: what a report needs to tell why a unit loses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autoprec.backends.protocol import Backend
from autoprec.calibrate.observe import channel_axes
from autoprec.data.dataset import Dataset
from autoprec.graph.model import to_bytes
from autoprec.lowering.lowerer import Lowerer
from autoprec.metrics.running import run_whole
from autoprec.precision import Array
from autoprec.ranges.bins import Range
from autoprec.ranges.table import RangeTable
from autoprec.units.sizes import elements_in

_CAPTURE_BYTES = 1 << 27


@dataclass(frozen=True, slots=True)
class ValueDrift:
    """One value of FP32 on samples that calibrated nothing.

    Attributes:
        low: the smallest number.
        high: the largest number.
        beyond: the share of the numbers that lie beyond the range that INT8 keeps, and saturate.
        channel_ratio: the mean magnitude of the largest channel over that of the median one of those not always zero;
            1 without channels.
    """

    low: float
    high: float
    beyond: float
    channel_ratio: float


def value_drifts(
    lowerer: Lowerer, tensors: tuple[str, ...], backend: Backend, dataset: Dataset, ranges: RangeTable
) -> dict[str, ValueDrift]:
    """Run FP32 over samples and compare values with their calibrated ranges.

    Args:
        lowerer: the lowerer of the model.
        tensors: the names of the values; those without a range are compared with nothing.
        backend: the runtime that computes them.
        dataset: the samples, which should be few and none of those that calibrated.
        ranges: the calibrated ranges.
    """
    model = lowerer.model.ir.clone()
    values = {str(v.name): v for node in model.graph for v in node.outputs}
    known = [name for name in dict.fromkeys(tensors) if name in values]
    for name in known:
        if not values[name].is_graph_output():
            model.graph.outputs.append(values[name])
    size = sum(4 * elements_in(values[name], lowerer.partition.shapes) for name in known)
    batch = int(np.clip(_CAPTURE_BYTES // max(size, 1), 1, 16))
    axes = channel_axes(model.graph)
    tallies = {name: _Tally(ranges.clipped.get(name), axes.get(name)) for name in known}
    with backend.build(to_bytes(model), exact=True) as engine:
        for _, _, outputs in run_whole(engine, dataset, lowerer.model.interface, batch):
            for name in known:
                tallies[name].add(outputs[name])
    return {name: tally.drift() for name, tally in tallies.items() if tally.count}


class _Tally:
    """The figures of one value, batch by batch.

    Args:
        kept: the range that INT8 keeps, None where there is none.
        axis: the axis of its channels; None where no linear operator reads it, which leaves the usual one.
    """

    def __init__(self, kept: Range | None, axis: int | None) -> None:
        self._kept, self._axis = kept, axis
        self.count = 0
        self._beyond = 0
        self._low, self._high = np.inf, -np.inf
        self._sums: Array | None = None

    def add(self, array: Array) -> None:
        """Count the numbers of one batch."""
        if not array.size:
            return
        self.count += array.size
        self._low, self._high = min(self._low, float(array.min())), max(self._high, float(array.max()))
        if self._kept is not None:
            self._beyond += int(((array < self._kept.low) | (array > self._kept.high)).sum())
        if array.ndim >= 2:
            usual = 1 if array.ndim == 4 else -1
            axis = (usual if self._axis is None else self._axis) % array.ndim
            # A mean, because one large sample makes the peaks of its channels large, which says nothing about them.
            sums = np.abs(array).sum(axis=tuple(a for a in range(array.ndim) if a != axis), dtype=np.float64)
            alike = self._sums is not None and self._sums.shape == sums.shape
            self._sums = self._sums + sums if alike and self._sums is not None else sums

    def drift(self) -> ValueDrift:
        """What the batches together show."""
        ratio = 1.0
        live = self._sums[self._sums > 0] if self._sums is not None else np.zeros(0)
        if live.size > 1:
            ratio = float(live.max() / np.median(live))
        return ValueDrift(self._low, self._high, self._beyond / max(self.count, 1), min(ratio, 1e6))
