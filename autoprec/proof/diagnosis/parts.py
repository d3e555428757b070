"""One unit by itself, cut out of a whole network between values that are known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from autoprec.graph.model import to_bytes
from autoprec.precision import Array
from autoprec.proof.diagnosis.seen import Seen


@dataclass(frozen=True, slots=True)
class Part:
    """What computes the outputs of one unit from known values.

    Attributes:
        model: the part, serialised.
        inputs: the name of each input of the part -> the value of the whole model that it is.
        dtypes: the name of each input -> its type in NumPy; None where there is none.
        outputs: the name of each value of the model that the unit makes -> the name of the part's output.
    """

    model: bytes
    inputs: Mapping[str, str]
    dtypes: Mapping[str, np.dtype[np.generic] | None]
    outputs: Mapping[str, str]

    def feed(self, known: Mapping[str, Array]) -> dict[str, Array] | None:
        """Return what the part is fed, from values by their names in the whole model; None where one is not known."""
        fed = {}
        for name, source in self.inputs.items():
            dtype = self.dtypes[name]
            if source not in known or dtype is None:
                return None
            fed[name] = known[source].astype(dtype, copy=False)
        return fed


def known_before(targets: Sequence[ir.Value], known: Mapping[ir.Value, str]) -> dict[ir.Value, str]:
    """Return the values that cut `targets` off from the rest of the graph: known ones, and inputs of the graph.

    Args:
        targets: what is to be computed; they may be known themselves.
        known: value -> its name in the whole model.
    """
    cut: dict[ir.Value, str] = {}
    own, met, stack = set(targets), set(targets), list(targets)
    while stack:
        node = stack.pop().producer()
        for value in () if node is None else _read_by(node):
            if value in met:
                continue
            met.add(value)
            if value.is_initializer():
                continue
            if value in known and value not in own:
                cut[value] = known[value]
            elif value.is_graph_input():
                cut[value] = str(value.name)
            else:
                stack.append(value)
    return cut


def _read_by(node: ir.Node) -> list[ir.Value]:
    values = [value for value in node.inputs if value is not None]
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            for inner in ir.traversal.RecursiveGraphIterator(attribute.as_graph()):
                values += [v for v in inner.inputs if v is not None and v.graph is node.graph]
    return values


def part_of(model: ir.Model, targets: Mapping[str, Seen], known: Mapping[ir.Value, str]) -> Part | None:
    """Cut out what computes the outputs of a unit; None where a graph input or constant is all of it.

    Args:
        model: a whole model, which stays as it is.
        targets: the name of each output of the unit -> how it is seen in the model.
        known: value of the model -> its name in the whole model, of all units.
    """
    wanted = [seen.value for seen in targets.values()]
    cut = {value: name for value, name in known_before(wanted, known).items() if value not in wanted}
    if not cut or any(value.producer() is None for value in wanted):
        return None
    graph = ir.convenience.extract(model.graph, list(cut), wanted)
    dtypes = {str(value.name): _numpy_type(value) for value in cut}
    return Part(
        model=to_bytes(ir.Model(graph, ir_version=model.ir_version, functions=list(model.functions.values()))),
        inputs={str(value.name): name for value, name in cut.items()},
        dtypes=dtypes,
        outputs={name: str(seen.value.name) for name, seen in targets.items()},
    )


def _numpy_type(value: ir.Value) -> np.dtype[np.generic] | None:
    if value.dtype is None or value.dtype in (ir.DataType.BFLOAT16, ir.DataType.STRING):
        return None
    return np.dtype(value.dtype.numpy())
