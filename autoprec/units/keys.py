"""Structural keys of units and values, which stay the same if an export only renames nodes and values.

A pin or a baseline that was made with one export of a model can then be applied to the next one.
"""

from __future__ import annotations

import onnx_ir as ir

from autoprec.files.json import fingerprint
from autoprec.graph.fingerprints import attribute_texts, graph_parts, type_text
from autoprec.graph.topology import Topology, bodies, const_array, elements


def structural_keys(topology: Topology, groups: list[list[ir.Node]]) -> list[str]:
    """Return a key for each group, made of its operators, attributes, shapes of constants and everything before it.

    Groups that would have the same key get a number too, so keys are unique within a graph.
    """
    hashes = _node_hashes(topology)
    return _numbered([fingerprint([hashes[node] for node in members]) for members in groups])


def value_keys(topology: Topology) -> dict[str, str]:
    """Return the key of each input of the graph and of each value that a node makes, by name."""
    hashes = _node_hashes(topology)
    names = [str(value.name) for value in topology.graph.inputs]
    keys = [f"input {index}" for index in range(len(names))]
    for node in topology.nodes:
        names += [str(value.name) for value in node.outputs]
        keys += [f"{hashes[node]}.{index}" for index in range(len(node.outputs))]
    return dict(zip(names, _numbered(keys), strict=True))


def _numbered(keys: list[str]) -> list[str]:
    """Return the keys; those that occurred before get a number from 2 on."""
    seen: dict[str, int] = {}
    result = []
    for key in keys:
        seen[key] = seen.get(key, 0) + 1
        result.append(key if seen[key] == 1 else f"{key}-{seen[key]}")
    return result


def _node_hashes(topology: Topology) -> dict[ir.Node, str]:
    """Return a hash of each node's operator, attributes, shapes of constants and everything before it."""
    indices = {value: f"input {index}" for index, value in enumerate(topology.graph.inputs)}
    node_hash: dict[ir.Node, str] = {}
    for node in topology.nodes:
        inputs = []
        for value in [*node.inputs, *topology.captured_by(node)]:
            producer = value.producer() if value is not None else None
            if value is None:
                inputs.append("-")
            elif producer is not None and producer in node_hash:
                inputs.append(f"{node_hash[producer]}.{value.index()}")
            else:
                inputs.append(f"{indices.get(value, '')}{type_text(value)}{_small_constant(value)}")
        inner = [text for _, body in bodies(node) for text in graph_parts(body, {})]
        node_hash[node] = fingerprint([node.domain, node.op_type, *inputs, "|", *attribute_texts(node), *inner])
    return node_hash


def _small_constant(value: ir.Value) -> str:
    """Return the numbers of a small integer constant, which are axes or shapes and so belong to the structure."""
    array = const_array(value) if value.const_value is not None and elements(value) <= 16 else None
    return "" if array is None or array.dtype.kind == "f" else str(array.tolist())
