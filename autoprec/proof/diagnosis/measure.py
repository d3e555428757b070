"""Measures where a plan and a runtime err, in one streaming pass over a few samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import islice

from autoprec.backends.protocol import Engine, RanAs
from autoprec.backends.showing import ShowsValues
from autoprec.data.feeds import feed_of
from autoprec.errors import BackendError
from autoprec.graph.model import to_bytes
from autoprec.precision import Array
from autoprec.proof.diagnosis.job import DiagnosisJob
from autoprec.proof.diagnosis.parts import Part, part_of
from autoprec.proof.diagnosis.record import Diagnosis, Visibility
from autoprec.proof.diagnosis.seen import returning
from autoprec.proof.diagnosis.sides import Group, Side, Sides, groups_of, sides_of
from autoprec.proof.diagnosis.tally import Compared, Tally
from autoprec.units.records import Unit

PORTION_BYTES = 1 << 25
"""The most bytes of values of each network for one portion of the samples, unless one sample alone has more. Every
engine keeps memory for as many."""

Feed = dict[str, Array]


def diagnose(job: DiagnosisJob) -> Diagnosis:
    """Run FP32, the plan in exact arithmetic and the runtime over the samples, and compare what each unit computes.

    Memory grows neither with the samples nor with the network: values that are too large to be looked at together are
    looked at in several passes.

    Raises:
        BackendError: the runtime refused the plan.
        DataError: the data does not fit the model.
    """
    sides = sides_of(job)
    tally, groups = Tally(sides.exact.seen), list(groups_of(job, sides))
    changed: dict[str, None] | None = {} if job.backend.runs_here else None
    as_it_is = False
    for number, group in enumerate(groups):
        with ExitStack() as stack:
            look, done = _Look(job, sides, group, stack), 0
            for portion in _portions(job, group.sample_bytes):
                look.take([feed for feed, _ in portion], tally, outputs=number == 0)
                done += sum(count for _, count in portion)
                job.progress((number + done / job.data.count) / len(groups))
            found, as_it_is = look.changed(), look.as_it_is
        changed = None if changed is None or found is None else {**changed, **dict.fromkeys(found)}
    described = job.backend.describe()
    return Diagnosis(
        plan=job.title,
        runtime=" ".join([job.backend.name, described.get("runtime") or described.get("onnxruntime") or ""]).strip(),
        samples=job.data.count,
        units=tuple(tally.unit(unit, job.plan.get(unit.name, unit.source)) for unit in job.lowerer.partition.units),
        outputs=tally.outputs(),
        visibility=_visibility(job, as_it_is),
        changed=None if changed is None else tuple(changed),
        disturbed=tally.disturbed,
    )


def _visibility(job: DiagnosisJob, as_it_is: bool) -> Visibility:
    if not job.backend.runs_here:
        return Visibility.NOTHING
    return Visibility.DEBUG_TENSORS if as_it_is else Visibility.EXTRA_OUTPUTS


def _portions(job: DiagnosisJob, sample_bytes: int) -> Iterator[list[tuple[Feed, int]]]:
    """Yield batches, as many at once as their values fit into memory, so that large engines seldom take turns."""
    interface = job.lowerer.model.interface
    fits = max(PORTION_BYTES // max(sample_bytes, 1), 1)
    size = interface.batch_size or min(job.batch_size, fits)
    batches = iter(job.data.batches(size))
    while portion := list(islice(batches, max(fits // size, 1))):
        yield [(feed_of(batch, interface, interface.batch_size), batch.count) for batch in portion]


@dataclass(frozen=True, slots=True)
class _Shown:
    """An engine that also returns values of units.

    Attributes:
        side: the network that it runs.
        engine: the engine.
        model: what it was built from.
        names: the name of each value -> the name of the engine's output.
    """

    side: Side
    engine: Engine
    model: bytes
    names: dict[str, str]

    def run(self, feed: Feed) -> tuple[dict[str, Array], dict[str, Array]]:
        """Return all outputs, and the values as they are, codes or numbers, by their names in the model."""
        found = self.engine.run(feed)
        return found, {name: found[output] for name, output in self.names.items() if output in found}

    def numbers(self, values: dict[str, Array]) -> dict[str, Array]:
        """Return the numbers that the values stand for."""
        return {name: self.side.seen[name].numbers(array) for name, array in values.items()}


class _Look:
    """One pass over the samples that looks at the values of some units.

    Args:
        job: what is diagnosed.
        sides: the three networks.
        group: the units.
        stack: closes the engines.
    """

    def __init__(self, job: DiagnosisJob, sides: Sides, group: Group, stack: ExitStack) -> None:
        self._job, self._group, self._stack = job, group, stack
        self._given, self._exact = (self._open(side, exact=True) for side in (sides.given, sides.exact))
        self._runtime: _Shown | None = None
        self._plain: Engine | None = None
        self._plain_model = b""
        if job.backend.runs_here:
            model = self._plain_model = to_bytes(sides.runtime.model)
            self._plain = job.opened(model, lambda: job.backend.build(model), stack)
            self._runtime = self._open_showing(sides.runtime, model) or self._open(sides.runtime, exact=False)
        self._in_fp32 = self._parts(self._given)
        self._as_planned = self._parts(self._exact) if self._runtime is not None else {}

    def _open_showing(self, side: Side, model: bytes) -> _Shown | None:
        """Open an engine of the runtime that shows values as it is; None where the runtime has none."""
        backend = self._job.backend
        if not isinstance(backend, ShowsValues):
            return None
        wanted = {name: seen.value for name, seen in side.seen.items() if name in self._group.values}
        makers = {str(v.name): str(node.name) for v in wanted.values() if (node := v.producer()) is not None}
        engine = backend.build_showing(model, makers)
        names = {name: str(value.name) for name, value in wanted.items()}
        return None if engine is None else _Shown(side, self._stack.enter_context(engine), model, names)

    @property
    def as_it_is(self) -> bool:
        """Whether the runtime runs the very engine that it would run without being looked at."""
        return self._runtime is not None and self._runtime.model is self._plain_model

    def _open(self, side: Side, *, exact: bool) -> _Shown:
        wanted = {name: seen for name, seen in side.seen.items() if name in self._group.values}
        model, names = returning(side.model, wanted)
        engine = self._job.opened(model, lambda: self._job.backend.build(model, exact=exact), self._stack)
        return _Shown(side, engine, model, names)

    def _parts(self, shown: _Shown) -> dict[str, _Alone]:
        """Return each unit by itself, as one of the networks in exact arithmetic has it."""
        side, known, found = shown.side, shown.side.known, {}
        for unit in self._group.units:
            part = part_of(side.model, {name: side.seen[name] for name in unit.outputs if name in side.seen}, known)
            if part is not None:
                found[unit.name] = _Alone(part, self._job, self._stack)
        return found

    def take(self, feeds: list[Feed], tally: Tally, *, outputs: bool) -> None:
        """Run all networks over some batches, one network after the other, and compare what they compute.

        Args:
            feeds: the batches.
            tally: adds up what is found.
            outputs: whether to compare the outputs of the model too.
        """
        given, exact = ([shown.run(feed) for feed in feeds] for shown in (self._given, self._exact))
        runtime = None if self._runtime is None else [self._runtime.run(feed) for feed in feeds]
        plain = [self._plain.run(feed) for feed in feeds] if outputs and self._plain is not None else None
        for index, feed in enumerate(feeds):
            self._compare_plan(feed, given[index][1], exact[index][1], tally)
            if runtime is not None:
                self._compare_runtime(feed, exact[index][1], runtime[index][1], tally)
            if outputs:
                final = {str(value.name): value for value in self._job.lowerer.model.graph.outputs}
                pairs = [(Compared.PLAN, exact[index][0], given[index][0])]
                if plain is not None and runtime is not None:
                    pairs += [(Compared.RUNTIME, plain[index], exact[index][0])]
                    pairs += [(Compared.UNSEEN, runtime[index][0], plain[index])]
                for what, found, expected in pairs:
                    for name in [name for name in final if name in found and name in expected]:
                        tally.output(what, name, found[name], expected[name])

    def _compare_plan(self, feed: Feed, given: Feed, exact: Feed, tally: Tally) -> None:
        numbers, expected = self._exact.numbers(exact), self._given.numbers(given)
        for unit in self._group.units:
            made = [name for name in unit.outputs if name in numbers and name in expected]
            for name in made:
                tally.value(Compared.PLAN, name, numbers[name], expected[name])
            alone = self._in_fp32.get(unit.name)
            computed = {} if alone is None else self._given.numbers(alone.run({**feed, **numbers}))
            for name in [name for name in made if name in computed]:
                tally.value(Compared.PLAN_ALONE, name, numbers[name], computed[name])

    def _compare_runtime(self, feed: Feed, exact: Feed, runtime: Feed, tally: Tally) -> None:
        if self._runtime is None:
            return
        numbers, expected = self._runtime.numbers(runtime), self._exact.numbers(exact)
        ours, theirs = self._exact.side.seen, self._runtime.side.seen
        # Codes of the runtime can only be fed to a unit that reads codes of the same scale.
        known = {name: array for name, array in runtime.items() if ours[name].same_form(theirs[name])}
        known = {name: array for name, array in known.items() if array.shape == exact[name].shape}
        for unit in self._group.units:
            made = [name for name in unit.outputs if name in numbers and name in expected]
            made = [name for name in made if numbers[name].shape == expected[name].shape]  # else in a layout of its own
            for name in made:
                tally.value(Compared.RUNTIME, name, numbers[name], expected[name])
            alone = self._as_planned.get(unit.name)
            computed = {} if alone is None else self._exact.numbers(alone.run({**feed, **known}))
            for name in [name for name in made if name in computed]:
                tally.value(Compared.RUNTIME_ALONE, name, numbers[name], computed[name])

    def changed(self) -> list[str] | None:
        """Return the units that the runtime computes by other kernels when looked at; None if it does not tell."""
        if self._runtime is None:
            return None
        units = self._job.lowerer.partition.units
        nodes = [node for unit in units for node in unit.nodes]
        try:
            plain, looked_at = (self._job.backend.inspect(m, nodes) for m in (self._plain_model, self._runtime.model))
        except BackendError:
            return None

        def kernels(found: Mapping[str, RanAs], unit: Unit) -> list[tuple[str, bool, object]]:
            rows = [found[node] for node in unit.nodes if node in found]
            return [(row.operator, row.quantized, row.precision) for row in rows]

        return [unit.name for unit in units if kernels(plain, unit) != kernels(looked_at, unit)]


class _Alone:
    """One unit in exact arithmetic, fed with what another network computes.

    Args:
        part: the unit.
        job: what is diagnosed.
        stack: closes the engine.
    """

    def __init__(self, part: Part, job: DiagnosisJob, stack: ExitStack) -> None:
        self._part = part
        self._engine: Engine | None = None
        with suppress(BackendError):  # then it is not known what the unit adds
            backend = job.backend

            def build() -> Engine:
                return backend.build(part.model, exact=True, threads=backend.threads)

            self._engine = job.opened(part.model, build, stack)

    def run(self, known: Feed) -> dict[str, Array]:
        """Return the outputs of the unit by their names in the model; nothing where an input is not known."""
        feed = self._part.feed(known)
        if feed is None or self._engine is None:
            return {}
        found = self._engine.run(feed)
        return {name: found[output] for name, output in self._part.outputs.items() if output in found}
