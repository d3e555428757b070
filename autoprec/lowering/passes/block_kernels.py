"""MatMul(x, DequantizeLinear(W_4bit)) [-> Add]  =>  MatMulNBits, ONNX Runtime's own operator for such a product.

Its optimiser makes the same of the standard form only where nobody else reads the codes and no activation follows: it
leaves other products in float without a word. The operator also says in the model how precisely it adds up.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from autoprec.graph.constants import drop_unused
from autoprec.graph.topology import const_array
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.lowering_pass import LoweringPass
from autoprec.lowering.passes.quantize_blocks import grid_of
from autoprec.precision import Array
from autoprec.ranges.weight_blocks import BlockGrid

_DOMAIN, _BITS = "com.microsoft", 4
ACCURACY_LEVEL = 4
"""Activations are quantised to 8 bits, block by block. K = N = 2048 with one row on an AVX2 CPU: 0.27 of FP32's time,
0.9 with activations in FP32 (level 0); 576 x 1536: 0.55 and 1.7. With 128 rows both take as long as FP32."""
_MIDDLE = 8
"""The unsigned code of zero where there are no zero points."""


class BlockKernelsPass(LoweringPass):
    """Write products of weights in blocks as MatMulNBits.

    Args:
        editor: the editor of the model.
        names: the names of the products.

    Requires: QuantizeBlocksPass has stored the weights of each product. Ensures: each of them is a MatMulNBits; an Add
    of constants for each column, which alone reads a product, is part of it.
    """

    def __init__(self, editor: GraphEditor, names: Collection[str]) -> None:
        super().__init__(editor)
        self.names = frozenset(names)

    def requires(self, model: ir.Model) -> None:
        """Check that the weights of each product are stored in blocks."""
        super().requires(model)
        nodes = {node.name: node for node in model.graph}
        for name in self.names:
            if name not in nodes or grid_of(nodes[name]) is None:
                raise ir.passes.PreconditionError(f"{name!r} must be a MatMul of weights in blocks")

    def ensures(self, model: ir.Model) -> None:
        """Check that each product is such a kernel."""
        super().ensures(model)
        for node in model.graph:
            if node.name in self.names and node.op_type != "MatMulNBits":
                raise ir.passes.PostconditionError(f"{node.name!r} must be a MatMulNBits, not a {node.op_type}")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the products; the model is modified if there was one."""
        for node in [node for node in model.graph if node.name in self.names]:
            found = grid_of(node)
            if found is not None:
                self._rewrite(model.graph, node, found[0])
        if self.names:
            model.opset_imports.setdefault(_DOMAIN, 1)
            drop_unused(model.graph)
        return ir.passes.PassResult(model, bool(self.names))

    def _rewrite(self, graph: ir.Graph, node: ir.Node, grid: BlockGrid) -> None:
        weights = node.inputs[1]
        stored = weights.producer() if weights is not None else None
        codes = stored.inputs[0] if stored is not None else None
        if stored is None or codes is None or codes.shape is None:  # requires has looked at it
            raise ValueError(f"{node.name!r} must read stored weights")
        depth, columns = (int(size) for size in codes.shape.numpy())
        add, bias = _bias(node, columns)
        inputs = [node.inputs[0], *self._operands(codes, grid, str(codes.name))]
        if bias is not None:
            inputs += [None] * (5 - len(inputs))
            inputs.append(self.editor.constant(f"{node.name}/bias", bias))
        sizes = {"K": depth, "N": columns, "bits": _BITS, "block_size": grid.block, "accuracy_level": ACCURACY_LEVEL}
        last = node if add is None else add
        output = last.outputs[0]
        final = ir.Value(type=output.type, shape=output.shape)
        made = ir.node("MatMulNBits", inputs, sizes, domain=_DOMAIN, outputs=[final], name=node.name)
        graph.insert_after(last, made)
        self.editor.take_over(output, final)
        for old in dict.fromkeys([last, node]):
            self.editor.became(old, [made])
            graph.remove(old, safe=True)
        if not stored.outputs[0].uses():
            graph.remove(stored, safe=True)

    def _operands(self, codes: ir.Value, grid: BlockGrid, name: str) -> list[ir.Value | None]:
        middle = 0 if grid.zeros is not None else _MIDDLE

        def packed(array: Array) -> Array:
            return _packed((array.astype(np.int8) + middle).T.reshape(array.shape[1], -1, grid.block))

        found: list[ir.Value | None] = [
            self.editor.derived(codes, ("packed", grid.block), f"{name}/packed", packed),
            self.editor.constant(f"{name}/scales", np.ascontiguousarray(grid.scales.T)),
        ]
        if grid.zeros is not None:
            found.append(self.editor.constant(f"{name}/zero_points", _packed(grid.zeros.T)))
        return found


def _packed(codes: Array) -> Array:
    """Return two codes in each byte, the first one in its lower half, along the last axis; uint8."""
    codes = codes.astype(np.uint8)
    if codes.shape[-1] % 2:
        codes = np.concatenate([codes, np.full((*codes.shape[:-1], 1), _MIDDLE, np.uint8)], axis=-1)
    result: Array = np.ascontiguousarray(codes[..., 0::2] | (codes[..., 1::2] << 4))
    return result


def _bias(node: ir.Node, columns: int) -> tuple[ir.Node | None, Array | None]:
    """Return the Add that alone reads a product, and the constants for each column that it adds; or None and None."""
    output = node.outputs[0]
    readers = [user for user, _ in output.uses()]
    if len(readers) != 1 or readers[0].op_type != "Add" or output.is_graph_output():
        return None, None
    others = [value for value in readers[0].inputs if value is not output]
    bias = const_array(others[0]) if others else None
    if bias is None or bias.dtype != np.float32 or bias.size != columns or bias.shape[-1] != columns:
        return None, None
    same = readers[0].outputs[0].shape is None or output.shape is None or bias.ndim <= len(output.shape)
    return (readers[0], bias.reshape(-1)) if same else (None, None)
