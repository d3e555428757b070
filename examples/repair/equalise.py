"""A repair: the channels between two convolutions are scaled until their weights have one range.

    Conv(W1, b1) -> Relu -> Conv(W2)   =>   Conv(W1 / s, b1 / s) -> Relu -> Conv(W2 * s)

Relu(x / s) = Relu(x) / s for s > 0, so the network computes what it did, while one scale for each tensor fits all
channels better. Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction",
section 4.1.

    python examples/repair/equalise.py examples/digits/digits.onnx
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir

from autoprec.backends.ort import OrtBackend
from autoprec.graph.model import load_model, to_bytes
from autoprec.graph.topology import attribute_int, const_array
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.lowering_pass import LoweringPass
from autoprec.precision import Array


class EqualisePass(LoweringPass):
    """Give the output channels of a convolution, and the input channels of the next one, weights of one range.

    Args:
        editor: the editor of the model.

    Requires: weights are FP32 still. Ensures: no shape changed, and only weights and biases are other ones.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Equalise each pair; the model is modified if there is one."""
        pairs = [pair for node in model.graph if (pair := _pair(node)) is not None]
        for first, second in pairs:
            self._equalise(first, second)
        return ir.passes.PassResult(model, modified=bool(pairs))

    def _equalise(self, first: ir.Node, second: ir.Node) -> None:
        before, after = _weights(first, 1), _weights(second, 1)
        scale = np.sqrt(_largest(before, 0) / _largest(after, 1)).astype(np.float32)
        column = scale.reshape(-1, 1, 1, 1)
        self._replace(first, 1, before / column)
        if len(first.inputs) > 2:
            self._replace(first, 2, _weights(first, 2) / scale)
        self._replace(second, 1, after * column.reshape(1, -1, 1, 1))

    def _replace(self, node: ir.Node, index: int, array: Array) -> None:
        node.replace_input_with(index, self.editor.constant(f"{node.name}/equalised.{index}", array))


def _pair(first: ir.Node) -> tuple[ir.Node, ir.Node] | None:
    """Return the convolution and the one behind its Relu, if nothing else reads what is between them."""
    second = _only_reader(_only_reader(first, "Relu"), "Conv") if first.op_type == "Conv" else None
    if second is None or attribute_int(second, "group", 1) != 1:
        return None
    known = all(const_array(value) is not None for node in (first, second) for value in node.inputs[1:])
    return (first, second) if known else None


def _only_reader(node: ir.Node | None, kind: str) -> ir.Node | None:
    if node is None or node.outputs[0].is_graph_output():
        return None
    readers = list(node.outputs[0].uses())
    return readers[0].node if len(readers) == 1 and readers[0].node.op_type == kind else None


def _weights(node: ir.Node, index: int) -> Array:
    array = const_array(node.inputs[index])
    assert array is not None
    return array


def _largest(weights: Array, axis: int) -> Array:
    others = tuple(other for other in range(weights.ndim) if other != axis)
    return np.maximum(np.abs(weights).max(axis=others), 1e-8)


def main(path: str) -> None:
    """Print what the repair does to the weights, and that the outputs stay what they were."""
    model = load_model(Path(path))
    spec = model.interface.inputs[0]
    x = np.random.default_rng(0).random([d if isinstance(d, int) else 4 for d in spec.shape]).astype(np.float32)
    repaired = model.ir.clone()
    found = EqualisePass(GraphEditor(repaired))(repaired)
    engines = [OrtBackend(threads=1).build(to_bytes(graph), exact=True) for graph in (model.ir, repaired)]
    one, two = (next(iter(engine.run({spec.name: x}).values())) for engine in engines)
    print(f"modified: {found.modified}; the outputs differ by at most {np.abs(one - two).max():.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
