"""How much each unit loses in each precision, measured at the model's outputs.

One unit at a time is computed with its true quantisation error, in FP32 arithmetic, on the activations of
the FP32 model; only what its outputs reach is computed again, so a profile costs about half of
(units x precisions) passes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx_ir as ir

from autoprec.backends.protocol import Backend, Engine
from autoprec.data.dataset import Batch, Dataset
from autoprec.errors import MetricError, RunDirectoryError
from autoprec.evaluate import run_dataset
from autoprec.graph import elements
from autoprec.lower import Lowerer, uniform
from autoprec.metrics import Metric, load_metric
from autoprec.model import to_bytes
from autoprec.precision import Array, Precision
from autoprec.ranges.table import RangeTable
from autoprec.records import fingerprint, read_json, write_json
from autoprec.scores import finite_samples

SCHEMA = 1
DIRECTION = "higher is worse"
_MEMORY_BYTES = 1 << 30

Possible = Mapping[str, Mapping[Precision, str | None]]
Outputs = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What one unit loses in one precision, all else in FP32.

    Attributes:
        noise: mean noise-to-signal power ratio of the outputs: the ranking number.
        kl: mean KL divergence from FP32, nats; None where the output is no distribution.
        drop: mean loss of the user's metric, positive = worse.
    """

    noise: float
    kl: float | None
    drop: float


@dataclass(frozen=True, slots=True)
class Profile:
    """The sensitivities of a model.

    Attributes:
        entries: (unit, precision) -> sensitivity; higher is worse in every field.
        samples: of the profiling set.
        pass_s: CPU seconds of one full pass over it.
        spent_s: CPU seconds of the whole profile, building sessions and the reference pass included.
        fingerprint: of graph, weights, data, metric and ranges; another one makes the profile void.
    """

    entries: Mapping[tuple[str, Precision], Sensitivity]
    samples: int
    pass_s: float
    spent_s: float
    fingerprint: str

    @property
    def passes_per_entry(self) -> float:
        """Cost in full passes for each unit and precision; 1 would be computing all anew."""
        return self.spent_s / max(self.pass_s * len(self.entries), 1e-9)

    def save(self, path: Path) -> None:
        """Write the profile as JSON."""
        rows = [
            {"unit": unit, "precision": p.value, "noise": e.noise, "kl": e.kl, "drop": e.drop}
            for (unit, p), e in self.entries.items()
        ]
        record = {
            "schema": SCHEMA, "direction": DIRECTION, "fingerprint": self.fingerprint, "samples": self.samples,
            "pass_s": self.pass_s, "spent_s": self.spent_s, "entries": rows,
        }  # fmt: skip
        write_json(path, record)


