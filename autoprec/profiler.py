"""Measuring sensitivities: one unit at a time on FP32 activations, then only what its outputs reach.

Samples pass through in small chunks, so that activations stay in memory that is already there; the engines
of all units are kept from chunk to chunk where their weights allow it. Units are independent, so each runs
on one thread and several of them at a time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx_ir as ir

from autoprec.backends.protocol import Backend, Engine
from autoprec.data.dataset import Batch, Dataset
from autoprec.errors import MetricError
from autoprec.evaluate import of_samples, run_dataset, run_whole
from autoprec.graph import elements
from autoprec.lower import Lowerer, uniform
from autoprec.metrics import Metric, load_metric
from autoprec.model import to_bytes
from autoprec.precision import Array, Precision
from autoprec.ranges.table import RangeTable
from autoprec.scores import finite_samples
from autoprec.sensitivity import Profile, Sensitivity, profile_fingerprint
from autoprec.subgraph import Spliced, splice, suffix_cut

Possible = Mapping[str, Mapping[Precision, str | None]]
Outputs = dict[str, Array]

_BATCH_BYTES = 1 << 24
_CHUNK_BYTES = {True: 1 << 28, False: 1 << 30}  # by whether engines are kept; small ones stay in the heap
_ENGINE_BYTES = 1 << 30
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
    """A chunk put together again: FP32's outputs, labels and scores for all its samples."""

    def __init__(self, state: list[tuple[Batch, Outputs]], finals: list[str], metric: Metric) -> None:
        self._counts = [(len(known[next(iter(batch.inputs))]), batch.count) for batch, known in state]
        self.expected = self.joined([{name: known[name] for name in finals} for _, known in state])
        self.count = sum(count for _, count in self._counts)
        labels = [batch.labels for batch, _ in state if batch.labels is not None]
        self.labels: Array | None = np.concatenate(labels) if labels else None
        self.scores = metric.scores(self.expected, self.labels, self.expected, self.count)
        self.score_s: float | None = None

    def joined(self, results: list[Outputs]) -> Outputs:
        """The outputs of all batches, those of filled-up samples left out."""
        parts = [of_samples(r, fed, count) for r, (fed, count) in zip(results, self._counts, strict=True)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@dataclass
class _Engines:
    """A unit in each precision, with all behind it that it reaches."""

    parts: dict[Precision, tuple[Engine, Spliced]]
    stack: ExitStack


@dataclass
class Profiler:
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
    _kept: dict[str, _Engines] = field(default_factory=dict)
    _measures: dict[str, Metric] = field(default_factory=dict)
    _score_s: float = 0.0

    def run(self, precisions: tuple[Precision, ...]) -> Profile:
        """Profile every unit in every given precision that it can run in and that is not FP32."""
        mark = profile_fingerprint(self.lowerer, self.dataset, self.metric, self.ranges)
        wanted: list[Precision] = [p for p in precisions if p is not Precision.FP32]
        units = [u.name for u in self.lowerer.partition.units if any(self._can(u.name, p) for p in wanted)]
        self._measures = {name: load_metric(name) for name in self._fidelity()}
        # Timing a full pass is the yardstick, not a part of what is measured with it.
        pass_s = self._full_pass_s(units, wanted)
        earlier_s, start = self._read_journal(mark), time.process_time()
        graphs = {p: self._uniform(p) for p in wanted}
        keep = self._engine_bytes(units, len(wanted)) <= _ENGINE_BYTES
        chunks = list(self._chunks(keep))
        with ExitStack() as everything:
            capture = everything.enter_context(self.backend.build(self._capturing(), exact=True, threads=1))
            for number, chunk in enumerate(chunks):
                todo = {name: [p for p in wanted if self._missing(number, name, p)] for name in units}
                if any(todo.values()):
                    state = self._activations(capture, chunk)
                    spent = earlier_s - start
                    self._measure_chunk(number, len(chunks), todo, graphs, state, keep, (mark, spent))
            for engines in self._kept.values():
                engines.stack.close()
        # Whoever ran full passes would have to score them too.
        return self._profile(units, wanted, pass_s + self._score_s, earlier_s + time.process_time() - start, mark)

    def _activations(self, capture: Engine, chunk: Dataset) -> list[tuple[Batch, Outputs]]:
        """Each batch of the chunk with everything that is known about it from FP32."""
        interface, workers = self.lowerer.model.interface, self.backend.threads
        bounds = np.linspace(0, chunk.count, min(workers, chunk.count) + 1).astype(int)
        parts = [chunk.subset(range(low, high)) for low, high in pairwise(bounds)]

        def run(part: Dataset) -> list[tuple[Batch, Outputs]]:
            batches = run_whole(capture, part, interface, self._step())
            return [(batch, {**feed, **outputs}) for batch, feed, outputs in batches]

        with ThreadPoolExecutor(workers) as pool:
            return [item for state in pool.map(run, parts) for item in state]

    def _fidelity(self) -> tuple[str, ...]:
        """KL divergence takes longer than the network itself where each sample gives many distributions."""
        values = sum(elements(value) for value in self.lowerer.model.graph.outputs)
        return ("sqnr", "kl") if values <= _KL_ELEMENTS else ("sqnr",)

    def _profile(self, units: list[str], wanted: list[Precision], pass_s: float, spent_s: float, mark: str) -> Profile:
        totals: dict[tuple[str, Precision], _Total] = {}
        for (_, name, precision), total in self._done.items():
            totals.setdefault((name, precision), _Total()).add(total)
        keys = [(name, p) for name in units for p in wanted if (name, p) in totals]
        entries = {key: totals[key].mean(self.dataset.count) for key in keys}
        return Profile(entries, self.dataset.count, pass_s, spent_s, mark)

    def _can(self, unit: str, precision: Precision) -> bool:
        return self.possible[unit].get(precision, "not offered") is None

    def _missing(self, chunk: int, unit: str, precision: Precision) -> bool:
        return self._can(unit, precision) and (chunk, unit, precision) not in self._done

    def _uniform(self, precision: Precision) -> ir.Graph:
        plan = uniform(self.lowerer.partition, precision, self.possible, Precision.FP32)
        return self.lowerer.lower(plan, self.ranges, simulate=True).ir.graph

    def _sample_bytes(self) -> int:
        """Bytes of the activations that are kept of one sample."""
        graph = self.lowerer.model.graph
        names = set(self._cut_values())
        return max(1, sum(4 * elements(v) for node in graph for v in node.outputs if v.name in names))

    def _step(self) -> int:
        return int(np.clip(_BATCH_BYTES // self._sample_bytes(), 1, self.batch_size))

    def _chunks(self, keep: bool) -> Iterator[Dataset]:
        """Parts of the data whose activations fit in memory together."""
        step = int(np.clip(_CHUNK_BYTES[keep] // self._sample_bytes(), 1, self.dataset.count))
        for first in range(0, self.dataset.count, step):
            yield self.dataset.subset(range(first, min(first + step, self.dataset.count)))

    def _cut_values(self) -> list[str]:
        """Every value that some unit, or what lies behind it, begins with."""
        graph = self.lowerer.model.graph
        names: dict[str, None] = {}
        for unit in self.lowerer.partition.units:
            around = [name for name in suffix_cut(graph, unit.outputs)[0] if name not in unit.outputs]
            names.update(dict.fromkeys([*unit.inputs, *around]))
        return list(names)

    def _capturing(self) -> bytes:
        """The FP32 model with every cut value as an output."""
        model = self.lowerer.model.ir.clone(deep_copy=False)
        values = {str(v.name): v for node in model.graph for v in node.outputs}
        finals = [str(value.name) for value in model.graph.outputs]
        model.graph.outputs.extend(values[n] for n in self._cut_values() if n in values and n not in finals)
        return to_bytes(model)

    def _full_pass_s(self, units: list[str], precisions: list[Precision]) -> float:
        """CPU seconds of one entry by a full pass: lowering the unit, building the engine, and running all samples.

        Each entry is another model, so whoever ran full passes would lower and build for each.
        """
        workers = min(self.backend.threads, self.dataset.count)
        parts = [self.dataset.subset(range(first, self.dataset.count, workers)) for first in range(workers)]
        middle = units[len(units) // 2 :][:1]
        plan = {name: p for name in middle for p in precisions if self._can(name, p)}
        start = time.process_time()
        model = to_bytes(self.lowerer.lower(plan, self.ranges, simulate=True).ir)
        lower_s = time.process_time() - start
        with ExitStack() as stack, ThreadPoolExecutor(workers) as pool:
            start = time.process_time()
            engines = [stack.enter_context(self.backend.build(model, exact=True, threads=1)) for _ in parts]
            build_s = (time.process_time() - start) / workers

            def run(place: int, data: Dataset) -> None:
                for _ in run_dataset(engines[place], data, self.lowerer.model.interface, self._step()):
                    pass

            warm = parts[0].subset(range(min(parts[0].count, self._step())))
            list(pool.map(run, range(workers), [warm] * workers))
            start = time.process_time()
            list(pool.map(run, range(workers), parts))
            return lower_s + build_s + time.process_time() - start

    def _engine_bytes(self, units: list[str], precisions: int) -> int:
        """About what the weights of all suffixes take: each unit's weights are behind all units before it."""
        weights = [u.weights for u in self.lowerer.partition.units if u.name in set(units)]
        return precisions * sum(4 * weight * (place + 1) for place, weight in enumerate(weights))

    def _engines(self, unit: str, graphs: Mapping[Precision, ir.Graph], keep: bool) -> _Engines:
        if unit in self._kept:
            return self._kept[unit]
        record, stack, parts = self.lowerer.partition.unit(unit), ExitStack(), {}
        for precision, lowered in graphs.items():
            if self._can(unit, precision):
                exact = self.lowerer.base(lowered.opset_imports[""]).graph
                part = splice(lowered, exact, record.inputs, record.outputs)
                parts[precision] = (stack.enter_context(self.backend.build(part.model, exact=True, threads=1)), part)
        engines = _Engines(parts, stack)
        if keep:
            self._kept[unit] = engines
        return engines

    def _measure_chunk(
        self,
        number: int,
        chunks: int,
        todo: Mapping[str, list[Precision]],
        graphs: Mapping[Precision, ir.Graph],
        state: list[tuple[Batch, Outputs]],
        keep: bool,
        mark: tuple[str, float],
    ) -> None:
        """Run the units side by side; score as they come in, for a user's metric need not be thread-safe."""
        fingerprint, before_s = mark
        whole = _Whole(state, [str(value.name) for value in self.lowerer.model.graph.outputs], self.metric)
        with ThreadPoolExecutor(self.backend.threads) as pool:
            futures = {
                pool.submit(self._unit_outputs, name, wanted, graphs, state, keep): name
                for name, wanted in todo.items()
                if wanted
            }
            for place, future in enumerate(as_completed(futures)):
                name = futures[future]
                for precision, results in future.result().items():
                    start = time.process_time()
                    self._done[(number, name, precision)] = self._score(whole, results)
                    if whole.score_s is None:
                        whole.score_s = time.process_time() - start
                        self._score_s += whole.score_s
                self._write_journal(number, name, todo[name], fingerprint, before_s + time.process_time())
                self.progress((number + (place + 1) / len(futures)) / chunks)

    def _unit_outputs(
        self,
        unit: str,
        precisions: list[Precision],
        graphs: Mapping[Precision, ir.Graph],
        state: list[tuple[Batch, Outputs]],
        keep: bool,
    ) -> dict[Precision, list[Outputs]]:
        engines = self._engines(unit, graphs, keep)
        finals = [str(value.name) for value in self.lowerer.model.graph.outputs]
        results: dict[Precision, list[Outputs]] = {}
        for precision in precisions:
            engine, part = engines.parts[precision]
            results[precision] = []
            for _, known in state:
                made = engine.run({new: known[name] for new, name in part.feeds.items()})
                results[precision].append({name: made[name] if name in made else known[name] for name in finals})
        if not keep:
            engines.stack.close()
        return results

    def _score(self, whole: _Whole, results: list[Outputs]) -> _Total:
        outputs = whole.joined(results)
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

    def _read_journal(self, mark: str) -> float:
        if self.journal is None or not self.journal.is_file():
            return 0.0
        spent = 0.0
        for line in self.journal.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
                if row["mark"] != mark:
                    continue
                key = (int(row["chunk"]), str(row["unit"]), Precision(row["precision"]))
                drop = float("inf") if row["drop"] is None else float(row["drop"])
                self._done[key] = _Total(float(row["noise"]), row["kl"], drop)
                spent = float(row["spent_s"])
            except (ValueError, KeyError, TypeError):
                continue  # the line that a kill cut off
        return spent

    def _write_journal(self, number: int, unit: str, precisions: list[Precision], mark: str, spent: float) -> None:
        if self.journal is None:
            return
        with self.journal.open("a", encoding="utf-8") as file:
            for precision in precisions:
                t = self._done[(number, unit, precision)]
                drop = t.drop if np.isfinite(t.drop) else None
                row = {"mark": mark, "chunk": number, "unit": unit, "precision": precision.value}
                file.write(json.dumps({**row, "noise": t.noise, "kl": t.kl, "drop": drop, "spent_s": spent}) + "\n")
