"""How samples and entries are portioned out, so that the memory of a run and of an engine is enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np

from autoprec.data.dataset import Dataset
from autoprec.precision import Precision
from autoprec.sensitivity.job import Entry, SensitivityJob
from autoprec.sensitivity.splice import reached_part
from autoprec.units.sizes import elements_in

ENGINE_BYTES = 1 << 30
"""The most bytes of weights that the branches of one engine may hold."""
ENGINE_NODES = 20_000
"""The most nodes that the branches of one engine may hold."""
_BATCH_BYTES = 1 << 24
_CHUNKS = 8
_FIRST_SAMPLES = 8  # of a measurement that may stop early: fewer would not show how much the noise varies
_OUTPUT_BYTES = 1 << 25  # more would come from the system anew for each chunk, slowly


def samples_per_run(job: SensitivityJob) -> int:
    """The number of samples of one run: as many as keep what branches begin with in the processor's cache."""
    fixed = job.lowerer.model.interface.batch_size
    most = job.batch_size if job.most_samples is None else min(job.batch_size, job.most_samples)
    return fixed or int(np.clip(_BATCH_BYTES // _sample_bytes(job), 1, most))


def _sample_bytes(job: SensitivityJob) -> int:
    """Bytes of all activations that branches begin with, of one sample."""
    graph = job.lowerer.model.graph
    names: set[str] = set()
    for unit in job.lowerer.partition.units:
        names.update(unit.inputs, reached_part(graph, unit)[0])
    shapes = job.lowerer.partition.shapes
    return max(1, sum(4 * elements_in(v, shapes) for node in graph for v in node.outputs if v.name in names))


def chunks_of(job: SensitivityJob, step: int, entries: int) -> list[Dataset]:
    """Parts of the data: whole runs for each worker, several parts, and no more outputs than fit in memory.

    A measurement that may stop early begins with few samples, and each part is twice as large as the one before.

    Args:
        job: the measurement.
        step: the number of samples of one run.
        entries: the number of entries, each of which has outputs of its own.
    """
    whole, count = job.backend.threads * step, job.dataset.count
    shapes = job.lowerer.partition.shapes
    output = sum(4 * elements_in(value, shapes) for value in job.lowerer.model.graph.outputs)
    most = max(1, _OUTPUT_BYTES // max(1, output * (entries + 1)))
    if job.enough:
        runs = -(-_FIRST_SAMPLES // whole)
        sizes = [min(most, whole * runs << number) for number in range(count.bit_length())]
    else:
        sizes = [min(most, whole * max(1, count // (_CHUNKS * whole)))]
    bounds = [0]
    while bounds[-1] < count:
        bounds.append(min(count, bounds[-1] + sizes[min(len(bounds), len(sizes)) - 1]))
    return [job.dataset.subset(range(first, last)) for first, last in pairwise(bounds)]


def groups_of(job: SensitivityJob, entries: list[Entry], opsets: Mapping[Precision, int]) -> Iterator[list[Entry]]:
    """Entries that fit into one engine: of one opset, and not too many copies of weights and nodes behind them."""
    units = {unit.name: unit for unit in job.lowerer.partition.units}
    weights = np.cumsum([unit.weights for unit in reversed(units.values())])[::-1]
    if job.lowerer.model.store is not None:  # weights in files are shared by all branches, but for the unit's own
        weights = np.array([unit.weights for unit in units.values()])
    nodes = np.cumsum([len(unit.nodes) for unit in reversed(units.values())])[::-1]
    behind = {name: (4 * int(w), int(n)) for name, w, n in zip(units, weights, nodes, strict=True)}
    group: list[Entry] = []
    held, size, opset = 0, 0, 0
    for unit, precision in sorted(entries, key=lambda entry: opsets[entry[1]]):
        own, own_nodes = behind[unit]
        here = opsets[precision]
        full = held + own > ENGINE_BYTES or size + own_nodes > ENGINE_NODES or here != opset
        if group and full:
            yield group
            group, held, size = [], 0, 0
        opset, held, size = here, held + own, size + own_nodes
        group.append((unit, precision))
    if group:
        yield group
