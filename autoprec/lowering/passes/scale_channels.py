"""x -> Conv | MatMul(W)  =>  x / s -> Conv | MatMul(s * W), one factor for each channel of x.

The network computes what it did, while one 8-bit scale fits all channels of x / s better. What makes x takes the
division into its own weights where it can; else a Mul by 1 / s stands before the products. With factors of the weights'
ranges it is the cross-layer equalisation of Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and
Bias Correction", section 4.1; with factors of activations and weights behind a normalisation it is SmoothQuant (Xiao et
al. 2023). A depthwise convolution has a scale for each channel of its weights, so that it takes any factor for nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from autoprec.files.json import fingerprint
from autoprec.graph.constants import drop_unused
from autoprec.graph.topology import Topology
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.lowering_pass import LoweringPass
from autoprec.lowering.scaling import Edit, readers_of, taken_in
from autoprec.precision import Array


@dataclass
class ScaleResult(ir.passes.PassResult):
    """The result of the pass.

    Attributes:
        refused: the name of each value that was left as it is -> why.
        inserted: value -> the name of the Mul that divides it where nothing could take the division in.
        products: value -> the names of the products that read it.
    """

    refused: Mapping[str, str] = field(default_factory=dict)
    inserted: Mapping[str, str] = field(default_factory=dict)
    products: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class ScaleChannelsPass(LoweringPass):
    """Divide the channels of values, and multiply the weights of the products that read them.

    Args:
        editor: the editor of the model.
        factors: value -> a positive factor for each of its channels.

    Requires: FP32 weights. Ensures: equality up to FP32 rounding of weights, computed in FP64; all shapes, and
    the names of all nodes and values that were there.
    """

    def __init__(self, editor: GraphEditor, factors: Mapping[str, Array]) -> None:
        super().__init__(editor)
        self.factors = factors

    def call(self, model: ir.Model) -> ScaleResult:
        """Scale each value; the model is modified if at least one could be scaled."""
        topology = Topology(model.graph)
        refused: dict[str, str] = {}
        inserted: dict[str, str] = {}
        products: dict[str, tuple[str, ...]] = {}
        values = {str(v.name): v for node in topology.nodes for v in node.outputs}
        values |= {str(v.name): v for v in model.graph.inputs}
        for name, factor in self.factors.items():
            if name not in values:
                refused[name] = "the model has no such value"
            elif (reason := self._why_not(topology, values[name], factor)) is not None:
                refused[name] = reason
            else:
                readers = readers_of(topology, values[name])
                products[name] = tuple(str(node.name) for node in readers.nodes) if readers is not None else ()
                if (mul := self._scale(topology, values[name], factor)) is not None:
                    inserted[name] = mul
        drop_unused(model.graph)
        return ScaleResult(model, len(refused) < len(self.factors), refused, inserted, products)

    def _why_not(self, topology: Topology, value: ir.Value, factor: Array) -> str | None:
        readers = readers_of(topology, value)
        if readers is None:
            return "no product reads it by constant weights, or its products disagree on what a channel is"
        if factor.shape != (readers.channels,):
            return f"it has {readers.channels} channels, but there are {factor.size} factors"
        return None if np.isfinite(factor).all() and (factor > 0).all() else "its factors must be positive and finite"

    def _scale(self, topology: Topology, value: ir.Value, factor: Array) -> str | None:
        """Scale one value; returns the name of the Mul if one had to be inserted."""
        readers = readers_of(topology, value)
        assert readers is not None
        inverse = 1 / factor.astype(np.float64)
        into = taken_in(topology, value, inverse, readers.axis) if readers.are_all else None
        mul = None
        if into is None:
            mul = self._divide(topology.graph, value, inverse, readers.axis, readers.nodes)
        for edit in (*(into or ()), *readers.edits(factor)):
            self._apply(edit)
        return mul

    def _divide(self, graph: ir.Graph, value: ir.Value, inverse: Array, axis: int, readers: tuple[ir.Node, ...]) -> str:
        rank = len(value.shape) if value.shape is not None else axis + 1
        array = inverse.reshape((-1,) + (1,) * (rank - 1 - axis)).astype(np.float32)
        scale = self.editor.constant(f"{value.name}/channels.scale", array)
        scaled = self.editor.value(f"{value.name}/scaled", value)
        node = ir.node("Mul", [value, scale], outputs=[scaled], name=self.editor.names.new(f"{value.name}/scale"))
        graph.insert_before(readers[0], node)
        for reader in readers:
            reader.replace_input_with(0, scaled)
        return str(node.name)

    def _apply(self, edit: Edit) -> None:
        weight = edit.node.inputs[edit.index]
        assert weight is not None
        made = self.editor.derived(
            weight,
            ("scaled", fingerprint([edit.factor.tobytes().hex()])),
            f"{weight.name}/scaled",
            lambda array: (array.astype(np.float64) * edit.factor).astype(array.dtype),
        )
        edit.node.replace_input_with(edit.index, made)
