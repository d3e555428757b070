"""Measuring sensitivities: one unit at a time on FP32 activations, then only what its outputs reach.

Every unit is a branch of one model: the FP32 model runs once for all of them, and each branch computes a lowered unit
and what lies behind it. Where that would be too large, units are measured in groups. Samples pass through in chunks,
each batch on one thread.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from autoprec.backends.protocol import Backend, Engine
from autoprec.data.dataset import Batch, Dataset
from autoprec.errors import MetricError
from autoprec.graph.topology import elements
from autoprec.lowering.lowerer import Lowered, Lowerer
from autoprec.lowering.possible import uniform
from autoprec.metrics.metric import Metric, load_metric
from autoprec.metrics.running import of_samples, run_whole
from autoprec.metrics.scores import finite_samples
from autoprec.precision import Array, Precision
from autoprec.ranges.table import RangeTable
from autoprec.sensitivity.splice import branched, reached_part, splice
from autoprec.sensitivity.table import Sensitivities, Sensitivity, sensitivity_fingerprint
from autoprec.sensitivity.yardstick import FullPass

Possible = Mapping[str, Mapping[Precision, str | None]]
Outputs = dict[str, Array]
Entry = tuple[str, Precision]

_BATCH_BYTES = 1 << 24
_CHUNKS = 8
_OUTPUT_BYTES = 1 << 25  # more would come from the system anew for each chunk, slowly
_ENGINE_BYTES = 1 << 30
_ENGINE_NODES = 20_000
_KL_ELEMENTS = 1 << 8


@dataclass
class _Total:
    noise: float = 0.0
    kl: float | None = 0.0
    drop: float = 0.0

    def add(self, part: _Total) -> None:
        self.noise += part.noise
        self.kl = None if self.kl is None or part.kl is None else self.kl + part.kl
        self.drop += part.drop

    def mean(self, count: int) -> Sensitivity:
        return Sensitivity(self.noise / count, None if self.kl is None else self.kl / count, self.drop / count)


class _Whole:
    """A chunk put together again: outputs by name, labels, and FP32's scores for all its samples."""

    def __init__(self, parts: list[tuple[Batch, Outputs]], finals: list[str], metric: Metric) -> None:
        self._parts = [made for _, made in parts]
        self.expected = self.outputs(dict(zip(finals, finals, strict=True)))
        self.count = sum(batch.count for batch, _ in parts)
        labels = [batch.labels for batch, _ in parts if batch.labels is not None]
        self.labels: Array | None = np.concatenate(labels) if labels else None
        self.scores = metric.scores(self.expected, self.labels, self.expected, self.count)

    def outputs(self, names: Mapping[str, str]) -> Outputs:
        """Output of the model -> what the engine's output of this name holds, over all batches."""
        return {final: np.concatenate([part[name] for part in self._parts]) for final, name in names.items()}


@dataclass(frozen=True, slots=True)
class _Group:
    """Entries that one engine computes; entry -> the model's output -> the engine's."""

    engine: Engine
    outputs: Mapping[Entry, Mapping[str, str]]


