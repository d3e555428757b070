"""Names for the axes that an exported model leaves open, in place of the symbols that the exporter makes up."""

from __future__ import annotations

import re
from collections.abc import Mapping

import onnx_ir as ir

_WORD = re.compile(r"[A-Za-z_]\w*")


def name_axes(model: ir.Model, names: Mapping[str, Mapping[int, str]]) -> None:
    """Give axes of the inputs names, and call them so in every other shape of the model.

    Args:
        model: the model, which is changed.
        names: input -> axis -> name; a name such as "past + length" is made of those of other axes.
    """
    known: dict[str, str] = {}
    for value in model.graph.inputs:
        for axis, name in names.get(str(value.name), {}).items():
            dim = None if value.shape is None or axis >= len(value.shape) else value.shape[axis]
            symbol = dim.value if isinstance(dim, ir.SymbolicDim) else None
            if symbol is not None:
                known.setdefault(symbol, name)
    graph = model.graph
    for value in [*graph.inputs, *graph.outputs, *(value for node in graph for value in node.outputs)]:
        if value.shape is not None:
            value.shape = ir.Shape([dim if isinstance(dim, int) else _named(dim.value, known) for dim in value.shape])


def _named(text: str | None, known: Mapping[str, str]) -> str | None:
    if text is None or text in known:
        return known.get(text or "")
    return _WORD.sub(lambda word: known.get(word[0], word[0]), text)
