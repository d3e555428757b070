"""Which types an operator takes and gives, by the schema of its own domain in the model's own opset."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import onnx
import onnx.shape_inference
import onnx_ir as ir

from autoprec.graph.topology import bodies

STANDARD = ("", "ai.onnx")
"""The two names of ONNX's own domain."""


@dataclass(frozen=True, slots=True)
class Signature:
    """The type variables of one node: slots with one variable have one type, whatever it is.

    Attributes:
        inputs: for each input of the node the name of its type variable.
        outputs: the same for each output.
        admitted: type variable -> the types that it may stand for, as ONNX writes them, such as "tensor(float)".
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    admitted: Mapping[str, frozenset[str]]

    def admits(self, variable: str, dtype: ir.DataType) -> bool:
        """Return whether a tensor of that element type may stand for the variable."""
        return _tensor(dtype) in self.admitted[variable]

    def only(self, variable: str) -> str | None:
        """Return the type that the variable always stands for, or None if it may stand for several."""
        admitted = self.admitted[variable]
        return next(iter(admitted)) if len(admitted) == 1 else None


def opset_of(imports: Mapping[str, int], domain: str = "") -> int:
    """Return the version in which a model imports the operators of a domain; 1 where it does not say."""
    names = STANDARD if domain in STANDARD else (domain,)
    return next((imports[name] for name in names if name in imports), 1)


def signature_of(node: ir.Node, imports: Mapping[str, int]) -> Signature | None:
    """Return the signature of a node, or None if ONNX has no schema for the operator in that opset.

    Args:
        node: the node.
        imports: domain -> the version of its operators.
    """
    domain = "" if node.domain in STANDARD else node.domain
    slots = _slots(node.op_type, domain, opset_of(imports, domain))
    if slots is None:
        return None
    inputs, outputs, admitted = slots
    known = dict(admitted)

    def spread(formal: tuple[_Slot, ...], count: int) -> Iterator[str]:
        for index in range(count):
            if not formal:
                known.setdefault("", frozenset())
                yield ""
                continue
            slot = formal[min(index, len(formal) - 1)]  # the last formal slot may stand for any number of values
            alone = slot.variable if slot.shared else f"{slot.variable} {index}"
            known[alone] = known[slot.variable]
            yield alone

    return Signature(tuple(spread(inputs, len(node.inputs))), tuple(spread(outputs, len(node.outputs))), known)


def complete_types(nodes: Iterable[ir.Node], imports: Mapping[str, int]) -> None:
    """Give a type to each value without one whose type follows from that of another slot of some node.

    It goes both ways: the weights of a product tell the type of its other operand, and that of its result.
    """
    signed = [(node, found) for node in nodes if (found := signature_of(node, imports)) is not None]
    changed = True
    while changed:
        changed = False
        for node, signature in signed:
            slots = [
                *zip(node.inputs, signature.inputs, strict=True),
                *zip(node.outputs, signature.outputs, strict=True),
            ]
            if all(value is None or value.type is not None for value, _ in slots):
                continue
            types = {name: value.type for value, name in slots if value is not None and value.type is not None}
            for value, name in slots:
                if value is None or value.type is not None:
                    continue
                kind = types.get(name) or _from_text(signature.only(name))
                if kind is not None:
                    value.type, changed = kind, True


def inferred_types(node: ir.Node, imports: Mapping[str, int]) -> dict[int, ir.DataType]:
    """Return what ONNX infers of one node from the types of its inputs: index of the output -> element type.

    An operator may tie types beyond its variables: a state that it is not given has the type of the data.
    """
    domain = "" if node.domain in STANDARD else node.domain
    fed = {str(value.name): value for value in node.inputs if value is not None}
    try:
        schema = onnx.defs.get_schema(node.op_type, opset_of(imports, domain), domain)
        types = {name: ir.to_proto(value).type for name, value in fed.items()}
        found = onnx.shape_inference.infer_node_outputs(schema, ir.to_proto(node), types)
    except Exception:  # the inference of each operator raises what it likes, and says nothing then
        return {}
    known = {str(value.name): index for index, value in enumerate(node.outputs)}
    return {
        known[n]: ir.DataType(kind.tensor_type.elem_type) for n, kind in found.items() if kind.HasField("tensor_type")
    }


def restore_containers(graph: ir.Graph, imports: Mapping[str, int]) -> None:
    """Give each sequence and optional value its type back where inference has left that of its elements."""
    for node in graph:
        inner = list(bodies(node))
        for _, body in inner:
            restore_containers(body, imports)
        signature = signature_of(node, imports)
        for index, value in enumerate(node.outputs if signature is not None else ()):
            if signature is not None and isinstance(value.type, ir.TensorType):
                value.type = _container(node, index, signature) or value.type


def _container(node: ir.Node, index: int, signature: Signature) -> ir.TypeProtocol | None:
    """Return the type of an output that is no tensor, or None if it is one as far as is known."""
    variable, dtype = signature.outputs[index], node.outputs[index].dtype
    admitted, source = signature.admitted[variable], node.inputs[0].type if node.inputs and node.inputs[0] else None
    results = [body.outputs for _, body in bodies(node)]
    if results and node.op_type == "If":
        return _unless_tensor(results[0][index].type)
    if results and node.op_type == "Loop":
        carried = len(node.inputs) - 2
        return _unless_tensor(results[0][index + 1].type) if index < carried else None
    if any(text.startswith("tensor(") for text in admitted):
        if node.op_type == "OptionalGetElement" and isinstance(source, ir.OptionalType):
            return _unless_tensor(source.elem_type)
        return _unless_tensor(source) if signature.inputs and signature.inputs[0] == variable else None
    element = ir.TensorType(dtype) if dtype is not None else None
    if element is None:
        return None
    if all(text.startswith("optional(") for text in admitted):
        return ir.OptionalType(source if isinstance(source, ir.SequenceType) else element)
    return ir.SequenceType(element) if all(text.startswith("seq(tensor(") for text in admitted) else None


def _unless_tensor(kind: ir.TypeProtocol | None) -> ir.TypeProtocol | None:
    return None if isinstance(kind, ir.TensorType) else kind


@dataclass(frozen=True, slots=True)
class _Slot:
    """A formal input or output: its variable, and whether all values of a variadic one share it."""

    variable: str
    shared: bool


_Slots = tuple[tuple[_Slot, ...], tuple[_Slot, ...], Mapping[str, frozenset[str]]]


@lru_cache(maxsize=4096)
def _slots(op_type: str, domain: str, opset: int) -> _Slots | None:
    try:
        schema = onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None
    if schema.deprecated:
        return None
    admitted = {each.type_param_str: frozenset(each.allowed_type_strs) for each in schema.type_constraints}
    formal = [*schema.inputs, *schema.outputs]
    for each in formal:  # a type that never differs is written in place of a variable
        admitted.setdefault(each.type_str, frozenset((each.type_str,)))
    inputs = tuple(_Slot(each.type_str, each.is_homogeneous) for each in schema.inputs)
    outputs = tuple(_Slot(each.type_str, each.is_homogeneous) for each in schema.outputs)
    return inputs, outputs, admitted


def _tensor(dtype: ir.DataType) -> str:
    return f"tensor({dtype.name.lower()})"


_DATA_TYPES = {_tensor(dtype): dtype for dtype in ir.DataType}


def _from_text(text: str | None) -> ir.TypeProtocol | None:
    dtype = _DATA_TYPES.get(text or "")
    return None if dtype is None else ir.TensorType(dtype)
