"""MatMul(x, DequantizeLinear(W_codes)) [-> Add]  =>  MatMulNBits, ONNX Runtime's own operator for such a product.

Its optimiser makes the same of the standard form only where nobody else reads the codes and no activation follows: it
leaves other products in float without a word. The operator also says in the model how precisely it adds up.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir

from autoprec.graph.constants import drop_unused
from autoprec.graph.topology import attribute_int, const_array
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.lowering_pass import LoweringPass
from autoprec.lowering.passes.quantize_blocks import grid_of
from autoprec.precision import Array
from autoprec.ranges.weight_blocks import BlockGrid

_DOMAIN = "com.microsoft"
ACCURACY_LEVEL = 4
"""Activations are quantised to 8 bits, block by block. K = N = 2048 with one row on an AVX2 CPU: 0.27 of FP32's time,
0.9 with activations in FP32 (level 0); 576 x 1536: 0.55 and 1.7. With 128 rows both take as long as FP32. Weights of 8
bits: 0.14 and 9 of FP32's time, 0.6 and 18, and no sum saturates: 44 dB of one product with codes up to 127."""
_MIDDLE = {4: 8, 8: 128}
"""The number of bits -> the unsigned code of zero where there are no zero points."""
_BLOCKS = (128, 64, 32)
"""The blocks that a scale for each column may be repeated for, which the operator asks for."""


class BlockKernelsPass(LoweringPass):
    """Write products of weights in blocks as MatMulNBits.

    Args:
        editor: the editor of the model.
        names: the names of the products.

    Requires: QuantizeBlocksPass has stored the weights of each product, or QuantizeWeightsPass has, with a scale for
    each column. Ensures: each of them is a MatMulNBits; an Add of constants for each column, which alone reads a
    product, is part of it.
    """

    def __init__(self, editor: GraphEditor, names: Collection[str]) -> None:
        super().__init__(editor)
        self.names = frozenset(names)

    def requires(self, model: ir.Model) -> None:
        """Check that the weights of each product are stored in blocks."""
        super().requires(model)
        nodes = {node.name: node for node in model.graph}
        for name in self.names:
            if name not in nodes or _kernel_grid(nodes[name]) is None:
                raise ir.passes.PreconditionError(f"{name!r} must be a MatMul of weights in blocks or columns")

    def ensures(self, model: ir.Model) -> None:
        """Check that each product is such a kernel."""
        super().ensures(model)
        for node in model.graph:
            if node.name in self.names and node.op_type != "MatMulNBits":
                raise ir.passes.PostconditionError(f"{node.name!r} must be a MatMulNBits, not a {node.op_type}")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite the products; the model is modified if there was one."""
        made: dict[tuple[ir.Value, ir.Value | None], list[ir.Value | None]] = {}
        for node in [node for node in model.graph if node.name in self.names]:
            found = _kernel_grid(node)
            if found is not None:
                self._rewrite(model.graph, node, found, made)
        if self.names:
            model.opset_imports.setdefault(_DOMAIN, 1)
            drop_unused(model.graph)
        return ir.passes.PassResult(model, bool(self.names))

    def _rewrite(
        self,
        graph: ir.Graph,
        node: ir.Node,
        grid: BlockGrid,
        made: dict[tuple[ir.Value, ir.Value | None], list[ir.Value | None]],
    ) -> None:
        weights = node.inputs[1]
        stored = weights.producer() if weights is not None else None
        codes = stored.inputs[0] if stored is not None else None
        if stored is None or codes is None or codes.shape is None:  # requires has looked at it
            raise ValueError(f"{node.name!r} must read stored weights")
        depth, columns = (int(size) for size in codes.shape.numpy())
        bits = 8 if codes.dtype is ir.DataType.INT8 else 4
        add, bias = _bias(node, columns)
        key = (codes, stored.inputs[1])
        if key not in made:
            made[key] = self._operands(codes, grid, bits)
        inputs = [node.inputs[0], *made[key]]
        if bias is not None:
            inputs += [None] * (5 - len(inputs))
            inputs.append(self.editor.constant(f"{node.name}/bias", bias))
        sizes = {"K": depth, "N": columns, "bits": bits, "block_size": grid.block, "accuracy_level": ACCURACY_LEVEL}
        last = node if add is None else add
        output = last.outputs[0]
        final = ir.Value(type=output.type, shape=output.shape)
        kernel = ir.node("MatMulNBits", inputs, sizes, domain=_DOMAIN, outputs=[final], name=node.name)
        graph.insert_after(last, kernel)
        self.editor.take_over(output, final)
        for old in dict.fromkeys([last, node]):
            self.editor.became(old, [kernel])
            graph.remove(old, safe=True)
        if not stored.outputs[0].uses():
            graph.remove(stored, safe=True)

    def _operands(self, codes: ir.Value, grid: BlockGrid, bits: int) -> list[ir.Value | None]:
        middle, name = 0 if grid.zeros is not None else _MIDDLE[bits], str(codes.name)

        def packed(array: Array) -> Array:
            unsigned = (array.T.astype(np.int8).view(np.uint8) + np.uint8(middle)).astype(np.uint8)
            rest = -unsigned.shape[1] % grid.block
            filled = np.pad(unsigned, ((0, 0), (0, rest)), constant_values=middle)
            found = filled.reshape(len(filled), -1, grid.block)
            return _packed(found) if bits == 4 else found

        found: list[ir.Value | None] = [
            self.editor.derived(codes, ("packed", grid.block), f"{name}/packed", packed),
            self.editor.constant(f"{name}/scales", np.ascontiguousarray(grid.scales.T)),
        ]
        if grid.zeros is not None:
            found.append(self.editor.constant(f"{name}/zero_points", _packed(grid.zeros.T)))
        return found


def _kernel_grid(node: ir.Node) -> BlockGrid | None:
    """Return the grid of weights as the operator reads it, or None where they are not stored so."""
    found = grid_of(node)
    if found is not None:
        return found[0]
    maker = node.inputs[1].producer() if node.op_type == "MatMul" and node.inputs[1] is not None else None
    if maker is None or maker.op_type != "DequantizeLinear" or len(maker.inputs) > 2:
        return None
    codes, scales = const_array(maker.inputs[0]), const_array(maker.inputs[1])
    if codes is None or scales is None or codes.ndim != 2 or attribute_int(maker, "axis", 1) != 1:
        return None
    return _by_columns(len(codes), np.broadcast_to(scales.astype(np.float32), codes.shape[1:]))


def _by_columns(depth: int, scales: Array) -> BlockGrid:
    """Return the grid of the fewest bytes in which each column has one scale, float32[N]."""
    block = min(_BLOCKS, key=lambda size: -(-depth // size) * (size + scales.itemsize))
    return BlockGrid(block, np.repeat(scales[None], -(-depth // block), axis=0), None)


def _packed(codes: Array) -> Array:
    """Return two codes in each byte, the first one in its lower half, along the last axis; uint8."""
    codes = codes.astype(np.uint8)
    if codes.shape[-1] % 2:
        codes = np.concatenate([codes, np.full((*codes.shape[:-1], 1), _MIDDLE[4], np.uint8)], axis=-1)
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
