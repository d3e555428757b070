"""Which engine layer computes an ONNX node, and on which numbers: read from the layer's tensors, not from its name."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from autoprec.backends.protocol import RanAs
from autoprec.backends.tensorrt.records import EngineLayer, LayerTensor
from autoprec.precision import Precision

_NUMBERS = {p.value: p for p in Precision}

_MOVING = frozenset(
    {
        "reformat",
        "noop",
        "cast",
        "copy",
        "quantize",
        "dequantize",
        "shuffle",
        "constant",
        "slice",
        "reshape",
        "concatenation",
        "concat",
        "gather",
        "padding",
    }
)
_LINEAR = re.compile(
    r"conv(?!ert)|correlation|gemm|matmul|matrixmultiply|fullyconnected|runtime_fusion|mha|attention", re.IGNORECASE
)
_CONVOLUTION = re.compile(r"(?<!de)conv(?!ert)|correlation|_myl_Corr", re.IGNORECASE)
# Myelin names a generated kernel after what it strings together: "__myl_CorrMulAddRelu", "_gemm_mha_v2".
_LINEAR_KERNEL = re.compile(r"Corr|Fc|Deco|gemm|mha|Bmm")
_KERNEL_STEPS = re.compile(r"__myl_((?:[A-Z][a-z]+)+)_myl\d")
_MOVING_STEPS = frozenset({"Slic", "Repl", "Conc", "Resh", "Tran", "Move", "Cast", "Gath"})
_QUANTIZING_STEPS = frozenset({"Mul", "Min", "Max", "Roun"})
_WRITTEN_CONVERSION = re.compile(r"/(quantize|dequantize|unpack|to_(fp32|fp16|bf16))(\.(fp8|per_channel))*$")


def ran_as(layers: Sequence[EngineLayer], nodes: Sequence[str]) -> dict[str, RanAs]:
    """What each named node became.

    A linear layer counts as 8-bit where its main input is 8-bit and its weights, if it lists them, are too; other
    layers where all their tensors have one type. A layer that mixes types, or an opaque block of many nodes, has
    no precision: None.

    Args:
        layers: the layers of one engine.
        nodes: names of ONNX nodes in topological order; those that no layer speaks of are left out of the result.
    """
    covering: dict[str, list[EngineLayer]] = {}
    for layer in fill_nodes(layers, nodes):
        for name in layer.nodes:
            covering.setdefault(name, []).append(layer)
    return {name: _ran(min(covering[name], key=_remoteness(name)), name) for name in nodes if name in covering}


def fill_nodes(layers: Sequence[EngineLayer], known: Iterable[str]) -> tuple[EngineLayer, ...]:
    """The layers; where one lists no ONNX nodes, with those that its name speaks of ("conv1 + relu1").

    Args:
        layers: the layers of one engine.
        known: names of the ONNX nodes in topological order. "{ForeignNode[a...b]}" stands for all of them from a
            to b that no other layer speaks of; where a or b is a constant or a layer that TensorRT made, and this is
            the only such block, for all that are left.
    """
    order = tuple(known)
    find = _finder(order)
    found = [layer.nodes or (() if is_moving(layer) else find(layer.name)) for layer in layers]
    spans = {i for i, layer in enumerate(layers) if not layer.nodes and is_opaque(layer) and len(found[i]) > 1}
    elsewhere = {name for i, names in enumerate(found) if i not in spans for name in names}
    place = {name: index for index, name in enumerate(order)}
    for i in spans:
        ends = [place[name] for name in found[i]]
        found[i] = tuple(name for name in order[min(ends) : max(ends) + 1] if name not in elsewhere)
    open_ended = [i for i, layer in enumerate(layers) if i not in spans and not layer.nodes and _is_span(layer)]
    if len(open_ended) == 1:
        claimed = {name for i, names in enumerate(found) if i != open_ended[0] for name in names}
        found[open_ended[0]] = tuple(name for name in order if name not in claimed)
    return tuple(replace(layer, nodes=names) for layer, names in zip(layers, found, strict=True))


def is_moving(layer: EngineLayer) -> bool:
    """Whether the layer's kind says that it only moves or converts data, as reformats, casts and copies do."""
    return layer.kind.lower() in _MOVING or layer.name.startswith("Reformatting CopyNode")


def is_conversion(layer: EngineLayer) -> bool:
    """Whether the layer computes nothing: it moves or converts data, whatever its kind."""
    conversions = [is_written_conversion(name) for name in layer.nodes]
    if is_moving(layer) or all(conversions):
        return True
    steps = _KERNEL_STEPS.match(layer.name)
    allowed = _MOVING_STEPS | _QUANTIZING_STEPS if any(conversions) else _MOVING_STEPS
    return steps is not None and set(re.findall("[A-Z][a-z]+", steps[1])) <= allowed


def is_written_conversion(node: str) -> bool:
    """Whether the node is a cast or a Q/DQ that lowering put into the model."""
    return _WRITTEN_CONVERSION.search(node) is not None


def is_opaque(layer: EngineLayer) -> bool:
    """Whether the layer is a block that TensorRT's graph compiler runs as a whole, "{ForeignNode[a...b]}"."""
    return layer.kind.lower() == "myelin" or "ForeignNode[" in layer.name


def _is_span(layer: EngineLayer) -> bool:
    return is_opaque(layer) and "..." in layer.name


def is_linear(layer: EngineLayer) -> bool:
    """Whether the layer is a convolution or matrix product, with what was fused into it."""
    if is_opaque(layer):
        return False
    generated = layer.kind == "kgen" and layer.name.startswith("_") and _LINEAR_KERNEL.search(layer.name) is not None
    return generated or _LINEAR.search(layer.kind) is not None


