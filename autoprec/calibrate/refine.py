"""Another calibrator for single values, where the outputs of the whole network come nearer to FP32.

A calibrator sees one value alone. What clipping an outlier costs shows at the outputs only: in a transformer one
residual value may need its whole range where all others gain from clipping.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import onnx_ir as ir

from autoprec.backends.limited import LimitedEngine, OutOfTime, never
from autoprec.backends.protocol import Backend, Computing
from autoprec.calibrate.job import CalibrationJob
from autoprec.errors import OutOfTimeError
from autoprec.graph.model import to_bytes
from autoprec.graph.names import Names
from autoprec.graph.topology import const_array
from autoprec.lowering.lowerer import Lowerer
from autoprec.metrics.evaluator import Evaluator
from autoprec.metrics.outcome import Outcome
from autoprec.precision import Array, Precision
from autoprec.ranges.affine import QuantParams
from autoprec.ranges.bins import Range
from autoprec.ranges.calibrators import quantization_error
from autoprec.ranges.histogram import Histogram
from autoprec.ranges.table import RangeTable

_GAIN = 0.99
"""A change counts only if at most this share of the noise is left; smaller changes may be chance."""
_MACS = 2e11
"""The multiply-accumulates that all tries together may cost; two cores take some seconds for them."""
_TRIES = (8, 96)
_TINY = 1e-30

Scales = Mapping[tuple[str, Precision], QuantParams]
Points = dict[tuple[str, tuple[int, ...]], tuple[ir.Value, ir.Value]]
"""(value, shape of its scales) -> the inputs for scales and zero points."""


@dataclass(frozen=True, slots=True)
class _Try:
    value: str
    label: str
    span: Range


def refine(
    job: CalibrationJob,
    evaluator: Evaluator,
    histograms: Mapping[str, Histogram],
    best: RangeTable,
    others: Sequence[RangeTable],
) -> RangeTable:
    """Replace ranges one by one by those of other calibrators, as long as the outputs' noise falls.

    Coordinate descent over the values that a change of range alters most, one visit each. Scales are inputs of one
    simulated model, so that a try is a run and builds nothing.

    Args:
        job: the calibration; its samples are those that `evaluator` runs.
        evaluator: the judge of the noise of outputs against FP32.
        histograms: value name -> its values.
        best: the table of the calibrator that is best for all values together.
        others: the tables of the other calibrators.

    Returns:
        The table; `chosen` names the values whose calibrator is another one.
    """
    macs = sum(unit.macs for unit in job.lowerer.partition.units) * job.dataset.count
    symmetric = job.lowerer.scheme.symmetric
    with adjustable(job.lowerer, job.int8_plan(), job.backend, best, job.out_of_time) as engine:
        tries = [t for t in _tries(histograms, best, others, symmetric) if t.value in engine.values]
        tries = tries[: int(np.clip(_MACS / max(macs, 1), *_TRIES))]
        least = evaluator.evaluate(engine.under(best))
        table = best
        for number, attempt in enumerate(tries):
            candidate = replace(table, clipped={**table.clipped, attempt.value: attempt.span})
            try:
                found = evaluator.evaluate(engine.under(candidate), partial(_is_no_better, least))
            except OutOfTimeError:
                break
            if len(found.scores) == len(least.scores) and not _is_no_better(least, found):
                least = found
                table = replace(candidate, chosen={**table.chosen, attempt.value: attempt.label})
            if job.progress("calibrator of each value", (number + 1) / len(tries)):
                break
    return table


def _is_no_better(least: Outcome, found: Outcome) -> bool:
    """Return whether the noise did not fall enough on the samples that were looked at."""
    before: Array = least.scores[: len(found.scores)]
    return not found.scores.mean() < _GAIN * before.mean()


def _tries(
    histograms: Mapping[str, Histogram], best: RangeTable, others: Sequence[RangeTable], symmetric: bool
) -> list[_Try]:
    """Return other ranges, those first that change a value's own error most, for better or worse."""
    found: list[tuple[float, _Try]] = []
    for value, span in best.clipped.items():
        histogram = histograms[value]
        power = max(histogram.magnitude**2, _TINY)
        here = quantization_error(histogram, span, symmetric) / power
        seen = {(span.low, span.high)}
        for other in others:
            there = other.clipped[value]
            if (there.low, there.high) in seen:
                continue
            seen.add((there.low, there.high))
            error = quantization_error(histogram, there, symmetric) / power
            found.append((abs(np.log((error + _TINY) / (here + _TINY))), _Try(value, other.method, there)))
    return [attempt for _, attempt in sorted(found, key=lambda pair: -pair[0])]


class Adjustable:
    """A simulated model whose activation scales are fed with each run."""

    def __init__(self, engine: Computing, points: Points, scales: Callable[[RangeTable], Scales]) -> None:
        self._engine, self._points, self._scales = engine, points, scales
        self.values = frozenset(tensor for tensor, _ in points)

    def under(self, table: RangeTable) -> _Under:
        """Return the model with the scales of a table."""
        scales = {tensor: found for (tensor, _), found in self._scales(table).items()}
        feed: dict[str, Array] = {}
        for (tensor, shape), (scale, zero) in self._points.items():
            feed[str(scale.name)] = np.full(shape, scales[tensor].scale, np.float32)
            code = ir.DataType.INT8 if zero.dtype is None else zero.dtype
            feed[str(zero.name)] = np.full(shape, scales[tensor].zero_point, code.numpy())
        return _Under(self._engine, feed)


class _Under:
    def __init__(self, engine: Computing, scales: Mapping[str, Array]) -> None:
        self._engine, self._scales = engine, scales

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        return self._engine.run({**feed, **self._scales})


@contextmanager
def adjustable(
    lowerer: Lowerer,
    plan: Mapping[str, Precision],
    backend: Backend,
    table: RangeTable,
    out_of_time: OutOfTime = never,
) -> Iterator[Adjustable]:
    """Build the simulated plan with its activation scales as inputs; weights and biases are those under `table`."""
    lowered = lowerer.lower(plan, table, simulate=True)
    points, names = Points(), Names(lowered.ir.graph)
    for pair in lowered.record.pairs:
        if pair.point.precision is Precision.INT8:
            for node in pair.nodes:
                _feed_scale(lowered.ir.graph, node, pair.point.tensor, points, names)
    with LimitedEngine(backend.build(to_bytes(lowered.ir), exact=True), out_of_time) as engine:
        yield Adjustable(engine, points, lowerer.scaler(plan))


def _feed_scale(graph: ir.Graph, node: ir.Node, tensor: str, points: Points, names: Names) -> None:
    """Make scale and zero point of a node inputs of the graph, one pair of inputs for each value and shape."""
    shape = _constant(node.inputs[1]).shape
    key = (tensor, shape)
    if key not in points:
        made = []
        for part, old in (("scale", node.inputs[1]), ("zero", node.inputs[2])):
            name = names.new(f"{tensor}/{part}.fed{len(shape)}")
            kind = ir.TensorType(ir.DataType.from_numpy(_constant(old).dtype))
            made.append(ir.Value(name=name, type=kind, shape=ir.Shape(shape)))
        graph.inputs.extend(made)
        points[key] = made[0], made[1]
    for index, value in zip((1, 2), points[key], strict=True):
        node.replace_input_with(index, value)


def _constant(value: ir.Value | None) -> Array:
    array = const_array(value)
    if array is None:
        raise ValueError("a pair's scale and zero point must be constant")
    return array
