"""What became of each node of a model in the graph that ONNX Runtime's optimiser made of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from autoprec.backends.ort_kernels import KernelOwners
from autoprec.backends.protocol import RanAs
from autoprec.precision import Precision

if TYPE_CHECKING:
    import onnx

_OF_BLOCKS = ("MatMulNBits", "GatherBlockQuantized")
"""The kernels that read weights of 4 or 8 bits in blocks."""
_QUANTIZED_PREFIXES = ("QLinear", "QGemm", "MatMulInteger", "ConvInteger", "DynamicQuantize", *_OF_BLOCKS)
_CONVERSIONS = ("Quantize", "Dequantize", "DynamicQuantizeLinear", "Reorder")
_QUANTIZES_INSIDE = "DynamicQuantizeMatMul"
"""The kernel of a product that quantises what it reads itself."""
_MAKES_CODES = ("QuantizeLinear", "QLinear")
_ZERO_POINTS = 3
"""Which input of these kernels the zero points are."""
_RANGES = ("DynamicQuantizeLinear",)
"""What finds the range of a tensor at run time, and quantises the tensor by it."""
_CHANGES_TYPE = frozenset({"DequantizeLinear", "Cast", "Shape", "Size", "ArgMax", "ArgMin"})
_CODE_TYPES = frozenset({2, 3})
"""UINT8 and INT8 as ONNX numbers the types of tensors."""
_FUSED_NODES = 8
"""So many nodes behind a product or convolution are looked through at most for what was fused into its kernel."""


def ran_as(optimised: onnx.GraphProto, model: onnx.GraphProto, nodes: Sequence[str]) -> dict[str, RanAs]:
    """The kernel that each named node became; nodes that the graph no longer speaks of are left out.

    Args:
        optimised: the graph that runs, as ONNX Runtime wrote it.
        model: the graph that it was made of.
        nodes: names of nodes of the model.
    """
    owners, codes = KernelOwners(nodes, model), _codes(optimised)
    ranged = {tensor for kernel in optimised.node if kernel.op_type in _RANGES for tensor in kernel.output[:1]}
    found: dict[str, RanAs] = {}
    fused: list[tuple[onnx.NodeProto, RanAs]] = []
    for kernel in optimised.node:
        if kernel.op_type.startswith(_CONVERSIONS):
            continue
        dynamic = kernel.op_type == _QUANTIZES_INSIDE or (kernel.input[:1] and kernel.input[0] in ranged)
        precision = Precision.INT8_DYNAMIC if dynamic else _of_weights(kernel)
        ran = RanAs(operator=kernel.op_type, quantized=_on_codes(kernel, codes), precision=precision)
        name = owners.of(kernel.name, kernel.output)
        if name is not None:
            found.setdefault(name, ran)
        if _family(kernel.op_type) and (name is None or _family(owners.operator(name)) != _family(kernel.op_type)):
            fused.append((kernel, ran))
    # A kernel that computes a product and what follows may be known by what follows alone.
    for kernel, ran in fused:
        wanted = _family(kernel.op_type)
        behind = (node for tensor in kernel.output for node in _before(model, owners.maker(tensor, kernel.name)))
        product = next((n for n in behind if n.name not in found and _family(n.op_type) == wanted), None)
        if product is not None and product.name in owners.nodes:
            found[product.name] = ran
    return found


def _codes(graph: onnx.GraphProto) -> frozenset[str]:
    """The tensors of 8-bit codes; those that the optimiser has added have no type in the graph, so it is followed."""
    found = {each.name for each in graph.initializer if each.data_type in _CODE_TYPES}
    found |= {each.name for each in (*graph.input, *graph.value_info) if each.type.tensor_type.elem_type in _CODE_TYPES}
    for kernel in graph.node:  # in the order in which they run
        keeps = kernel.op_type not in _CHANGES_TYPE and not kernel.op_type.startswith(_QUANTIZED_PREFIXES)
        if kernel.op_type.startswith(_MAKES_CODES) or (keeps and kernel.input[:1] and kernel.input[0] in found):
            found.update(kernel.output)
    return frozenset(found)


def _of_weights(kernel: onnx.NodeProto) -> Precision | None:
    """The format of the weights of a kernel that reads them in blocks; None for any other kernel."""
    sizes = {each.name: each.i for each in kernel.attribute}
    if kernel.op_type not in _OF_BLOCKS:
        return None
    if sizes.get("bits", 4) == Precision.INT8_WEIGHTS.bits:
        return Precision.INT8_WEIGHTS
    zeros = len(kernel.input) > _ZERO_POINTS and bool(kernel.input[_ZERO_POINTS])
    wanted = sizes.get("block_size"), zeros
    return next((p for p in Precision if p.block and (p.block, p.has_zero_points) == wanted), None)


def _on_codes(kernel: onnx.NodeProto, codes: frozenset[str]) -> bool:
    """Whether a kernel computes on 8-bit codes, or moves, pools or looks up some."""
    if kernel.op_type.startswith(_QUANTIZED_PREFIXES):
        return True
    read, made = kernel.input[:1], kernel.output[:1]
    return bool(read and made) and all(name in codes for name in (*read, *made))


def _family(operator: str) -> str:
    """Convolutions and products each have several kernels; "" for all else."""
    if "Conv" in operator:
        return "convolution"
    return "product" if "Gemm" in operator or "MatMul" in operator else ""


def _before(model: onnx.GraphProto, last: onnx.NodeProto | None) -> Iterator[onnx.NodeProto]:
    """The node and those before it, the nearest first."""
    makers = {tensor: node for node in model.node for tensor in node.output}
    front = [last] if last is not None else []
    seen: set[str] = set()
    while front and len(seen) < _FUSED_NODES:
        node = front.pop(0)
        if node.name in seen:
            continue
        seen.add(node.name)
        yield node
        front += [makers[tensor] for tensor in node.input if tensor in makers]
