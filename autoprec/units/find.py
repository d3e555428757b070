"""The cut of a graph into units: every node is in exactly one unit, or has a reason why it is in none."""

from __future__ import annotations

from dataclasses import dataclass, field

import onnx_ir as ir

from autoprec.graph.topology import LINEAR_OPS, Topology, main_domain
from autoprec.graph.widening import source_of, sources_of
from autoprec.units.attention import find_attention, find_rotations
from autoprec.units.chains import escaping, grow_chain
from autoprec.units.edges import edges_between
from autoprec.units.groups import Groups
from autoprec.units.keys import structural_keys
from autoprec.units.leftovers import merge_leftovers
from autoprec.units.names import Naming, module_paths, name_units
from autoprec.units.reasons import is_carrier, untunable
from autoprec.units.records import Partition, Unit, UnitKind
from autoprec.units.siblings import siblings
from autoprec.units.sizes import node_macs, weight_elements


def find_units(graph: ir.Graph) -> Partition:
    """Return the units of a prepared graph, the edges between them, and the reasons of the nodes in no unit."""
    topology = Topology(graph)
    return _Cutter(topology, untunable(topology)).run()


@dataclass
class _Found:
    """A unit before its sizes and edges are known; the members are in topological order."""

    kind: UnitKind
    members: list[ir.Node]
    anchors: list[ir.Node]


@dataclass
class _Cutter:
    """The state of a cut: attention cores are found first, then chains around linear ops, then what is left."""

    topology: Topology
    reasons: dict[str, str]
    found: list[_Found] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.groups = Groups(self.topology)
        self.taken = {node for node in self.topology.nodes if node.name in self.reasons}

    def run(self) -> Partition:
        """Cut the whole graph."""
        for node in self.topology.nodes:
            if node.op_type == "Softmax" and node not in self.taken:
                self._attention(node)
        # The order must be topological: a branch that ends in an Add is compared with the other branch there.
        for node in self.topology.nodes:
            if node.op_type in LINEAR_OPS and node not in self.taken and main_domain(node):
                self._chain(node)
        rest = [node for node in self.topology.nodes if node not in self.taken]
        for kind, members in merge_leftovers(self.topology, rest, self.groups):
            self.found.append(_Found(kind, self._sorted(members), [members[-1]]))
        order = self.groups.ordered([each.members for each in self.found])
        return _assemble(self.topology, [self.found[index] for index in order], self.reasons)

    def _sorted(self, members: list[ir.Node]) -> list[ir.Node]:
        return sorted(members, key=self.topology.index.__getitem__)

    def _claim(self, kind: UnitKind, members: list[ir.Node], anchors: list[ir.Node]) -> None:
        self.found.append(_Found(kind, self._sorted(members), anchors))
        self.groups.add(self.found[-1].members)
        self.taken.update(members)
        # Within an attention core the Where of a mask or a Cast belongs to the unit, although it could not be one.
        for node in members:
            self.reasons.pop(str(node.name), None)

    def _attention(self, softmax: ir.Node) -> None:
        core = find_attention(self.topology, softmax)
        if core is None:
            return
        anchors = [node for node in core if node.op_type == "MatMul"]
        for members in ([*find_rotations(self.topology, core), *core], core):
            free = all(node not in self.taken or self._may_join(node) for node in members)
            if free and self.groups.fits(set(members)):
                self._claim(UnitKind.ATTENTION, members, anchors)
                return

    def _may_join(self, node: ir.Node) -> bool:
        return node not in self.groups and (is_carrier(node) or node.op_type == "IsNaN")

    def _chain(self, node: ir.Node) -> None:
        anchors = siblings(self.topology, node, self.taken)
        carriers = (
            {n for n in self.taken if n not in self.groups and is_carrier(n)} if node.op_type == "Gemm" else set()
        )
        members = grow_chain(self.topology, anchors, self.taken, carriers)
        while not self.groups.fits(set(members)):
            members.pop()  # the members are in the order of growth, so what is left is still a chain
        kind = UnitKind.CONV if node.op_type in ("Conv", "ConvTranspose") else UnitKind.MATMUL
        self._claim(kind, members, [anchor for anchor in anchors if anchor in members])


def _assemble(topology: Topology, found: list[_Found], reasons: dict[str, str]) -> Partition:
    keys = structural_keys(topology, [each.members for each in found])
    names = name_units([Naming.of(topology, each.kind, each.members, each.anchors) for each in found])
    units = []
    for each, key, name in zip(found, keys, names, strict=True):
        made = {value for node in each.members for value in node.outputs}
        inputs = dict.fromkeys(
            str(value.name)
            for node in each.members
            for value in topology.dependencies(node)
            if value not in made and value not in topology.constants
        )
        units.append(
            Unit(
                name=name,
                kind=each.kind,
                nodes=tuple(str(node.name) for node in each.members),
                anchors=tuple(str(node.name) for node in each.anchors),
                inputs=tuple(inputs),
                outputs=tuple(str(value.name) for value in escaping(topology, set(each.members))),
                macs=sum(node_macs(node) for node in each.members),
                weights=weight_elements(topology, each.members),
                key=key,
                modules=module_paths(each.members),
                source=source_of(each.anchors[-1]),
            )
        )
    return Partition(
        units=tuple(units), reasons=reasons, edges=edges_between(topology, units), sources=sources_of(topology.graph)
    )