def _finder(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Finds known names inside a layer's name: whole ones, and of two that fit the longer."""
    if not known:
        return lambda _: ()
    names = "|".join(re.escape(name) for name in sorted(known, key=len, reverse=True) if name)
    pattern = re.compile(rf"(?:^|(?<=[ (\[,+|])|(?<=\.\.\.))(?:{names})(?=$|[ )\],+|]|\.\.\.|_myl\d)")
    return lambda text: tuple(dict.fromkeys(pattern.findall(text)))


def _remoteness(node: str) -> Callable[[EngineLayer], tuple[int, bool]]:
    """Orders the layers that speak of a node: where it is computed first, where only its bias is added later.

    A quantised convolution is a "correlation" and a generated kernel for its scale and bias; both name it.
    """

    def key(layer: EngineLayer) -> tuple[int, bool]:
        idle = is_moving(layer) or not (layer.inputs or layer.outputs)
        return 0 if is_linear(layer) else 1 + idle, node not in layer.name

    return key


def _ran(layer: EngineLayer, node: str) -> RanAs:
    precision = precision_of(layer)
    beside = tuple(name for name in layer.nodes if name != node)
    quantized = precision is not None and precision.is_quantized
    return RanAs(
        operator=layer.operation or layer.kind,
        quantized=quantized,
        precision=precision,
        layer=layer.name,
        tactic=layer.tactic,
        beside=beside,
    )


def precision_of(layer: EngineLayer) -> Precision | None:
    """The numbers that the layer computes on; None where its tensors do not tell."""
    if is_opaque(layer) and sum(not is_written_conversion(name) for name in layer.nodes) != 1:
        return None
    if is_linear(layer) or is_opaque(layer):
        return _of_product(layer)
    return _of_others(layer)


def _of_product(layer: EngineLayer) -> Precision | None:
    """TF32 is FP32 here, as TensorRT lists it so."""
    if (blocks := _of_blocks(layer)) is not None:
        return blocks
    convolution = _CONVOLUTION.search(layer.kind) is not None or "_myl_Corr" in layer.name
    if not convolution and _reads_codes_of_weights(layer):
        return Precision.INT8_WEIGHTS
    weights = [t for t in layer.constants if t.dtype in _NUMBERS and (convolution or _is_matrix(t))]
    inputs = [_NUMBERS[t.dtype] for t in layer.inputs if t.dtype in _NUMBERS]
    weight = max(weights, key=lambda t: (_elements(t), -_NUMBERS[t.dtype].bits), default=None)
    factors = inputs[:1] if convolution or weight is not None else inputs[:2]
    if not factors:
        return None
    found = max(factors, key=lambda p: p.bits)
    if found.is_quantized and weight is not None and not _NUMBERS[weight.dtype].is_quantized:
        return _NUMBERS[weight.dtype]
    return found


def _of_blocks(layer: EngineLayer) -> Precision | None:
    """The format of weights of 4 bits that the product itself dequantises, by the number of its scales; else None."""
    codes = max((t for t in layer.constants if t.dtype == "int4"), key=_elements, default=None)
    if codes is None:
        return None
    sizes = {_elements(codes) / _elements(t) for t in layer.constants if t.dtype in _NUMBERS and _elements(t)}
    return next((p for p in Precision if p.block in sizes and not p.has_zero_points), None)


def _reads_codes_of_weights(layer: EngineLayer) -> bool:
    """Whether a product of floats has a matrix of 8-bit codes inside."""
    floats = [t for t in layer.inputs if t.dtype in _NUMBERS]
    weights = max((t for t in layer.constants if _is_matrix(t)), key=_elements, default=None)
    codes = weights is not None and weights.dtype == Precision.INT8.value
    return codes and len(floats) > 0 and not any(_NUMBERS[t.dtype].is_quantized for t in floats)


def _of_others(layer: EngineLayer) -> Precision | None:
    inputs = [_NUMBERS[t.dtype] for t in layer.inputs if t.dtype in _NUMBERS]
    if not inputs:
        return _of_lookup(layer)
    if "pool" in layer.kind.lower():
        return inputs[0]
    if _converts(layer):
        return None
    types = {*inputs, *(_NUMBERS[t.dtype] for t in layer.outputs if t.dtype in _NUMBERS)}
    return types.pop() if len(types) == 1 else None


def _of_lookup(layer: EngineLayer) -> Precision | None:
    """The type of the table that indices look up; None where TensorRT itself quantised it for the next layer."""
    tables = [t for t in layer.constants if t.dtype in _NUMBERS]
    conversions = [name for name in layer.nodes if is_written_conversion(name)]
    alone = len(layer.nodes) - len(conversions) <= 1
    if not tables or (_converts(layer) and not alone):
        return None
    found = _NUMBERS[max(tables, key=_elements).dtype]
    asked = not conversions or any("/dequantize" in name for name in conversions)
    return found if asked or not found.is_quantized else None


def _converts(layer: EngineLayer) -> bool:
    """Whether it may compute in a type that none of its tensors has, as it converts on the way."""
    written = any(is_written_conversion(name) for name in layer.nodes)
    return written or (layer.kind == "kgen" and "Cast" in layer.name)


def _is_matrix(tensor: LayerTensor) -> bool:
    return tensor.name == "Weights" or sum(dim != 1 for dim in tensor.shape) > 1


def _elements(tensor: LayerTensor) -> int:
    return math.prod(abs(dim) for dim in tensor.shape)
