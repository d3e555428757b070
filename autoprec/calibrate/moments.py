"""Second moments of what products read, over the calibration data, as many at a time as memory allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from autoprec.backends.limited import LimitedEngine
from autoprec.calibrate.job import CalibrationJob
from autoprec.files.json import fingerprint
from autoprec.graph.model import to_bytes
from autoprec.graph.topology import attribute_int, static_shape
from autoprec.lowering.lowerer import Lowerer
from autoprec.lowering.passes.type_slots import OPSET_BLOCKS
from autoprec.lowering.possible import Possible
from autoprec.metrics.running import run_whole
from autoprec.precision import Array
from autoprec.ranges.moments import Moments, moments_of
from autoprec.ranges.table import RangeTable

_MOST_BYTES = 1 << 29
_SAMPLES = 128
"""More samples change the rounding little: a sample has many rows where products are large."""


def values_with_moments(lowerer: Lowerer, possible: Possible) -> dict[str, int]:
    """Return the values that products read whose weights may be stored in blocks -> the number of their channels."""
    units = [u for u in lowerer.partition.units if any(p.block and why is None for p, why in possible[u.name].items())]
    if not units:
        return {}
    nodes = {str(node.name): node for node in lowerer.base(OPSET_BLOCKS).graph}
    found: dict[str, int] = {}
    for node in (nodes[name] for unit in units for name in unit.anchors if name in nodes):
        source, shape = node.inputs[0], static_shape(node.inputs[1])
        if source is not None and shape is not None and len(shape) == 2:
            found.setdefault(str(source.name), shape[1 if attribute_int(node, "transB", 0) else 0])
    return found


def moments_fingerprint(of_table: str, names: Iterable[str]) -> str:
    """Return the fingerprint of ranges with the moments of these values, given that without them."""
    return fingerprint([of_table, "moments", *found]) if (found := sorted(names)) else of_table


def with_moments(job: CalibrationJob, table: RangeTable, widths: Mapping[str, int]) -> RangeTable:
    """Return the table with the moments of values, given by name with the number of their channels.

    Raises:
        OutOfTimeError: the time is up.
    """
    found: dict[str, Moments] = {}
    for group in _groups(widths):
        found.update(_observed(job, group))
        if job.progress("moments", len(found) / max(len(widths), 1)):
            break
    return replace(table, moments=found, fingerprint=moments_fingerprint(table.fingerprint, list(found)))


def _groups(widths: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Values whose matrices fit into memory together."""
    group: dict[str, int] = {}
    for name, width in widths.items():
        if group and sum(4 * size**2 for size in (*group.values(), width)) > _MOST_BYTES:
            yield group
            group = {}
        group[name] = width
    if group:
        yield group


def _observed(job: CalibrationJob, widths: dict[str, int]) -> dict[str, Moments]:
    model = job.lowerer.model.ir.clone()
    values = {str(v.name): v for node in model.graph for v in node.outputs}
    for name in widths:
        if name in values and not values[name].is_graph_output():
            model.graph.outputs.append(values[name])
    sums: dict[str, Array] = {name: np.zeros((width, width), np.float32) for name, width in widths.items()}
    data = job.dataset.subset(range(min(job.dataset.count, _SAMPLES)))
    with LimitedEngine(job.backend.build(to_bytes(model), exact=True), job.out_of_time) as engine:
        for batch, feed, outputs in run_whole(engine, data, job.lowerer.model.interface, job.batch):
            known = {**feed, **outputs}
            for name, total in sums.items():
                rows = known[name].reshape(-1, total.shape[0]).astype(np.float32, copy=False)
                total += (rows.T @ rows) / np.float32(max(len(rows), 1) / batch.count)
    return {name: moments_of(total) for name, total in sums.items()}
