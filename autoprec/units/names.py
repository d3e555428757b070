"""Names of units: the paths of the modules that a user wrote, where the exporter tells them.

torch's default exporter numbers its nodes over the whole graph, so that one more operator renames all that follow; but
it writes the path of the module of each node into the node's metadata. Other exporters put the path into the node's
name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from autoprec.graph.topology import LINEAR_OPS, Topology, elements, is_float
from autoprec.units.records import UnitKind

_SCOPES = "pkg.torch.onnx.name_scopes"
"""A list of texts in Python's notation: the path of each module around the node, and the name of its operation."""
_TEXT = re.compile(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"")
_ROOT = ""


@dataclass(frozen=True, slots=True)
class Naming:
    """What the name of a unit is made from.

    Attributes:
        kind: what the unit computes.
        anchor: the node that names the unit.
        own_weights: whether the unit has weights, so that its module is usually there for it.
    """

    kind: UnitKind
    anchor: ir.Node
    own_weights: bool

    @staticmethod
    def of(topology: Topology, kind: UnitKind, members: Sequence[ir.Node], anchors: Sequence[ir.Node]) -> Naming:
        """Return what the name of a unit of these nodes is made from.

        A unit around no product is named by the last of its nodes that has weights, such as a normalisation.
        """
        weighty = [node for node in members if _has_weights(topology, node)]
        linear = any(node.op_type in LINEAR_OPS for node in anchors)
        named = anchors[-1] if linear or not weighty else weighty[-1]
        # What the model itself does around a module does not name the unit.
        inner = [node for node in (named, *reversed(members)) if module_path(node)]
        named = inner[0] if inner else anchors[-1]
        return Naming(kind, named, bool(weighty))


def name_units(units: Sequence[Naming]) -> list[str]:
    """Return the name of each unit; the units are in topological order.

    It is the path of its module. Where a module has several units, the only one with weights has its name, and the
    others have their kind and number behind it, such as "layer.0/add" and "layer.0/add_1". A unit whose module is not
    known has the name of its anchor.
    """
    paths = [module_path(unit.anchor) for unit in units]
    alone = Counter(paths)
    weighty = Counter(path for path, unit in zip(paths, units, strict=True) if unit.own_weights)
    numbers: Counter[str] = Counter()
    taken: set[str] = set()
    names = []
    for unit, path in zip(units, paths, strict=True):
        if path is None:
            name = str(unit.anchor.name)
        elif path != _ROOT and (weighty[path] == 1 if unit.own_weights else alone[path] == 1):
            name = path
        else:
            name = f"{path}/{unit.kind}"
            numbers[name] += 1
            name += f"_{numbers[name] - 1}" if numbers[name] > 1 else ""
        while name in taken:
            name += "#"
        taken.add(name)
        names.append(name)
    return names


def _has_weights(topology: Topology, node: ir.Node) -> bool:
    return any(is_float(v) and v in topology.constants and elements(v) > 1 for v in node.inputs)


def module_path(node: ir.Node) -> str | None:
    """Return the path of the module that a node belongs to, "" for the model itself, or None if it is not known."""
    scopes = _scopes(node)
    if scopes is None:
        return None
    # A normalisation that was folded into a convolution leaves its own path there, but not its own weights.
    weight = node.inputs[1] if node.op_type in LINEAR_OPS and len(node.inputs) > 1 else None
    path, dot, _ = str(weight.name).rpartition(".") if weight is not None and weight.is_initializer() else ("", "", "")
    parent = path.rpartition(".")[0]
    return path if dot and path and (path in scopes or parent in scopes) else scopes[-1]


def module_paths(nodes: Sequence[ir.Node]) -> tuple[str, ...]:
    """Return the paths of the modules of some nodes, each once and in order."""
    found: dict[str, None] = {}
    for node in nodes:
        for path in (module_path(node), (_scopes(node) or [_ROOT])[-1]):
            if path:
                found[path] = None
    return tuple(found)


def _scopes(node: ir.Node) -> list[str] | None:
    """Return the paths of the modules around a node, from the whole model inwards, or None if they are not known."""
    text = node.metadata_props.get(_SCOPES)
    if not text:
        return None
    texts = [re.sub(r"\\(.)", r"\1", single or double) for single, double in _TEXT.findall(text)]
    modules = texts[:-1]  # the last one is the operation
    return modules if modules and modules[0] == _ROOT else None
