"""The records of a network that is cut into units, the smallest parts that get a precision of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from autoprec.precision import Precision


class UnitKind(str, Enum):
    """What a unit computes, which decides in which precisions it can run."""

    CONV = "conv"
    MATMUL = "matmul"
    ATTENTION = "attention"
    EMBEDDING = "embedding"
    POOL = "pool"
    RESIZE = "resize"
    ADD = "add"
    SE_PRODUCT = "se_product"
    """The product of features and of the gate that a squeeze-and-excitation block computes from them."""
    LSTM = "lstm"
    GRU = "gru"
    RNN = "rnn"
    NORM = "norm"
    POINTWISE = "pointwise"
    OTHER = "other"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A group of nodes that TensorRT would fuse into one kernel.

    Attributes:
        name: the name of the unit: the path of its module where that is known, else the name of its last anchor node.
        kind: what the unit computes.
        nodes: the names of its nodes in topological order.
        anchors: the names of those of its nodes whose arithmetic is worth quantising.
        inputs: the names of the values that it reads, without constants.
        outputs: the names of the values that other nodes read or that leave the graph.
        macs: the number of multiply-accumulates for one sample.
        weights: the number of elements of its float constants.
        key: the structural key, which stays the same if an export only renames nodes and values.
        modules: the paths of the modules that its nodes belong to, where the exporter tells them.
        source: the float type that it computes in, in the model as it was given.
    """

    name: str
    kind: UnitKind
    nodes: tuple[str, ...]
    anchors: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    macs: int
    weights: int
    key: str
    modules: tuple[str, ...] = ()
    source: Precision = Precision.FP32

    def answers_to(self, matches: Callable[[str], object]) -> bool:
        """Return whether a test holds for the name of the unit, of one of its nodes or of one of their modules."""
        return any(matches(name) for name in (self.name, *self.nodes, *self.modules))


@dataclass(frozen=True, slots=True)
class Edge:
    """A value that one unit makes and another one reads, perhaps through ops that only move data.

    Attributes:
        producer: the name of the unit that makes the value, or "" if no unit does, as for an input of the graph.
        consumer: the name of the unit that reads it, or "" if no unit does, as for an output of the graph.
        tensor: the name of the value as the producer made it.
        elements: the number of its elements for one sample.
    """

    producer: str
    consumer: str
    tensor: str
    elements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A graph that is cut into units; every node is in exactly one unit or has a reason.

    Attributes:
        units: the units in topological order.
        reasons: node name -> why the node cannot be tuned, for each node that is in no unit. The nodes of the bodies of
            control flow are named "outer/attribute/inner".
        edges: the values between units; a change of precision there costs a conversion.
        shapes: value name -> the shape that it has for one sample, where the graph does not say it but a run did.
        sources: node name -> the half precision that it computes in, in the model as it was given; others have FP32.
    """

    units: tuple[Unit, ...]
    reasons: Mapping[str, str]
    edges: tuple[Edge, ...]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    sources: Mapping[str, Precision] = field(default_factory=dict)

    def as_given(self) -> dict[str, Precision]:
        """Return the precision of each unit in the model as it was given."""
        return {unit.name: unit.source for unit in self.units}

    def changed(self, precisions: Mapping[str, Precision]) -> list[Unit]:
        """Return the units that are to run in another precision than the model gives them; those not named are not."""
        return [unit for unit in self.units if precisions.get(unit.name, unit.source) is not unit.source]

    def unit(self, name: str) -> Unit:
        """Return the unit of that name.

        Raises:
            KeyError: there is none.
        """
        for unit in self.units:
            if unit.name == name:
                return unit
        raise KeyError(name)

    def unit_of(self) -> dict[str, Unit]:
        """Return the unit of each node that is in one, by the name of the node."""
        return {node: unit for unit in self.units for node in unit.nodes}
