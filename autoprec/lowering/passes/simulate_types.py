"""y = op(x)  =>  y = Cast_fp32(Cast_half(op(x))): half precision by rounding, where a CPU has no kernel for it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from autoprec.graph.constants import drop_unused
from autoprec.graph.schemas import opset_of
from autoprec.graph.widening import source_of
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.lowering_pass import LoweringPass
from autoprec.lowering.passes.type_slots import DATA_TYPES, OPSET_BF16, following_slots, require_floats
from autoprec.precision import Array, Precision, cast_clamped

_FLOAT = ir.TensorType(ir.DataType.FLOAT)


class SimulateTypesPass(LoweringPass):
    """Round what half-precision nodes read and make, and leave the arithmetic in FP32.

    A real half kernel also accumulates in FP32, so rounding its operands and its result is what it does.

    Args:
        editor: the editor of the model.
        node_types: node name -> the type that the node would compute in.

    Requires: FP32 values throughout. Ensures: listed nodes still make FP32 values; the rounded value carries the
    original name.
    """

    def __init__(self, editor: GraphEditor, node_types: Mapping[str, Precision]) -> None:
        super().__init__(editor)
        self.half = {name: p for name, p in node_types.items() if p in (Precision.FP16, Precision.BF16)}

    def requires(self, model: ir.Model) -> None:
        """Check that no value that a listed node makes is in half precision already."""
        super().requires(model)
        require_floats(model, self.half)

    def ensures(self, model: ir.Model) -> None:
        """Check that the arithmetic of listed nodes is FP32 still."""
        super().ensures(model)
        require_floats(model, self.half, ir.passes.PostconditionError)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Round the values; the model is modified if there is a node in half precision."""
        graph = model.graph
        imports = dict(model.opset_imports)
        raised = imports | {"": max(opset_of(imports), OPSET_BF16)}  # as the real model would be
        rounding = _Rounding(self.editor, self.half)
        for node in list(graph):
            precision = self.half.get(str(node.name))
            if precision is not None:
                opsets = raised if precision is Precision.BF16 else imports
                inputs, outputs = following_slots(node, opsets, precision)
                rounding.inputs(node, precision, inputs)
                cast = node.op_type == "Cast" and source_of(node) is not Precision.FP32
                rounding.outputs(node, precision, {0} if cast else outputs)
        graph.sort()
        drop_unused(graph)
        return ir.passes.PassResult(model, bool(self.half))


class _Rounding:
    """One call of the pass: what it has rounded so far."""

    def __init__(self, editor: GraphEditor, half: Mapping[str, Precision]) -> None:
        self._editor, self._half = editor, half
        self._rounded: dict[tuple[ir.Value, Precision], ir.Value] = {}
        self._results: dict[ir.Value, Precision] = {}

    def inputs(self, node: ir.Node, precision: Precision, free: set[int]) -> None:
        """Let the node read rounded values."""
        for index, value in enumerate(node.inputs):
            if index not in free or value is None or value.type != _FLOAT:
                continue
            if self._made_in(value) is precision:
                continue  # already rounded where it was made
            key = (value, precision)
            if key not in self._rounded:
                self._rounded[key] = self._operand(value, precision)
            node.replace_input_with(index, self._rounded[key])

    def outputs(self, node: ir.Node, precision: Precision, free: set[int]) -> None:
        """Let the readers of the node's results take them rounded."""
        for index, value in enumerate(list(node.outputs)):
            used = value.uses() or value.is_graph_output()
            if index in free and value.type == _FLOAT and used:
                rounded = ir.Value(type=value.type, shape=value.shape)
                self._editor.rounded(value, rounded, f"{value.name}/exact")
                self._round_trip(value, rounded, precision, f"{node.name}/round_{precision}")
                self._results[rounded] = precision

    def _made_in(self, value: ir.Value) -> Precision | None:
        """Return the half type of the node that makes the value, or None if it makes FP32."""
        producer = value.producer()
        return self._results.get(value, None if producer is None else self._half.get(str(producer.name)))

    def _operand(self, value: ir.Value, precision: Precision) -> ir.Value:
        if value.const_value is not None and value.is_initializer():

            def rounded(exact: Array) -> Array:
                return cast_clamped(exact, precision).astype(np.float32)

            return self._editor.derived(value, ("rounded", precision), f"{value.name}/as_{precision}", rounded)
        output = self._editor.value(f"{value.name}/as_{precision}", value, ir.DataType.FLOAT)
        self._round_trip(value, output, precision, f"{value.name}/in_{precision}")
        return output

    def _round_trip(self, value: ir.Value, output: ir.Value, precision: Precision, wish: str) -> None:
        """Add the two Casts that make `output` of `value`."""
        names, kind = self._editor.names, DATA_TYPES[precision]
        small = self._editor.value(f"{output.name}/{precision}", value, kind)
        for node in (
            ir.node("Cast", [value], {"to": int(kind)}, outputs=[small], name=names.new(f"{wish}.down")),
            ir.node("Cast", [small], {"to": int(ir.DataType.FLOAT)}, outputs=[output], name=names.new(wish)),
        ):
            self._editor.graph.append(node)
