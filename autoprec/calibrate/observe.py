"""Observation: one streaming pass over the calibration data that sees every value that may be quantised."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from autoprec.backends.protocol import Backend
from autoprec.calibrate.job import Progress
from autoprec.data.dataset import Dataset
from autoprec.errors import DataError
from autoprec.graph.model import to_bytes
from autoprec.graph.topology import LINEAR_OPS
from autoprec.lowering.lowerer import Lowerer
from autoprec.lowering.placement import calibration_tensors
from autoprec.lowering.possible import Possible, uniform
from autoprec.metrics.running import run_whole
from autoprec.precision import Array, Precision
from autoprec.ranges.averages import MovingRange
from autoprec.ranges.histogram import Histogram
from autoprec.ranges.table import storable
from autoprec.units.sizes import elements_in

_CAPTURE_BYTES = 1 << 29


@dataclass(frozen=True, slots=True)
class Observed:
    """Statistics of one streaming pass.

    Attributes:
        histograms: value name -> the histogram of its numbers.
        means: value name -> the mean of each channel, for values that linear ops read.
        samples: the number of samples that were seen.
        averages: value name -> the moving average of its extremes, where one was asked for.
    """

    histograms: Mapping[str, Histogram]
    means: Mapping[str, Array]
    samples: int
    averages: Mapping[str, MovingRange] = field(default_factory=dict)


def needed_tensors(lowerer: Lowerer, possible: Possible) -> tuple[str, ...]:
    """Return the values that some plan quantises: those of every uniform plan, pairs beside neighbours included."""
    found: dict[str, None] = {}
    for precision in (Precision.INT8, Precision.FP8, Precision.NVFP4):
        plan = uniform(lowerer.partition, precision, possible, lowerer.carrier)
        if precision in plan.values():
            topology, placement = lowerer.placement(plan)
            found.update(dict.fromkeys(calibration_tensors(topology, [placement])))
    return tuple(found)


def observe(
    lowerer: Lowerer,
    tensors: tuple[str, ...],
    backend: Backend,
    dataset: Dataset,
    batch_size: int,
    *,
    progress: Progress = lambda what, share: None,
    smoothing: float | None = None,
) -> Observed:
    """Run the model once over the data with the named values as outputs; memory does not grow with the samples.

    Args:
        lowerer: the lowerer of the model.
        tensors: the names of the values.
        backend: the runtime that computes them.
        dataset: the samples.
        batch_size: the largest number of samples of one run; large values make it smaller.
        progress: the function that is told how far the pass is, and may end it.
        smoothing: the share of the newest batch in moving averages of extremes; None keeps no averages.
    """
    model = lowerer.model.ir.clone()
    values = {str(v.name): v for node in model.graph for v in node.outputs}
    inputs = {str(v.name): v for v in model.graph.inputs}
    axes = channel_axes(model.graph)
    for name in tensors:
        if name in values and not values[name].is_graph_output():
            model.graph.outputs.append(values[name])
    shapes = lowerer.partition.shapes
    size = sum(4 * elements_in(values.get(name) or inputs.get(name), shapes) for name in tensors)
    batch_size = int(np.clip(_CAPTURE_BYTES // max(size, 1), 1, batch_size))
    histograms = {name: Histogram() for name in tensors}
    averages = {} if smoothing is None else {name: MovingRange(smoothing) for name in tensors}
    sums: dict[str, Array] = {}
    seen = 0
    with backend.build(to_bytes(model), exact=True) as engine:
        interface = lowerer.model.interface
        for batch, feed, outputs in run_whole(engine, dataset, interface, batch_size):
            known = {**feed, **outputs}
            for name in tensors:
                _update(histograms[name], known[name], name)
                if name in averages:
                    averages[name].update(known[name])
                if name in axes:
                    mean = _channel_mean(known[name], axes[name]) * batch.count
                    sums[name] = sums[name] + mean if name in sums else mean
            seen += batch.count
            if progress("ranges", seen / dataset.count):
                break
    return Observed(histograms, {name: storable(total / seen) for name, total in sums.items()}, seen, averages)


def largest_magnitudes(
    lowerer: Lowerer, tensors: Sequence[str], backend: Backend, dataset: Dataset
) -> dict[str, float]:
    """Return value name -> its largest magnitude over a few samples; values that are no finite floats are left out.

    Args:
        lowerer: the lowerer of the model.
        tensors: the names of the values.
        backend: the runtime that computes them.
        dataset: the samples; one is run at a time, since all values are kept.
    """
    wanted = set(tensors)
    model = exposing(lowerer.model.ir, wanted)
    found: dict[str, float] = {}
    with backend.build(to_bytes(model), exact=True) as engine:
        for _, feed, outputs in run_whole(engine, dataset, lowerer.model.interface, 1):
            for name, array in {**feed, **outputs}.items():
                if name in wanted and array.dtype == np.float32 and array.size:
                    found[name] = max(float(np.abs(array).max()), found.get(name, 0.0))
    return {name: value for name, value in found.items() if np.isfinite(value)}


def exposing(model: ir.Model, names: Container[str]) -> ir.Model:
    """Return a copy of the model with the values of these names among its outputs."""
    copy = model.clone()
    values = [v for node in copy.graph for v in node.outputs if v.name in names and not v.is_graph_output()]
    copy.graph.outputs.extend(values)
    return copy


def _update(histogram: Histogram, array: Array, name: str) -> None:
    try:
        histogram.update(array)
    except DataError as error:
        raise DataError(f"value {name!r} of the FP32 model is not finite on the calibration data: {error}") from error


def channel_axes(graph: ir.Graph) -> dict[str, int]:
    """Value name -> the axis of its channels, for values that linear operators read."""
    axes: dict[str, int] = {}
    for node in graph:
        if node.op_type in LINEAR_OPS and node.inputs[0] is not None:
            axes.setdefault(str(node.inputs[0].name), 1 if node.op_type.startswith("Conv") else -1)
    return axes


def _channel_mean(array: Array, axis: int) -> Array:
    axis %= array.ndim
    others = tuple(index for index in range(array.ndim) if index != axis)
    result: Array = array.mean(axis=others, dtype=np.float64)
    return result
