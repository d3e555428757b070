"""A model whose names are those that lowering would like to give, so that a search for a name finds the wrong thing."""

from __future__ import annotations

import random

import onnx

SUFFIXES = (
    *("/scale", "/zero_point", "/raw", "/exact", "/behind", "/q", "/dq", "/codes", "/quantize", "/dequantize", "#1"),
    *("/scale.fp8", "/q.fp8", "/quantize.fp8", "/int8", "/int8.scale", "/int8/dq", "/int8/dequantize", "/fp8", "/fp16"),
    *("/bf16", "/to_fp16", "/as_fp16", "/in_fp16", "/round_fp16", "/round_fp16.down", "/folded.weight", "/folded.bias"),
    *("/corrected.bias", "/matrix", "/product", "/subtract", "/minus_bias", "/conv.weight", "/relu", "/per_channel"),
    *("/scale.per_channel", "/scale.fed0", "/packed", "/unpacked"),
)
WHOLE = ("zero_point/int8.0", "zero_point/uint8.0", "zero_point/fp8.0")
PREFIXES = ("branch0/", "branch1/")


def with_hostile_names(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """A copy that computes the same; nodes, inner values and initializers have other names, the interface stays."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    draw = random.Random(seed)
    kept = [value.name for value in [*model.graph.input, *model.graph.output]]
    values = _hostile(_values(copy.graph, kept), kept, draw)
    nodes = _hostile(_nodes(copy.graph), [*kept, *values.values()], draw)
    _rename(copy.graph, {**values, "": ""}, nodes)
    return copy


def _hostile(names: list[str], known: list[str], draw: random.Random) -> dict[str, str]:
    """Each name -> another: a name known by then with a suffix or prefix, or one of those that pairs share."""
    known, taken, found = list(known), set(known), {}
    for name in names:
        choices = [draw.choice(known) + draw.choice(SUFFIXES), draw.choice(PREFIXES) + draw.choice(known)]
        choices += [draw.choice(known) + draw.choice(SUFFIXES), draw.choice(WHOLE), name]
        wish = draw.choice(choices)
        while wish in taken:
            wish = draw.choice(known) + draw.choice(SUFFIXES)
        found[name] = wish
        taken.add(wish)
        known.append(wish)
    return found


def _values(graph: onnx.GraphProto, kept: list[str]) -> list[str]:
    names = [tensor.name for tensor in graph.initializer]
    for node in graph.node:
        names += node.output
        for attribute in node.attribute:
            names += _values(attribute.g, kept) if attribute.HasField("g") else []
    return [name for name in dict.fromkeys(names) if name and name not in kept]


def _nodes(graph: onnx.GraphProto) -> list[str]:
    names = []
    for node in graph.node:
        names.append(node.name)
        for attribute in node.attribute:
            names += _nodes(attribute.g) if attribute.HasField("g") else []
    return names


def _rename(graph: onnx.GraphProto, values: dict[str, str], nodes: dict[str, str]) -> None:
    for named in [*graph.initializer, *graph.output, *graph.value_info]:
        named.name = values.get(named.name, named.name)
    for node in graph.node:
        node.name = nodes[node.name]
        node.input[:] = [values.get(name, name) for name in node.input]
        node.output[:] = [values.get(name, name) for name in node.output]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, values, nodes)
