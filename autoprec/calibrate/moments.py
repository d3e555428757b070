"""Second moments of what layers read, over the calibration data, as many at a time as memory allows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from autoprec.backends.limited import LimitedEngine
from autoprec.calibrate.job import CalibrationJob
from autoprec.files.json import fingerprint
from autoprec.graph.model import to_bytes
from autoprec.lowering.lowerer import Lowerer
from autoprec.lowering.passes.type_slots import OPSET_BLOCKS
from autoprec.lowering.possible import Possible
from autoprec.lowering.reading import Reading, reading_of
from autoprec.metrics.running import run_whole
from autoprec.precision import Precision
from autoprec.ranges.moments import Moments, moments_of
from autoprec.ranges.table import EIGHT_BITS, RangeTable
from autoprec.units.sizes import elements_in

_MOST_BYTES = 1 << 29
_LARGEST_MATRIX = 1 << 29
"""Layers whose moments take more bytes, such as products of 12,000 channels, are rounded to the nearest codes."""
_SAMPLES = 128
"""More samples change the rounding little: a sample has many rows where products are large."""
_PATCHES, _MOST_MACS = 1 << 14, 4e10
"""The most patches of a convolution that are looked at, and the multiply-accumulates that they may cost."""


def values_with_moments(
    lowerer: Lowerer, possible: Possible, *, of_8_bits: bool = False
) -> dict[tuple[str, str], Reading]:
    """Return what layers read whose weights may be rounded by its moments, by the key of each reading.

    Args:
        lowerer: the lowerer of the model.
        possible: what each unit can run in.
        of_8_bits: whether weights of 8 bits are rounded so too, and not only those in blocks.
    """

    def rounded(precision: Precision) -> bool:
        return precision.block > 0 or (of_8_bits and precision.of_weights in EIGHT_BITS)

    units = [u for u in lowerer.partition.units if u.kind in ("conv", "matmul")]
    units = [u for u in units if any(why is None and rounded(p) for p, why in possible[u.name].items())]
    if not units:
        return {}
    nodes = {str(node.name): node for node in lowerer.base(OPSET_BLOCKS).graph}
    found: dict[tuple[str, str], Reading] = {}
    for node in (nodes[name] for unit in units for name in unit.anchors if name in nodes):
        reading = reading_of(node)
        if reading is not None and (of_8_bits or reading.window is None) and reading.matrix_bytes <= _LARGEST_MATRIX:
            found.setdefault(reading.key, reading)
    return found


def moments_fingerprint(of_table: str, read: Iterable[tuple[str, str]], *, of_8_bits: bool = False) -> str:
    """Return the fingerprint of ranges with the moments of what is read, given that without them."""
    what = "moments, of 8 bits too" if of_8_bits else "moments"
    found = sorted(f"{value} by {how}" if how else value for value, how in read)
    return fingerprint([of_table, what, *found]) if found else of_table


def with_moments(
    job: CalibrationJob, table: RangeTable, read: Mapping[tuple[str, str], Reading], *, of_8_bits: bool = False
) -> RangeTable:
    """Return the table with the moments of what layers read.

    Args:
        job: the calibration.
        table: the ranges.
        read: what `values_with_moments` gives.
        of_8_bits: whether weights of 8 bits are rounded by them too.

    Raises:
        OutOfTimeError: the time is up.
    """
    found: dict[tuple[str, str], Moments] = {}
    for group in _groups(job, read):
        found.update(_observed(job, group))
        if job.progress("moments", len(found) / max(len(read), 1)):
            break
    of_all = moments_fingerprint(table.fingerprint, list(found), of_8_bits=of_8_bits)
    patches: dict[str, dict[str, Moments]] = {}
    for (value, how), each in found.items():
        if how:
            patches.setdefault(value, {})[how] = each
    products = {value: each for (value, how), each in found.items() if not how}
    return replace(table, moments=products, patches=patches, rounds_8_bits=of_8_bits, fingerprint=of_all)


def _groups(job: CalibrationJob, read: Mapping[tuple[str, str], Reading]) -> Iterator[dict[tuple[str, str], Reading]]:
    """Readings whose matrices, and whose values in one run, fit into memory together."""
    lowerer = job.lowerer
    values = {str(v.name): v for node in lowerer.model.graph for v in node.outputs}
    values |= {str(v.name): v for v in lowerer.model.graph.inputs}
    group: dict[tuple[str, str], Reading] = {}
    total = 0
    for key, reading in read.items():
        held = elements_in(values.get(reading.value), lowerer.partition.shapes) * job.batch if reading.window else 0
        size = 4 * held + reading.matrix_bytes
        if group and total + size > _MOST_BYTES:
            yield group
            group, total = {}, 0
        group[key] = reading
        total += size
    if group:
        yield group


def _observed(job: CalibrationJob, read: Mapping[tuple[str, str], Reading]) -> dict[tuple[str, str], Moments]:
    model = job.lowerer.model.ir.clone()
    values = {str(v.name): v for node in model.graph for v in node.outputs}
    for name in dict.fromkeys(reading.value for reading in read.values()):
        if name in values and not values[name].is_graph_output():
            model.graph.outputs.append(values[name])
    sums = {key: np.zeros((each.groups, each.channels, each.channels), np.float32) for key, each in read.items()}
    data = job.dataset.subset(range(min(job.dataset.count, _SAMPLES)))
    random = np.random.default_rng(0)
    with LimitedEngine(job.backend.build(to_bytes(model), exact=True), job.out_of_time) as engine:
        for batch, feed, outputs in run_whole(engine, data, job.lowerer.model.interface, job.batch):
            known = {**feed, **outputs}
            for key, reading in read.items():
                most = _patches(reading, data.count)
                rows = reading.rows(known[reading.value].astype(np.float32, copy=False), most, random)
                sums[key] += (rows.transpose(0, 2, 1) @ rows) / np.float32(max(rows.shape[1], 1) / batch.count)
    return {key: moments_of(total if len(total) > 1 else total[0]) for key, total in sums.items()}


def _patches(reading: Reading, samples: int) -> int:
    """Return how many patches of each sample are looked at."""
    affordable = _MOST_MACS / (reading.groups * reading.channels**2)
    return max(1, int(min(_PATCHES, affordable)) // max(samples, 1))
