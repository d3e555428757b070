"""The three networks that are compared, and which values of them are looked at together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from autoprec.graph.preparation import infer_types
from autoprec.lowering.lowerer import Lowered
from autoprec.proof.diagnosis.job import DiagnosisJob
from autoprec.proof.diagnosis.parts import known_before
from autoprec.proof.diagnosis.seen import Seen, found_by_name, seen_in
from autoprec.units.records import Unit
from autoprec.units.sizes import elements_in

CAPTURE_BYTES = 1 << 27
"""The most bytes of values of one sample that are kept of each network at once; others are looked at in a next pass."""


@dataclass(frozen=True, slots=True)
class Side:
    """One network.

    Attributes:
        model: the network.
        seen: the name of each output of a unit -> how it is seen in the network.
    """

    model: ir.Model
    seen: Mapping[str, Seen]

    @property
    def known(self) -> dict[ir.Value, str]:
        """Value of the network -> its name in the model."""
        return {seen.value: name for name, seen in self.seen.items()}

    def needed(self, unit: Unit, known: Mapping[ir.Value, str]) -> set[str]:
        """Return the names of the values that a unit makes, and of those of other units that it reads.

        Args:
            unit: the unit.
            known: the values by name, which take time to collect.
        """
        own = [name for name in unit.outputs if name in self.seen]
        cut = known_before([self.seen[name].value for name in own], known)
        return {*own, *(name for name in cut.values() if name in self.seen)}


@dataclass(frozen=True, slots=True)
class Sides:
    """The three networks.

    Attributes:
        given: the model as it is, which is FP32 for most.
        exact: the plan in exact arithmetic, with lower precisions simulated by rounding.
        runtime: the plan as the runtime gets it.
    """

    given: Side
    exact: Side
    runtime: Side


@dataclass(frozen=True, slots=True)
class Group:
    """Units that follow each other and whose values are small enough to be looked at together.

    Attributes:
        units: the units.
        values: the names of the values that they make and read.
        sample_bytes: the bytes of these values for one sample.
    """

    units: tuple[Unit, ...]
    values: frozenset[str]
    sample_bytes: int


def sides_of(job: DiagnosisJob) -> Sides:
    """Write the plan for the runtime and for exact arithmetic."""
    lowerer, names = job.lowerer, [name for unit in job.lowerer.partition.units for name in unit.outputs]

    def side(lowered: Lowered, *, as_given: bool = False) -> Side:
        if as_given:  # the types are missing in a file, and without its type no value can be fed to a unit by itself
            infer_types(lowered.ir)
        return Side(lowered.ir, seen_in(lowered, names))

    same = not lowerer.partition.changed(job.plan)
    runtime = side(lowerer.lower(job.plan, job.ranges), as_given=same)
    if job.written is not None:
        runtime = Side(job.written, found_by_name(job.written, runtime.seen))
    exact = side(lowerer.lower(job.plan, job.ranges, simulate=True), as_given=same)
    return Sides(side(lowerer.lower(lowerer.partition.as_given(), None), as_given=True), exact, runtime)


def groups_of(job: DiagnosisJob, sides: Sides) -> Iterator[Group]:
    """Divide the units into groups in the order of the network."""
    shapes = job.lowerer.partition.shapes
    values = [value for node in job.lowerer.model.graph for value in node.outputs]
    sizes = {str(value.name): 4 * elements_in(value, shapes) for value in values}
    knowns = [(side, side.known) for side in (sides.given, sides.exact)]

    def size(names: Iterable[str]) -> int:
        return sum(sizes.get(name, 0) for name in names)

    units: list[Unit] = []
    wanted: set[str] = set()
    for unit in job.lowerer.partition.units:
        needed = set().union(*(side.needed(unit, known) for side, known in knowns))
        if units and size(wanted | needed) > CAPTURE_BYTES:
            yield Group(tuple(units), frozenset(wanted), size(wanted))
            units, wanted = [], set()
        units.append(unit)
        wanted |= needed
    if units:
        yield Group(tuple(units), frozenset(wanted), size(wanted))