def load_profile(path: Path) -> Profile:
    """Read a profile.

    Raises:
        RunDirectoryError: the file is broken, of a newer schema, or says another direction.
    """
    record = read_json(path, "sensitivity profile", RunDirectoryError, SCHEMA)
    if record.get("direction") != DIRECTION:
        raise RunDirectoryError(f"the profile {path} must have direction {DIRECTION!r}; delete it, it is made again")
    try:
        entries = {
            (str(r["unit"]), Precision(r["precision"])): Sensitivity(
                _number(r["noise"]), None if r["kl"] is None else float(r["kl"]), _number(r["drop"])
            )
            for r in record["entries"]
        }
        return Profile(
            entries, int(record["samples"]), float(record["pass_s"]), float(record["spent_s"]), record["fingerprint"]
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RunDirectoryError(f"the profile {path} is damaged ({error!r}); delete it, it is made again") from error


def profile_fingerprint(lowerer: Lowerer, dataset: Dataset, metric: Metric, ranges: RangeTable) -> str:
    """What a profile depends on."""
    model = lowerer.model
    return fingerprint(
        [model.graph_fingerprint, model.weights_fingerprint, dataset.fingerprint(), metric.fingerprint]
        + [ranges.fingerprint, lowerer.scheme.name, str(lowerer.carrier)]
    )


@dataclass
class _Total:
    noise: float = 0.0
    kl: float | None = 0.0
    drop: float = 0.0

    def add(self, part: _Total) -> None:
        self.noise += part.noise
        self.kl = None if self.kl is None or part.kl is None else self.kl + part.kl
        self.drop += part.drop


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
        batch_size: samples for each run.
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
    _yardstick_s: float = 0.0

    def run(self, precisions: tuple[Precision, ...]) -> Profile:
        """Profile every unit in every given precision that it can run in and that is not FP32."""
        mark = profile_fingerprint(self.lowerer, self.dataset, self.metric, self.ranges)
        earlier_s = self._read_journal(mark)
        start = time.process_time()
        wanted = [p for p in precisions if p is not Precision.FP32]
        graphs = {p: self._uniform(p) for p in wanted}
        units = [u for u in self.lowerer.partition.units if any(self._can(u.name, p) for p in wanted)]
        totals: dict[tuple[str, Precision], _Total] = {}
        pass_s, steps = 0.0, 0
        chunks = list(self._chunks())
        for number, chunk in enumerate(chunks):
            state, seconds = self._reference(chunk)
            pass_s += seconds
            for unit in units:
                missing = [p for p in wanted if self._can(unit.name, p) and (number, unit.name, p) not in self._done]
                if missing:
                    self._measure(number, unit.name, missing, graphs, state)
                    self._write_journal(number, unit.name, missing, mark, earlier_s + time.process_time() - start)
                steps += 1
                self.progress(steps / (len(units) * len(chunks)))
        for (_, name, precision), total in self._done.items():
            totals.setdefault((name, precision), _Total()).add(total)
        count = self.dataset.count
        entries = {
            (unit.name, p): _mean(totals[(unit.name, p)], count) for unit in units for p in wanted
            if (unit.name, p) in totals
        }  # fmt: skip
        # Timing the plain pass is the yardstick, not a part of what is measured with it.
        spent_s = earlier_s + time.process_time() - start - self._yardstick_s
        return Profile(entries, count, pass_s, spent_s, mark)

    def _can(self, unit: str, precision: Precision) -> bool:
        return self.possible[unit].get(precision, "not offered") is None

    def _uniform(self, precision: Precision) -> ir.Graph:
        plan = uniform(self.lowerer.partition, precision, self.possible, Precision.FP32)
        return self.lowerer.lower(plan, self.ranges, simulate=True).ir.graph

    def _chunks(self) -> Iterator[Dataset]:
        """Parts of the data whose activations fit in memory together."""
        graph = self.lowerer.model.graph
        names = {name for unit in self.lowerer.partition.units for name in (*unit.inputs, *unit.outputs)}
        size = sum(4 * elements(v) for node in graph for v in node.outputs if v.name in names)
        step = int(np.clip(_MEMORY_BYTES // max(size, 1), 1, self.dataset.count))
        for first in range(0, self.dataset.count, step):
            yield self.dataset.subset(range(first, min(first + step, self.dataset.count)))

    def _reference(self, chunk: Dataset) -> tuple[_State, float]:
        """FP32 activations at every place where a suffix can begin, and the seconds of a plain pass."""
        model = self.lowerer.model.ir.clone(deep_copy=False)
        values = {str(v.name): v for node in model.graph for v in node.outputs}
        names = _cut_values(self.lowerer)
        finals = [str(value.name) for value in model.graph.outputs]
        model.graph.outputs.extend(values[n] for n in names if n in values and n not in finals)
        interface = self.lowerer.model.interface
        begin = time.process_time()
        with self.backend.build(to_bytes(self.lowerer.model.ir), exact=True) as engine:
            warm = chunk.subset(range(min(chunk.count, self.batch_size)))
            list(run_dataset(engine, warm, interface, self.batch_size))
            start = time.process_time()
            for _ in run_dataset(engine, chunk, interface, self.batch_size):
                pass
            seconds = time.process_time() - start
        self._yardstick_s += time.process_time() - begin
        with self.backend.build(to_bytes(model), exact=True) as engine:
            batches = list(run_dataset(engine, chunk, interface, self.batch_size))
        return _State(batches, finals), seconds

    def _measure(
        self,
        number: int,
        unit: str,
        precisions: list[Precision],
        graphs: Mapping[Precision, ir.Graph],
        state: _State,
    ) -> None:
        record = self.lowerer.partition.unit(unit)
        suffix = _Suffix(self.lowerer, record.outputs, state.finals)
        engines: list[Engine] = []
        try:
            after = self.backend.build(suffix.model, exact=True) if suffix.model is not None else None
            engines += [after] if after is not None else []
            for precision in precisions:
                part, renamed = extract_unit(graphs[precision], record.inputs, record.outputs)
                with self.backend.build(part, exact=True) as small:
                    total = _Total()
                    for batch, known in state.batches:
                        total.add(self._one_batch(batch, known, small, renamed, after, suffix, state.finals))
                self._done[(number, unit, precision)] = total
        finally:
            for engine in engines:
                engine.__exit__(None, None, None)

    def _one_batch(
        self,
        batch: Batch,
        known: Outputs,
        small: Engine,
        renamed: Mapping[str, str],
        after: Engine | None,
        suffix: _Suffix,
        finals: list[str],
    ) -> _Total:
        everything = {**batch.inputs, **known}
        changed = small.run({renamed[name]: everything[name] for name in renamed})
        current = {**everything, **changed}
        if after is not None:
            current |= after.run({name: current[name] for name in suffix.inputs})
        outputs = {name: current[name] for name in finals}
        expected = {name: known[name] for name in finals}
        return self._score(batch, outputs, expected)

    def _score(self, batch: Batch, outputs: Outputs, expected: Outputs) -> _Total:
        noise = float(load_metric("sqnr").scores(outputs, None, expected, batch.count).sum())
        try:
            kl: float | None = float(load_metric("kl").scores(outputs, None, expected, batch.count).sum())
        except MetricError:
            kl = None
        if not finite_samples(outputs).all():
            return _Total(noise, kl, float("inf"))
        before = self.metric.scores(expected, batch.labels, expected, batch.count)
        scores = self.metric.scores(outputs, batch.labels, expected, batch.count)
        return _Total(noise, kl, batch.count * self.metric.drop(before, scores))

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


@dataclass
class _State:
    batches: list[tuple[Batch, Outputs]]
    finals: list[str]


class _Suffix:
    """What must be computed again when the given values change; no model where they are outputs themselves."""

    def __init__(self, lowerer: Lowerer, changed: tuple[str, ...], finals: list[str]) -> None:
        graph = lowerer.model.graph
        self.inputs, outputs = suffix_cut(graph, changed)
        self.model: bytes | None = None
        if outputs:
            part = ir.convenience.extract(graph, self.inputs, outputs)
            self.model = to_bytes(_as_model(part, lowerer.model.ir))


def suffix_cut(graph: ir.Graph, changed: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Inputs and outputs of the part of the graph that the changed values reach."""
    reached = set(changed)
    inputs: dict[str, None] = {}
    made: set[str] = set()
    for node in graph:
        fed = [v for v in _reads(node, graph) if v.const_value is None or v.producer() is not None]
        if any(str(v.name) in reached for v in fed):
            reached.update(str(v.name) for v in node.outputs)
            inputs.update(dict.fromkeys(str(v.name) for v in fed if str(v.name) not in made))
            made.update(str(v.name) for v in node.outputs)
    outputs = [str(v.name) for v in graph.outputs if v.name in made]
    return [name for name in inputs if name not in made], outputs


def _reads(node: ir.Node, graph: ir.Graph) -> list[ir.Value]:
    values = [value for value in node.inputs if value is not None]
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in ir.traversal.RecursiveGraphIterator(attribute.as_graph()):
                values += [v for v in inner.inputs if v is not None and v.graph is graph]
    return [value for value in values if not value.is_initializer()]


def _cut_values(lowerer: Lowerer) -> list[str]:
    """Every value that some suffix or some unit begins with."""
    graph = lowerer.model.graph
    names: dict[str, None] = {}
    for unit in lowerer.partition.units:
        names.update(dict.fromkeys([*unit.inputs, *suffix_cut(graph, unit.outputs)[0]]))
    return list(names)


def extract_unit(graph: ir.Graph, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> tuple[bytes, dict[str, str]]:
    """One unit of a lowered graph as a model, and the names under which it takes the unit's inputs.

    A value that its producer quantises or rounds is taken before that, so that the unit alone shows the
    whole error of its operands.
    """
    names = {str(v.name): v for node in graph for v in node.outputs}
    names |= {str(v.name): v for v in graph.inputs}
    renamed = {name: next(n for n in (f"{name}/raw", f"{name}/exact", name) if n in names) for name in inputs}
    part = ir.convenience.extract(graph, [names[n] for n in renamed.values()], [names[n] for n in outputs])
    used = {str(v.name) for v in part.inputs if v.uses() or v.is_graph_output()}
    model = ir.Model(part, ir_version=10)
    part.opset_imports.update(graph.opset_imports)
    return to_bytes(model), {name: new for name, new in renamed.items() if new in used}


def _as_model(graph: ir.Graph, like: ir.Model) -> ir.Model:
    graph.opset_imports.update(like.opset_imports)
    return ir.Model(graph, ir_version=like.ir_version)


def _mean(total: _Total, count: int) -> Sensitivity:
    return Sensitivity(total.noise / count, None if total.kl is None else total.kl / count, total.drop / count)


def _number(value: float | None) -> float:
    return float("inf") if value is None else float(value)