@dataclass(kw_only=True)
class SensitivityMeasurer:
    """Measures a profile; keeps what is done in a journal, so that a killed run goes on.

    Attributes:
        lowerer: of the model; its scheme is the one measured.
        possible: unit name -> precision -> why not.
        backend: runs the arithmetic.
        dataset: the profiling set.
        metric: the user's.
        ranges: calibrated.
        batch_size: the most samples for each run.
        journal: a file that gets one line for each measured part; None keeps nothing.
        progress: called with the share that is done.
    """

    lowerer: Lowerer
    possible: Possible
    backend: Backend
    dataset: Dataset
    metric: Metric
    ranges: RangeTable
    batch_size: int
    journal: Path | None = None
    progress: Callable[[float], None] = lambda share: None
    _done: dict[tuple[int, str, Precision], _Total] = field(default_factory=dict)
    _measures: dict[str, Metric] = field(default_factory=dict)
    _steps: int | None = None

    def run(self, precisions: tuple[Precision, ...]) -> Sensitivities:
        """Profile every unit in every given precision that it can run in and that is not FP32."""
        fingerprint = sensitivity_fingerprint(self.lowerer, self.dataset, self.metric, self.ranges)
        wanted: list[Precision] = [p for p in precisions if p is not Precision.FP32]
        entries = [(u.name, p) for u in self.lowerer.partition.units for p in wanted if self._can(u.name, p)]
        self._measures = {name: load_metric(name) for name in self._fidelity()}
        full = self._full_pass(entries)
        chunks = list(self._chunks(len(entries)))
        kept = f"{fingerprint} in {len(chunks)}"
        earlier_s, start = self._read_journal(kept), time.process_time()
        with full:
            lowered = {p: self._uniform(p) for p in wanted}
            groups = list(self._groups(entries, {p: one.ir.graph.opset_imports[""] for p, one in lowered.items()}))
            for index, group in enumerate(groups):
                todo = [number for number in range(len(chunks)) if any(self._missing(number, *e) for e in group)]
                if todo:
                    with ExitStack() as stack:
                        branches = self._branches(group, lowered, stack)
                        for number, parts in self._computed(branches.engine, chunks, todo, full, index, len(groups)):
                            self._measure(number, branches, parts, full)
                            spent = earlier_s + time.process_time() - start - full.own_s
                            self._write_journal(number, group, kept, spent)
                            self.progress((index + (number + 1) / len(chunks)) / len(groups))
            if not full.samples:
                full.run(chunks[-1])
            spent_s = earlier_s + time.process_time() - start - full.own_s
        return self._profile(entries, full.seconds(self.dataset.count), spent_s, fingerprint)

    def _computed(
        self, engine: Engine, chunks: Sequence[Dataset], todo: Sequence[int], full: FullPass, index: int, groups: int
    ) -> Iterator[tuple[int, list[tuple[Batch, Outputs]]]]:
        """Each chunk with the outputs of its batches; the next one is computed while one is looked at.

        Each group has its share of the yardstick's chunks.
        """
        interface, workers = self.lowerer.model.interface, self.backend.threads

        def run(part: Dataset) -> list[tuple[Batch, Outputs]]:
            stream = run_whole(engine, part, interface, self._step())
            return [(b, of_samples(made, len(next(iter(fed.values()))), b.count)) for b, fed, made in stream]

        def submit(number: int) -> tuple[list[Future[list[tuple[Batch, Outputs]]]], Future[None] | None]:
            chunk = chunks[number]
            bounds = np.linspace(0, chunk.count, min(workers, chunk.count) + 1).astype(int)
            futures = [pool.submit(run, chunk.subset(range(low, high))) for low, high in pairwise(bounds)]
            return futures, pool.submit(full.run, chunk) if number % groups == index else None

        with ThreadPoolExecutor(workers) as pool:
            ahead = submit(todo[0])
            for number, following in zip(todo, [*todo[1:], None], strict=True):
                futures, yardstick = ahead
                parts = [item for future in futures for item in future.result()]
                if yardstick is not None:
                    yardstick.result()
                if following is not None:
                    ahead = submit(following)
                yield number, parts

    def _fidelity(self) -> tuple[str, ...]:
        """KL divergence takes longer than the network itself where each sample gives many distributions."""
        values = sum(elements(value) for value in self.lowerer.model.graph.outputs)
        return ("sqnr", "kl") if values <= _KL_ELEMENTS else ("sqnr",)

    def _profile(self, entries: list[Entry], pass_s: float, spent_s: float, mark: str) -> Sensitivities:
        totals: dict[Entry, _Total] = {}
        for (_, name, precision), total in self._done.items():
            totals.setdefault((name, precision), _Total()).add(total)
        means = {entry: totals[entry].mean(self.dataset.count) for entry in entries}
        return Sensitivities(
            entries=means, samples=self.dataset.count, pass_s=pass_s, spent_s=spent_s, fingerprint=mark
        )

    def _can(self, unit: str, precision: Precision) -> bool:
        return self.possible[unit].get(precision, "not offered") is None

    def _missing(self, chunk: int, unit: str, precision: Precision) -> bool:
        return (chunk, unit, precision) not in self._done

    def _uniform(self, precision: Precision) -> Lowered:
        plan = uniform(self.lowerer.partition, precision, self.possible, Precision.FP32)
        return self.lowerer.lower(plan, self.ranges, simulate=True)

    def _sample_bytes(self) -> int:
        """Bytes of all activations that branches begin with, of one sample."""
        graph = self.lowerer.model.graph
        names: set[str] = set()
        for unit in self.lowerer.partition.units:
            names.update(unit.inputs, reached_part(graph, unit.outputs)[0])
        return max(1, sum(4 * elements(v) for node in graph for v in node.outputs if v.name in names))

    def _step(self) -> int:
        if self._steps is None:
            fixed = self.lowerer.model.interface.batch_size
            self._steps = fixed or int(np.clip(_BATCH_BYTES // self._sample_bytes(), 1, self.batch_size))
        return self._steps

    def _chunks(self, entries: int) -> Iterator[Dataset]:
        """Parts of the data: whole batches for each worker, several parts, and no more outputs than fit in memory."""
        whole, count = self.backend.threads * self._step(), self.dataset.count
        output = sum(4 * elements(value) for value in self.lowerer.model.graph.outputs)
        size = whole * max(1, count // (_CHUNKS * whole))
        size = min(size, _OUTPUT_BYTES // max(1, output * (entries + 1)))
        for first in range(0, count, max(1, size)):
            yield self.dataset.subset(range(first, min(first + max(1, size), count)))

    def _full_pass(self, entries: list[Entry]) -> FullPass:
        middle = entries[len(entries) // 2 :][:1]
        return FullPass(self.lowerer, dict(middle), self.ranges, self.backend, self._step())

    def _groups(self, entries: list[Entry], opsets: Mapping[Precision, int]) -> Iterator[list[Entry]]:
        """Entries that fit into one engine: of one opset, and not too many copies of weights and nodes behind them."""
        units = {unit.name: unit for unit in self.lowerer.partition.units}
        weights = np.cumsum([unit.weights for unit in reversed(units.values())])[::-1]
        nodes = np.cumsum([len(unit.nodes) for unit in reversed(units.values())])[::-1]
        behind = {name: (4 * int(w), int(n)) for name, w, n in zip(units, weights, nodes, strict=True)}
        group: list[Entry] = []
        held, size, opset = 0, 0, 0
        for unit, precision in sorted(entries, key=lambda entry: opsets[entry[1]]):
            own, own_nodes = behind[unit]
            here = opsets[precision]
            full = held + own > _ENGINE_BYTES or size + own_nodes > _ENGINE_NODES or here != opset
            if group and full:
                yield group
                group, held, size = [], 0, 0
            opset, held, size = here, held + own, size + own_nodes
            group.append((unit, precision))
        if group:
            yield group

    def _branches(self, group: list[Entry], lowered: Mapping[Precision, Lowered], stack: ExitStack) -> _Group:
        exact = self.lowerer.base(lowered[group[0][1]].ir.graph.opset_imports[""]).graph
        units = self.lowerer.partition.unit
        made = branched(exact, [splice(lowered[p], exact, units(name)) for name, p in group])
        engine = stack.enter_context(self.backend.build(made.model, exact=True, threads=1))
        return _Group(engine, dict(zip(group, made.outputs, strict=True)))

    def _measure(self, number: int, group: _Group, parts: list[tuple[Batch, Outputs]], full: FullPass) -> None:
        """Score every entry of a chunk."""
        finals = [str(value.name) for value in self.lowerer.model.graph.outputs]
        whole = _Whole(parts, finals, self.metric)
        for index, ((name, precision), made) in enumerate(group.outputs.items()):
            start = time.thread_time()
            outputs = whole.outputs({final: made.get(final, final) for final in finals})
            self._done[(number, name, precision)] = self._score(whole, outputs)
            if index == len(group.outputs) // 2:
                full.scored(time.thread_time() - start, whole.count)

    def _score(self, whole: _Whole, outputs: Outputs) -> _Total:
        noise = float(self._measures["sqnr"].scores(outputs, None, whole.expected, whole.count).sum())
        kl: float | None = None
        try:
            if "kl" in self._measures:
                kl = float(self._measures["kl"].scores(outputs, None, whole.expected, whole.count).sum())
        except MetricError:  # one value per sample is no distribution
            del self._measures["kl"]
        if not finite_samples(outputs).all():
            return _Total(noise, kl, float("inf"))
        scores = self.metric.scores(outputs, whole.labels, whole.expected, whole.count)
        return _Total(noise, kl, whole.count * self.metric.drop(whole.scores, scores))

    def _read_journal(self, fingerprint: str) -> float:
        if self.journal is None or not self.journal.is_file():
            return 0.0
        spent = 0.0
        for line in self.journal.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
                if row["mark"] != fingerprint:
                    continue
                key = (int(row["chunk"]), str(row["unit"]), Precision(row["precision"]))
                drop = float("inf") if row["drop"] is None else float(row["drop"])
                self._done[key] = _Total(float(row["noise"]), row["kl"], drop)
                spent = float(row["spent_s"])
            except (ValueError, KeyError, TypeError):
                continue  # the line that a kill cut off
        return spent

    def _write_journal(self, number: int, entries: Sequence[Entry], fingerprint: str, spent: float) -> None:
        if self.journal is None:
            return
        lines = []
        for unit, precision in entries:
            t = self._done[(number, unit, precision)]
            drop = t.drop if np.isfinite(t.drop) else None
            row = {"mark": fingerprint, "chunk": number, "unit": unit, "precision": precision.value}
            lines.append(json.dumps({**row, "noise": t.noise, "kl": t.kl, "drop": drop, "spent_s": spent}) + "\n")
        with self.journal.open("a", encoding="utf-8") as file:
            file.writelines(lines)
