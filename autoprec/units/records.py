"""What a unit is: the smallest part of a network that gets a precision of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

KINDS = ("conv", "matmul", "attention", "embedding", "pool", "resize", "add", "norm", "pointwise", "other")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A fusion group, as TensorRT would form it.

    Attributes:
        name: the name of its last anchor node.
        kind: one of `KINDS`.
        nodes: names of its nodes in topological order.
        anchors: names of the nodes that do the arithmetic worth quantising, a subset of `nodes`.
        inputs: names of the values that it reads and that are not constant.
        outputs: names of the values that leave it.
        macs: multiply-accumulates for one sample.
        weights: elements of its float constants.
        key: structural key: equal after a re-export that only renames.
    """

    name: str
    kind: str
    nodes: tuple[str, ...]
    anchors: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    macs: int
    weights: int
    key: str


@dataclass(frozen=True, slots=True)
class Edge:
    """A value that one unit makes and another reads, perhaps through ops that only move data.

    Attributes:
        producer: unit name, or "" for a graph input.
        consumer: unit name, or "" for a graph output.
        tensor: the value as the producer made it.
        elements: its size for one sample.
    """

    producer: str
    consumer: str
    tensor: str
    elements: int


@dataclass(frozen=True, slots=True)
class Partition:
    """A graph cut into units; every node is in exactly one unit or has a reason.

    Attributes:
        units: in topological order.
        reasons: for each node in no unit, why it cannot be tuned. Nodes of control-flow bodies are
            listed as "outer/attribute/inner".
        edges: the boundaries where a change of precision would cost a conversion.
    """

    units: tuple[Unit, ...]
    reasons: Mapping[str, str]
    edges: tuple[Edge, ...]

    def unit(self, name: str) -> Unit:
        """The unit called `name`; KeyError where there is none."""
        for unit in self.units:
            if unit.name == name:
                return unit
        raise KeyError(name)

    def unit_of(self) -> dict[str, Unit]:
        """Node name -> its unit."""
        return {node: unit for unit in self.units for node in unit.nodes}
