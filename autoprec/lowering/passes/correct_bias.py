"""b  =>  b - (W_8bit - W) E[x]: the mean error that rounding the weights adds to each output channel, taken back.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction", section 4.2;
here E[x] comes from calibration data.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from autoprec.graph.constants import drop_unused
from autoprec.graph.topology import attribute_int, const_array, is_float
from autoprec.graph.weight_files import FileWeight
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.lowering_pass import LoweringPass
from autoprec.lowering.passes.quantize_blocks import grid_of
from autoprec.lowering.passes.quantize_weights import require_stored
from autoprec.lowering.placement import WeightPoint
from autoprec.precision import Array


class CorrectBiasPass(LoweringPass):
    """Correct the bias of every linear op whose weights were stored in 8 bits.

    Args:
        editor: the editor of the model.
        points: the weights that QuantizeWeightsPass stored.
        originals: node name -> its float weights, or the file that they lie in.
        means: value name -> mean of each channel over calibration data, float64[channels].

    Requires: QuantizeWeightsPass ran, and no type was assigned yet. Ensures: only biases changed; a Conv or
    Gemm without one gets one, a MatMul keeps none unless an Add of a constant follows it.
    """

    def __init__(
        self,
        editor: GraphEditor,
        points: Sequence[WeightPoint],
        originals: Mapping[str, Array | FileWeight],
        means: Mapping[str, Array],
    ) -> None:
        super().__init__(editor)
        self.points, self.originals, self.means = tuple(points), originals, means

    def requires(self, model: ir.Model) -> None:
        """Check that every point is stored in 8 bits, and that float values are FP32 still."""
        super().requires(model)
        nodes = {node.name: node for node in model.graph}
        for point in self.points:
            require_stored(nodes, point)
            if any(value.dtype in (ir.DataType.FLOAT16, ir.DataType.BFLOAT16) for value in nodes[point.node].outputs):
                raise ir.passes.PreconditionError(f"{point.node!r} must compute in FP32")

    def ensures(self, model: ir.Model) -> None:
        """Check that the weights are what they were: constants of 8 bits."""
        super().ensures(model)
        nodes = {node.name: node for node in model.graph}
        for point in self.points:
            require_stored(nodes, point, ir.passes.PostconditionError)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Correct the biases; the model is modified if one of them changed."""
        graph = model.graph
        nodes = {node.name: node for node in graph}
        modified = False
        for point in self.points:
            node = nodes[point.node]
            error = self._mean_error(node, point)
            if error is not None and np.isfinite(error).all() and np.any(error):
                modified |= _subtract(self.editor, node, error)
        drop_unused(graph)
        return ir.passes.PassResult(model, modified)

    def _mean_error(self, node: ir.Node, point: WeightPoint) -> Array | None:
        source = node.inputs[0]
        stored = node.inputs[1].producer() if node.inputs[1] is not None else None
        if point.index != 1 or point.after_gather or source is None or stored is None:
            return None
        mean, original = self.means.get(str(source.name)), self.originals[point.node]
        if mean is not None and (blocks := grid_of(node)) is not None:
            grid, of_blocks = blocks
            what = ("mean error", point, grid.scales.tobytes(), mean.tobytes())
            return self._once(original, what, lambda exact: channel_error(node, grid.values(of_blocks) - exact, mean))
        codes, scales = const_array(stored.inputs[0]), const_array(stored.inputs[1])
        if mean is None or codes is None or scales is None:
            return None

        def mean_error(exact: Array) -> Array | None:
            shape = [1] * codes.ndim
            if point.axis is not None:
                shape[point.axis] = -1
            error = codes.astype(np.float64) * scales.astype(np.float64).reshape(shape)
            error -= exact
            return channel_error(node, error, mean)

        return self._once(original, ("mean error", point, scales.tobytes(), mean.tobytes()), mean_error)

    def _once(
        self, original: Array | FileWeight, what: Hashable, make: Callable[[Array], Array | None]
    ) -> Array | None:
        """Return what `make` computes of the float weights, once for all plans where they lie in a file."""
        return self.editor.computed(original, what, make) if isinstance(original, FileWeight) else make(original)


def weights_of(graph: ir.Graph, points: Sequence[WeightPoint]) -> dict[str, Array | FileWeight]:
    """Node name -> its float weights; those in files are not read, since all of them may not fit into memory."""
    nodes = {node.name: node for node in graph}
    found: dict[str, Array | FileWeight] = {}
    for point in points:
        value = nodes[point.node].inputs[point.index]
        if value is not None and isinstance(value.const_value, FileWeight):
            found[point.node] = value.const_value
        elif (array := const_array(value)) is not None:
            found[point.node] = array
    return found


def channel_error(node: ir.Node, error: Array, mean: Array) -> Array | None:
    """Return the mean of op(x, error) for each output channel if x has the channel means `mean`.

    Padding is ignored: at the border of an image the correction is slightly too large.
    """
    if node.op_type == "Conv":
        groups = attribute_int(node, "group", 1)
        outputs, inputs = error.shape[:2]
        if outputs % groups or mean.size != inputs * groups:
            return None
        summed = error.reshape(groups, outputs // groups, inputs, -1).sum(-1)
        result: Array = np.einsum("goi,gi->go", summed, mean.reshape(groups, inputs)).reshape(-1)
        return result
    if node.op_type == "Gemm":
        matrix = error.T if attribute_int(node, "transB", 0) else error
        alpha = node.attributes["alpha"].as_float() if "alpha" in node.attributes else 1.0
        beta = node.attributes["beta"].as_float() if "beta" in node.attributes else 1.0
        if matrix.shape[0] != mean.size or not beta or attribute_int(node, "transA", 0):
            return None
        result = alpha * (mean @ matrix) / beta
        return result
    if node.op_type == "MatMul" and error.ndim == 2 and error.shape[0] == mean.size:
        result = mean @ error
        return result
    return None


def _subtract(editor: GraphEditor, node: ir.Node, error: Array) -> bool:
    if node.op_type == "MatMul":
        return _subtract_after(editor, node, error)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    array = const_array(bias)
    if bias is not None and (array is None or array.size not in (1, error.size)):
        return False
    if array is not None and array.size > 1 and array.shape[-1] != error.size:
        return False  # a Gemm's C may run along the rows
    old = np.zeros(error.size) if array is None else np.broadcast_to(array.reshape(-1), (error.size,))
    corrected = editor.constant(f"{node.name}/corrected.bias", (old - error).astype(np.float32))
    if len(node.inputs) < 3:
        node.resize_inputs(3)
    node.replace_input_with(2, corrected)
    return True


def _subtract_after(editor: GraphEditor, node: ir.Node, error: Array) -> bool:
    consumers = list(node.outputs[0].consumers())
    if len(consumers) != 1 or consumers[0].op_type not in ("Add", "Sub") or node.outputs[0].is_graph_output():
        return False
    add = consumers[0]
    index = 1 if add.inputs[0] is node.outputs[0] else 0
    array = const_array(add.inputs[index])
    if array is None or not is_float(add.inputs[index]) or array.size != error.size:
        return False
    if array.shape and array.shape[-1] != error.size:
        return False  # it runs along another axis than the products
    if add.op_type == "Sub":
        if index == 0:
            return False  # the product is what is taken away
        error = -error
    fixed = (array.astype(np.float64) - error.reshape(array.shape)).astype(np.float32)
    add.replace_input_with(index, editor.constant(f"{node.name}/corrected.bias", fixed))
    return True
