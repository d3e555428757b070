"""What one layer of a built engine computes and moves, read off its tensors: matrix products and bytes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isqrt, prod
from typing import Literal

from autoprec.backends.tensorrt.records import EngineLayer, LayerTensor, Shape
from autoprec.errors import BackendError

Role = Literal["convolution", "deconvolution", "matmul", "attention", "other", "none"]

_NO_KERNEL = frozenset({"signal", "wait", "shape_call", "noop", "constant"})
_BYTES = {
    "int64": 8,
    "fp32": 4,
    "int32": 4,
    "fp16": 2,
    "bf16": 2,
    "fp8": 1,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
    "int4": 0.5,
    "nvfp4": 0.5,
    "e8m0": 1,
}
_MATMUL = re.compile(r"gemm|matrixmultiply|matmul|fullyconnected")


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """`count` matrix products, each (rows, depth) by (depth, columns).

    Attributes:
        rows: the rows of the product; for a convolution the pixels of its output.
        columns: the columns of the product; for a convolution the output channels of one group.
        depth: products summed for one element of the output.
        count: groups of a convolution, matrices of a batched product.
        dtype: the type of the wider operand, as `LayerTensor.dtype`.
    """

    rows: int
    columns: int
    depth: int
    count: int
    dtype: str

    @property
    def flops(self) -> int:
        """Additions and multiplications."""
        return 2 * self.rows * self.columns * self.depth * self.count


def role_of(layer: EngineLayer) -> Role:
    """What kind of work a layer is; "none" launches no kernel."""
    kind, text = layer.kind.lower(), f"{layer.kind} {layer.operation}".lower()
    if kind in _NO_KERNEL:
        return "none"
    if "_gemm_mha" in layer.name or "mha" in kind:
        return "attention"
    if kind == "runtime_fusion":  # TensorRT-RTX names these by their operations: __myl_CorrMulAddRelu_myl0_2
        return "convolution" if "Corr" in layer.name else "matmul"
    if "deconv" in text:
        return "deconvolution"
    if "conv" in text or kind == "correlation":
        return "convolution"
    return "matmul" if _MATMUL.search(text) else "other"


def products_of(layer: EngineLayer) -> tuple[Product, ...]:
    """The matrix products of a layer; none where it has none, or where the engine does not list their operands.

    Raises:
        BackendError: a tensor has no fixed shape.
    """
    require_shapes(layer)
    role = role_of(layer)
    if not layer.inputs or not layer.outputs:
        return ()
    if role in ("convolution", "deconvolution"):
        return _convolution(layer, transposed=role == "deconvolution")
    if role == "matmul":
        return _matmul(layer)
    return _attention(layer) if role == "attention" else ()


def bytes_of(layer: EngineLayer) -> int:
    """Bytes that a layer reads and writes at the least: each input, output and weight once.

    Of a constant that no product uses, such as an embedding table, no more elements count than the layer writes.

    Raises:
        BackendError: a tensor has no fixed shape.
    """
    require_shapes(layer)
    moved = sum(_elements(t) * _BYTES.get(t.dtype, 4.0) for t in (*layer.inputs, *layer.outputs))
    written = max((_elements(t) for t in layer.outputs), default=0)
    is_product = role_of(layer) in ("convolution", "deconvolution", "matmul")
    for constant in layer.constants:
        read = _elements(constant) if is_product else min(_elements(constant), written)
        moved += read * _BYTES.get(constant.dtype, 4.0)
    return ceil(moved)


def require_shapes(layer: EngineLayer) -> None:
    """Refuse a layer whose shapes the engine knows only when it runs.

    Raises:
        BackendError: a tensor has no fixed shape.
    """
    for tensor in (*layer.inputs, *layer.outputs, *layer.constants):
        if any(dim < 0 for dim in tensor.shape):
            raise BackendError(
                f"the latency of an engine can be modelled only for fixed shapes, but {tensor.name!r} of layer "
                f"{layer.name!r} has the shape {list(tensor.shape)}; build with one shape for each input"
            )


def _convolution(layer: EngineLayer, transposed: bool) -> tuple[Product, ...]:
    """Weights are (out, in / group, ...), of a transposed convolution (in, out / group, ...).

    A transposed one is a product over the pixels of its input. TensorRT before 10 lists only how many weights there
    are; then groups cannot be told and the layer counts as one product of the same work.
    """
    image, result = layer.inputs[0], layer.outputs[0]
    over, other = (image, result) if transposed else (result, image)
    weight = _weight(layer, least=_channels(over))
    if weight is None:
        return ()
    dtype = _wider(image, weight)
    pixels = _elements(over) // _channels(over)
    if len(weight.shape) < 3:
        depth, columns = _elements(weight) // _channels(over), _channels(over)
        return (
            Product(rows=pixels, columns=depth, depth=columns, count=1, dtype=dtype)
            if transposed
            else Product(rows=pixels, columns=columns, depth=depth, count=1, dtype=dtype),
        )
    groups = max(1, _channels(other) // max(1, weight.shape[1]))
    inside, taps = _channels(over) // groups, prod(weight.shape[1:])
    return (
        Product(rows=pixels, columns=taps, depth=inside, count=groups, dtype=dtype)
        if transposed
        else Product(rows=pixels, columns=inside, depth=taps, count=groups, dtype=dtype),
    )


def _matmul(layer: EngineLayer) -> tuple[Product, ...]:
    result = layer.outputs[0]
    weight = max((c for c in layer.constants if _elements(c) > 1), key=_elements, default=None)
    columns = None if weight is None else _columns(result.shape, weight.shape)
    if weight is not None and columns is not None:
        depth = prod(weight.shape[-2:]) // columns
        rows = _elements(result) // columns
        return (Product(rows=rows, columns=columns, depth=depth, count=1, dtype=_wider(layer.inputs[0], weight)),)
    if len(layer.inputs) < 2 or len(result.shape) < 2:
        return ()
    left, right = layer.inputs[:2]
    count = prod(result.shape[:-2])
    shared = min(prod(left.shape[:-2]), prod(right.shape[:-2]))
    # (batch * M * K) * (batch * K * N) = batch * K^2 * (batch * M * N), whichever operand lies transposed.
    depth = isqrt(_elements(left) * _elements(right) // max(1, _elements(result) * shared))
    return (
        Product(
            rows=result.shape[-2], columns=result.shape[-1], depth=max(1, depth), count=count, dtype=_wider(left, right)
        ),
    )


def _attention(layer: EngineLayer) -> tuple[Product, ...]:
    """Queries by keys, then weights by values; the keys may lie transposed."""
    if len(layer.inputs) < 2 or len(layer.inputs[0].shape) < 2:
        return ()
    queries, keys = layer.inputs[:2]
    count, length, width = prod(queries.shape[:-2]), queries.shape[-2], queries.shape[-1]
    others = _elements(keys) // max(1, prod(keys.shape[:-2]) * width)
    values = layer.outputs[0].shape[-1]
    dtype = _wider(queries, keys)
    return Product(rows=length, columns=others, depth=width, count=count, dtype=dtype), Product(
        rows=length, columns=values, depth=others, count=count, dtype=dtype
    )


def _weight(layer: EngineLayer, least: int) -> LayerTensor | None:
    """The operand that holds the weights: a constant, or an input where an earlier layer made it."""
    constant = max(layer.constants, key=_elements, default=None)
    if constant is not None and _elements(constant) > least:
        return constant
    return next((t for t in layer.inputs[1:] if len(t.shape) >= 3), None)


def _columns(result: Shape, weight: Shape) -> int | None:
    """Which dimension of the result the weight makes, given as (depth, columns), (columns, depth) or a count."""
    matrix = weight[-2:] if len(weight) > 1 else ()
    for dim in result[:-3:-1]:
        if dim > 1 and dim in matrix:
            return dim
    if len(weight) == 1:
        return next((dim for dim in reversed(result) if dim > 1 and weight[0] % dim == 0), None)
    return 1 if 1 in result[-2:] and 1 in matrix else None


def _wider(left: LayerTensor, right: LayerTensor) -> str:
    """The type that a product of two operands is computed in."""
    known = [dtype for dtype in (left.dtype, right.dtype) if dtype]
    return max(known, key=lambda dtype: _BYTES.get(dtype, 4), default="fp32")


def _channels(tensor: LayerTensor) -> int:
    return tensor.shape[1] if len(tensor.shape) > 1 and tensor.shape[1] > 0 else 1


def _elements(tensor: LayerTensor | Sequence[int]) -> int:
    return prod(tensor.shape if isinstance(tensor, LayerTensor) else tensor)
