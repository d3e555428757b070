"""One float type for each node: Casts where types meet, constants converted in place of casting them.

A strongly typed network computes in the types of its tensors, so this is the plan written into the graph.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx
import onnx_ir as ir

from autoprec.graph.constants import drop_unused
from autoprec.graph.topology import COPY_OPS, all_graphs, bodies, const_array, main_domain
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.lowering_pass import LoweringPass
from autoprec.precision import Precision, cast_clamped

DATA_TYPES = {
    Precision.FP32: ir.DataType.FLOAT,
    Precision.FP16: ir.DataType.FLOAT16,
    Precision.BF16: ir.DataType.BFLOAT16,
}
OPSET_BF16 = 22
"""The first opset with BF16 convolutions and pools."""
_PRECISIONS = {data_type: precision for precision, data_type in DATA_TYPES.items()}


class AssignTypesPass(LoweringPass):
    """Give every node its float type.

    Args:
        editor: the editor of the model.
        node_types: node name -> type; ops that move data follow their inputs, all others stay FP32.
        carrier: the type that DequantizeLinear gives.

    Requires: no half types yet. Ensures: every node's float inputs have one type; graph inputs
    and outputs and what bodies read keep theirs; each (value, type) is cast once; constants are stored in
    the type they are read in, clamped to its largest value.
    """

    def __init__(self, editor: GraphEditor, node_types: Mapping[str, Precision], carrier: Precision) -> None:
        super().__init__(editor)
        self.node_types = node_types
        self.carrier = carrier

    def requires(self, model: ir.Model) -> None:
        """Check that no value that a listed node makes is in half precision already."""
        super().requires(model)
        require_floats(model, self.node_types)

    def ensures(self, model: ir.Model) -> None:
        """Check that every node's float inputs that share a type variable have one type."""
        super().ensures(model)
        opset = opset_of(model)
        for node in model.graph:
            tied = free_slots(node, opset, Precision.FP16)[0]
            types = {t for index in tied if (t := _float_type(node.inputs[index])) is not None}
            if len(types) > 1 and node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
                raise ir.passes.PostconditionError(f"{node.name!r} reads {' and '.join(sorted(types))}")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Give all nodes their types; the model counts as modified in any case."""
        graph = model.graph
        graph.sort()
        kept = {value: value.dtype for value in graph.outputs}
        typing = _Typing(self.editor, self.node_types, self.carrier, opset_of(model))
        for node in list(graph):
            typing.type_node(node)
        typing.shield_bodies()
        for index, value in enumerate(list(graph.outputs)):
            wanted = _PRECISIONS.get(kept[value] or ir.DataType.FLOAT)
            if wanted is not None and _PRECISIONS.get(value.dtype or ir.DataType.FLOAT) not in (None, wanted):
                typing.restore_output(index, value, wanted)
        graph.sort()
        drop_unused(graph)
        return ir.passes.PassResult(model, modified=True)


class _Typing:
    """One call of the pass: the casts that it has added so far."""

    def __init__(
        self, editor: GraphEditor, node_types: Mapping[str, Precision], carrier: Precision, opset: int
    ) -> None:
        self._editor, self._graph = editor, editor.graph
        self._node_types, self._carrier, self._opset = node_types, carrier, opset
        self._casts: dict[tuple[ir.Value, Precision], ir.Value] = {}

    def type_node(self, node: ir.Node) -> None:
        """Give one node its type, casting what it reads."""
        if node.op_type == "QuantizeLinear":
            source = _float_type(node.inputs[0]) or Precision.FP32
            self._convert(node, 1, source)
        elif node.op_type == "DequantizeLinear":
            self._convert(node, 1, self._carrier)
            _set_type(node.outputs[0], self._carrier)
        elif node.op_type in COPY_OPS and node.name not in self._node_types:
            self._follow(node)
        else:
            self._compute(node, self._node_types.get(str(node.name), Precision.FP32))

    def _follow(self, node: ir.Node) -> None:
        types = {t for value in node.inputs if _is_dynamic(value) and (t := _float_type(value)) is not None}
        if not types:
            types = {t for value in node.inputs if (t := _float_type(value)) is not None}
            if not types:
                return
        common = next(iter(types)) if len(types) == 1 else Precision.FP32
        for index, value in enumerate(node.inputs):
            if _float_type(value) is not None:
                self._convert(node, index, common)
        for output in node.outputs:
            if _float_type(output) is not None:
                _set_type(output, common)

    def _compute(self, node: ir.Node, wanted: Precision) -> None:
        free_inputs, free_outputs = free_slots(node, self._opset, wanted)
        for index, value in enumerate(node.inputs):
            if _float_type(value) is not None:
                self._convert(node, index, wanted if index in free_inputs else Precision.FP32)
        if node.op_type in ("Cast", "CastLike") or not main_domain(node):
            return
        for index, output in enumerate(node.outputs):
            if _float_type(output) is not None:
                _set_type(output, wanted if index in free_outputs else Precision.FP32)

    def _convert(self, node: ir.Node, index: int, wanted: Precision) -> None:
        value = node.inputs[index]
        current = _float_type(value)
        if value is None or current is None or current is wanted:
            return
        node.replace_input_with(index, self._converted_once(value, wanted))

    def _converted_once(self, value: ir.Value, wanted: Precision) -> ir.Value:
        key = (value, wanted)
        if key not in self._casts:
            self._casts[key] = self._converted(value, wanted)
        return self._casts[key]

    def _converted(self, value: ir.Value, wanted: Precision) -> ir.Value:
        array = const_array(value)
        if array is not None and value.is_initializer():
            return self._editor.constant(f"{value.name}/{wanted}", cast_clamped(array, wanted))
        return self._cast(value, self._editor.value(f"{value.name}/{wanted}", value, DATA_TYPES[wanted]), wanted)

    def _cast(self, value: ir.Value, output: ir.Value, wanted: Precision) -> ir.Value:
        name = self._editor.names.new(f"{value.name}/to_{wanted}")
        cast = ir.node("Cast", [value], {"to": int(DATA_TYPES[wanted])}, outputs=[output], name=name)
        self._graph.append(cast)
        return output

    def shield_bodies(self) -> None:
        """Cast back what bodies read from outside, since bodies stay in FP32."""
        inner = [graph for node in self._graph for _, body in bodies(node) for graph in all_graphs(body)]
        for graph in inner:
            for node in graph:
                for index, value in enumerate(node.inputs):
                    if self._is_outer_half(value, inner):
                        self._convert(node, index, Precision.FP32)
            for index, value in enumerate(list(graph.outputs)):
                if self._is_outer_half(value, inner):
                    graph.outputs[index] = self._converted_once(value, Precision.FP32)

    def _is_outer_half(self, value: ir.Value | None, inner: list[ir.Graph]) -> bool:
        if _float_type(value) not in (Precision.FP16, Precision.BF16) or value is None:
            return False
        producer = value.producer()
        return (producer.graph if producer is not None else value.graph) not in inner

    def restore_output(self, index: int, value: ir.Value, wanted: Precision) -> None:
        """Let the graph return a cast of `value`, which keeps its name and type for the user."""
        output = ir.Value(name=value.name, type=ir.TensorType(DATA_TYPES[wanted]), shape=value.shape)
        value.name = self._editor.names.new(f"{value.name}/{_float_type(value)}")
        self._graph.outputs[index] = self._cast(value, output, wanted)
        self._editor.returned(value, output)


def _is_dynamic(value: ir.Value | None) -> bool:
    return value is not None and not value.is_initializer()


def _float_type(value: ir.Value | None) -> Precision | None:
    return None if value is None or value.dtype is None else _PRECISIONS.get(value.dtype)


def _set_type(value: ir.Value, precision: Precision) -> None:
    value.type = ir.TensorType(DATA_TYPES[precision])


def opset_of(model: ir.Model) -> int:
    """Return the version of the standard operators that the model uses."""
    return model.opset_imports.get("", model.opset_imports.get("ai.onnx", 13))


def require_floats(
    model: ir.Model,
    node_types: Mapping[str, Precision],
    error: type[ir.passes.InvariantError] = ir.passes.PreconditionError,
) -> None:
    """Raise `error` if a listed node makes half-precision values."""
    for node in model.graph:
        if node.name in node_types:
            for value in node.outputs:
                if _float_type(value) in (Precision.FP16, Precision.BF16):
                    raise error(f"{node.name!r} gives {_float_type(value)}; it must give FP32")


def free_slots(node: ir.Node, opset: int, wanted: Precision) -> tuple[set[int], set[int]]:
    """Return the indices of the inputs and of the outputs that take the type `wanted` by the operator's schema.

    An output is free only where it has the type of some input: that of ConstantOfShape is an attribute's.
    """
    if not main_domain(node):
        return set(), set()
    try:
        schema = onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return set(), set()
    name = {"fp16": "tensor(float16)", "bf16": "tensor(bfloat16)"}.get(wanted.value, "tensor(float)")
    wide = {c.type_param_str for c in schema.type_constraints if name in c.allowed_type_strs}
    ins, outs = list(schema.inputs), list(schema.outputs)
    inputs = {i for i in range(len(node.inputs)) if ins and ins[min(i, len(ins) - 1)].type_str in wide}
    tied = wide & {ins[min(i, len(ins) - 1)].type_str for i in inputs}
    outputs = {i for i in range(len(node.outputs)) if outs and outs[min(i, len(outs) - 1)].type_str in tied}
    return inputs, outputs
