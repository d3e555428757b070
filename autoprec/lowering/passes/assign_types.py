"""One float type for each node: Casts where types meet, constants converted in place of casting them.

A strongly typed network computes in the types of its tensors, so this is the plan written into the graph.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from autoprec.graph.constants import drop_unused
from autoprec.graph.schemas import inferred_types, signature_of
from autoprec.graph.topology import COPY_OPS, RESHAPING_OPS, all_graphs, bodies, main_domain
from autoprec.graph.widening import before_bridge, drop_bridges, exact_weight, given_type, is_given_pair, source_of
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.lowering_pass import LoweringPass
from autoprec.lowering.passes.type_slots import DATA_TYPES, PRECISIONS, following_slots, is_tensor, require_floats
from autoprec.precision import Precision, cast_clamped

_READS_NO_NUMBERS = frozenset({"Shape", "Size"})  # they take a value in whatever type it is


class AssignTypesPass(LoweringPass):
    """Give every node its float type.

    Args:
        editor: the editor of the model.
        node_types: node name -> type; ops that move data follow their inputs, all others keep the types they have.
        carrier: the type that DequantizeLinear gives.

    Requires: no half types yet. Ensures: the inputs of a node that share a type variable have one type; graph inputs
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
        for node in model.graph:
            signature = signature_of(node, model.opset_imports)
            found: dict[str, set[Precision]] = {}
            for value, variable in zip(node.inputs, signature.inputs if signature else (), strict=False):
                if (kind := _float_type(value)) is not None:
                    found.setdefault(variable, set()).add(kind)
            for types in found.values():
                if len(types) > 1:
                    raise ir.passes.PostconditionError(f"{node.name!r} reads {' and '.join(sorted(types))}")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Give all nodes their types; the model counts as modified in any case."""
        graph = model.graph
        graph.sort()
        kept = {value: value.dtype for value in graph.outputs}
        typing = _Typing(self.editor, self.node_types, self.carrier, model.opset_imports)
        for node in list(graph):
            typing.type_node(node)
        typing.shield_bodies()
        for index, value in enumerate(list(graph.outputs)):
            wanted = PRECISIONS.get(kept[value] or ir.DataType.FLOAT)
            if wanted is not None and PRECISIONS.get(value.dtype or ir.DataType.FLOAT) not in (None, wanted):
                typing.restore_output(index, value, wanted)
        typing.drop_replaced()
        drop_bridges(graph)
        graph.sort()
        drop_unused(graph)
        return ir.passes.PassResult(model, modified=True)


class _Typing:
    """One call of the pass: the casts that it has added so far, and the types that values had before."""

    def __init__(
        self,
        editor: GraphEditor,
        node_types: Mapping[str, Precision],
        carrier: Precision,
        imports: Mapping[str, int],
    ) -> None:
        self._editor, self._graph = editor, editor.graph
        self._node_types, self._carrier, self._imports = node_types, carrier, imports
        self._casts: dict[tuple[ir.Value, Precision], ir.Value] = {}
        self._replaced: list[ir.Node] = []
        values = [*self._graph.inputs, *self._graph.initializers.values()]
        values += [value for node in self._graph for value in node.outputs]
        types = ((value, given_type(value) or _float_type(value)) for value in values)
        self._given = {value: kind for value, kind in types if kind is not None}

    def type_node(self, node: ir.Node) -> None:
        """Give one node its type, casting what it reads."""
        if is_given_pair(node):
            self._keep_pair(node)
        elif node.op_type == "QuantizeLinear":
            source = _float_type(node.inputs[0]) or Precision.FP32
            if source is Precision.FP64:  # no pair takes it
                self._convert(node, 0, source := Precision.FP32)
            self._convert(node, 1, source)
        elif node.op_type == "DequantizeLinear":
            self._convert(node, 1, self._carrier)
            _set_type(node.outputs[0], self._carrier)
        elif node.op_type == "Cast" and source_of(node) is not Precision.FP32:
            self._cast_back(node, self._node_types.get(str(node.name), source_of(node)))
        elif node.name in self._node_types:
            self._compute(node, self._node_types[str(node.name)])
        elif node.op_type in COPY_OPS and main_domain(node):
            self._follow(node)
        elif node.op_type not in _READS_NO_NUMBERS or not main_domain(node):
            self._keep(node, range(len(node.inputs)))

    def _keep_pair(self, node: ir.Node) -> None:
        """Let a pair that the model had already read what its scale is in; its parameters are the user's."""
        if node.op_type == "QuantizeLinear":
            wanted = _float_type(node.inputs[1]) or Precision.FP32
            signature = signature_of(node, self._imports)
            if signature is not None and not signature.admits(signature.inputs[0], DATA_TYPES[wanted]):
                wanted = Precision.FP32  # before opset 19; a scale that is computed may have become a half
            self._convert(node, 0, wanted)
            if (scale := node.inputs[1]) is not None and not scale.is_initializer():
                self._convert(node, 1, wanted)

    def _cast_back(self, node: ir.Node, wanted: Precision) -> None:
        """Let a Cast give the half type that it gave before the model was written in FP32."""
        node.attributes["to"] = ir.AttrInt64("to", int(DATA_TYPES[wanted]))
        _set_type(node.outputs[0], wanted)

    def _follow(self, node: ir.Node) -> None:
        """Let the results of a node that moves data have the type of what it moves."""
        signature = signature_of(node, self._imports)
        moved = set(signature.outputs) if signature is not None and all(map(is_tensor, node.outputs)) else set()
        for variable in moved:
            slots = [i for i, name in enumerate(signature.inputs if signature else ()) if name == variable]
            types = self._types(node, slots, constant=False) or self._types(node, slots, constant=True)
            if signature is None or not types:
                continue
            common = next(iter(types)) if len(types) == 1 else Precision.FP32
            if not signature.admits(variable, DATA_TYPES[common]):
                common = Precision.FP32
            for index in slots:
                self._convert(node, index, common)
            for output, name in zip(node.outputs, signature.outputs, strict=True):
                if name == variable and _float_type(output) is not None:
                    _set_type(output, common)
        tied = signature.inputs if signature is not None else [""] * len(node.inputs)
        self._keep(node, [index for index, name in enumerate(tied) if name not in moved])

    def _types(self, node: ir.Node, slots: list[int], *, constant: bool) -> set[Precision]:
        """Return the types of the inputs that are constant, or of those that are not."""
        values = [value for i in slots if (value := node.inputs[i]) is not None and value.is_initializer() is constant]
        if constant and values and source_of(node) is not Precision.FP32:
            return {source_of(node)}
        kinds = (_float_type(before_bridge(value)) or _float_type(value) for value in values)
        return {kind for kind in kinds if kind is not None}

    def _compute(self, node: ir.Node, wanted: Precision) -> None:
        inputs, outputs = following_slots(node, self._imports, wanted)
        self._keep(node, [index for index in range(len(node.inputs)) if index not in inputs])
        for index in inputs:
            self._convert(node, index, wanted)
        for index in outputs:
            if _float_type(node.outputs[index]) is not None:
                _set_type(node.outputs[index], wanted)
        if inputs and any(_float_type(v) is not None for i, v in enumerate(node.outputs) if i not in outputs):
            for index, dtype in inferred_types(node, self._imports).items():  # a state that starts with the first input
                node.outputs[index].type = ir.TensorType(dtype)

    def _keep(self, node: ir.Node, slots: range | list[int]) -> None:
        """Let the node read values in the types that they had before."""
        for index in slots:
            value = node.inputs[index]
            if value is not None and (given := self._given.get(value)) is not None:
                self._convert(node, index, given)

    def _convert(self, node: ir.Node, index: int, wanted: Precision) -> None:
        value = node.inputs[index]
        if value is not None and self._may_cast(value, wanted):
            node.replace_input_with(index, self._converted_once(value, wanted))

    def _may_cast(self, value: ir.Value, wanted: Precision) -> bool:
        """Return whether a value must be cast; one of an unknown type has the type that the model was valid with."""
        if value.type is None:
            return wanted is not Precision.FP32
        return is_tensor(value) and _float_type(value) not in (None, wanted)

    def _converted_once(self, value: ir.Value, wanted: Precision) -> ir.Value:
        key = (value, wanted)
        if key not in self._casts:
            self._casts[key] = self._converted(value, wanted)
        return self._casts[key]

    def _converted(self, value: ir.Value, wanted: Precision) -> ir.Value:
        if (narrow := before_bridge(value)) is not None and _float_type(narrow) is wanted:
            return narrow  # every half-precision number is an FP32 number, so that the way back changes none
        if value.const_value is not None and value.is_initializer():
            wish = f"{value.name}/{wanted}"
            if wanted is Precision.FP64 and (exact := exact_weight(value)) is not None:
                return self._editor.derived(value, ("cast", wanted), wish, lambda _: np.asarray(exact.numpy()))
            return self._editor.derived(value, ("cast", wanted), wish, lambda array: cast_clamped(array, wanted))
        output = self._editor.value(f"{value.name}/{wanted}", value, DATA_TYPES[wanted])
        node = value.producer()
        if node is not None and _rearranges_weight(node):
            return self._rearranged_again(node, output, wanted)
        return self._cast(value, output, wanted)

    def _rearranged_again(self, node: ir.Node, output: ir.Value, wanted: Precision) -> ir.Value:
        """Rearrange the converted constant, which others may read too, so that it is stored in one type."""
        source = node.inputs[0]
        if source is None:  # _rearranges_weight has looked at it
            raise ValueError(f"{node.name!r} must read a constant")
        inputs = [self._converted_once(source, wanted), *node.inputs[1:]]
        attributes = tuple(node.attributes.values())
        name = self._editor.names.new(f"{node.name}/{wanted}")
        made = ir.Node(node.domain, node.op_type, inputs, attributes, outputs=[output], name=name)
        self._graph.append(made)
        self._replaced.append(node)
        self._editor.became(node, [node, made])
        return output

    def _cast(self, value: ir.Value, output: ir.Value, wanted: Precision) -> ir.Value:
        name = self._editor.names.new(f"{value.name}/to_{wanted}")
        cast = ir.node("Cast", [value], {"to": int(DATA_TYPES[wanted])}, outputs=[output], name=name)
        self._graph.append(cast)
        return output

    def shield_bodies(self) -> None:
        """Cast back what bodies read from outside, since bodies keep their types."""
        inner = [graph for node in self._graph for _, body in bodies(node) for graph in all_graphs(body)]
        for graph in inner:
            for node in graph:
                for index, value in enumerate(node.inputs):
                    if (given := self._changed(value, inner)) is not None:
                        self._convert(node, index, given)
            for index, value in enumerate(list(graph.outputs)):
                if (given := self._changed(value, inner)) is not None:
                    graph.outputs[index] = self._converted_once(value, given)

    def _changed(self, value: ir.Value | None, inner: list[ir.Graph]) -> Precision | None:
        """Return the type that a value from outside the bodies had, or None if it has it still."""
        if value is None or value not in self._given:
            return None
        producer = value.producer()
        outer = (producer.graph if producer is not None else value.graph) not in inner
        return self._given[value] if outer and self._given[value] is not _float_type(value) else None

    def restore_output(self, index: int, value: ir.Value, wanted: Precision) -> None:
        """Let the graph return a cast of `value`, which keeps its name and type for the user."""
        output = ir.Value(name=value.name, type=ir.TensorType(DATA_TYPES[wanted]), shape=value.shape)
        value.name = self._editor.names.new(f"{value.name}/{_float_type(value)}")
        self._graph.outputs[index] = self._cast(value, output, wanted)
        self._editor.returned(value, output)

    def drop_replaced(self) -> None:
        """Drop the rearrangements that nothing reads any more."""
        for node in reversed(self._replaced):
            if not any(value.uses() or value.is_graph_output() for value in node.outputs):
                self._graph.remove(node, safe=True)


def _rearranges_weight(node: ir.Node) -> bool:
    """Return whether the node gives a constant in another order or shape."""
    if node.op_type not in RESHAPING_OPS or not main_domain(node) or not all(map(_is_constant, node.inputs)):
        return False
    return _float_type(node.inputs[0]) is not None and len(node.outputs) == 1


def _is_constant(value: ir.Value | None) -> bool:
    if value is None or value.is_initializer():
        return True
    node = value.producer()
    return node is not None and _rearranges_weight(node)


def _float_type(value: ir.Value | None) -> Precision | None:
    return PRECISIONS.get(value.dtype) if value is not None and value.dtype is not None and is_tensor(value) else None


def _set_type(value: ir.Value, precision: Precision) -> None:
    value.type = ir.TensorType(DATA_TYPES[precision])
