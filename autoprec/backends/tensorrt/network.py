"""From an ONNX model to TensorRT's network: parsing, the shapes of inputs, and precisions layer by layer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from autoprec.backends.tensorrt.bindings import Bindings
from autoprec.backends.tensorrt.inspector import sources_of
from autoprec.backends.tensorrt.records import ShapeProfile
from autoprec.backends.tensorrt.request import ParserError
from autoprec.errors import BackendError
from autoprec.files.onnx_message import ROOT

_FLOAT_TYPES = ("FLOAT", "HALF")
_TYPE_OF = {"fp32": "FLOAT", "fp16": "HALF"}
# Their types follow from what they are, and TensorRT refuses or ignores a precision for them.
_UNTYPED_LAYERS = frozenset(
    {
        "ASSERTION",
        "CAST",
        "CONDITION",
        "CONDITIONAL_INPUT",
        "CONDITIONAL_OUTPUT",
        "CONSTANT",
        "DEQUANTIZE",
        "FILL",
        "ITERATOR",
        "LOOP_OUTPUT",
        "QUANTIZE",
        "RECURRENCE",
        "SHAPE",
        "TRIP_LIMIT",
    }
)
_UNNAMED = "(Unnamed Layer*"
_REPEATED = re.compile(r"_\d+$")


class ModelRefused(Exception):
    """TensorRT's parser refused the model; `errors` are its words."""

    def __init__(self, errors: tuple[ParserError, ...]) -> None:
        super().__init__("the parser refused the model")
        self.errors = errors


class Named(Protocol):
    """A member of one of TensorRT's enums."""

    name: str


class Tensor(Protocol):
    """An edge of TensorRT's network."""

    dtype: Named
    is_shape_tensor: bool
    is_network_output: bool
    name: str
    dynamic_range: tuple[float, float]


class Layer(Protocol):
    """A layer of TensorRT 8.6's network."""

    name: str
    metadata: str
    type: Named
    precision: Any
    num_outputs: int

    def get_output(self, index: int) -> Tensor | None:
        """An output."""

    def set_output_type(self, index: int, dtype: Any) -> None:
        """Ask for the type of an output."""


def parse_model(bindings: Bindings, network: Any, logger: Any, model: bytes) -> None:
    """Fill a network from a serialised ONNX model.

    Raises:
        ModelRefused: the parser refused it.
        BackendError: the bytes hold no graph.
    """
    parser = bindings.module.OnnxParser(network, logger)
    # Weights in files are placed relative to the root, and the parser looks for them beside this path.
    if not (parser.parse(model, f"{ROOT}model.onnx") if b"location" in model else parser.parse(model)):
        raise ModelRefused(tuple(_parser_error(parser.get_error(number)) for number in range(parser.num_errors)))
    if network.num_layers == 0 or network.num_outputs == 0:  # nothing at all parses without an error
        raise BackendError("the ONNX model must have nodes and outputs, and TensorRT finds none in it; export it again")


def _parser_error(error: Any) -> ParserError:
    def text(name: str) -> str:
        return str(getattr(error, name, str)())  # TensorRT 8.6 knows only the number of the node

    # "ErrorCode.UNSUPPORTED_NODE"; its `name` is a method in 8.6 and a text elsewhere.
    code = str(error.code()).rpartition(".")[2]
    return ParserError(code, error.desc(), text("node_name"), text("node_operator"))


def set_shapes(network: Any, profile: Any, shapes: Mapping[str, ShapeProfile]) -> bool:
    """Give an optimization profile the shapes of all inputs that need them; returns whether there are any.

    Args:
        network: parsed.
        profile: the profile of TensorRT's builder.
        shapes: input name -> shapes; of an input that holds a shape, its values.

    Raises:
        BackendError: an input has no shapes, or shapes that it cannot take.
    """
    inputs = [network.get_input(number) for number in range(network.num_inputs)]
    names = [tensor.name for tensor in inputs]
    for name in shapes:
        if name not in names:
            raise BackendError(f"shapes are given for {name!r}; the model's inputs are {', '.join(names)}")
    needed = False
    for tensor in inputs:
        dims, given = tuple(tensor.shape), shapes.get(tensor.name)
        if tensor.is_shape_tensor:
            needed = True
            given = _required(tensor.name, given, "holds a shape, so the values")
            _check_order(tensor.name, given)
            profile.set_shape_input(tensor.name, given.least, given.best, given.largest)
        elif -1 in dims:
            needed = True
            given = _required(tensor.name, given, f"has the dynamic shape {_sizes(dims)}, so the shapes")
            check_shapes(tensor.name, dims, given)
            profile.set_shape(tensor.name, given.least, given.best, given.largest)
        elif given is not None:
            check_shapes(tensor.name, dims, given)
    return needed


def _required(name: str, given: ShapeProfile | None, what: str) -> ShapeProfile:
    if given is None:
        raise BackendError(
            f"the input {name!r} {what} that the engine must take have to be said; give the least, the best and "
            "the largest"
        )
    return given


def check_shapes(name: str, dims: Sequence[int], given: ShapeProfile) -> None:
    """Check the shapes of one input against the model.

    Args:
        name: the input's.
        dims: its shape in the model, -1 where it is dynamic.
        given: the shapes to check.

    Raises:
        BackendError: another rank, another fixed dimension, no positive size, or not least <= best <= largest.
    """
    for shape in (given.least, given.best, given.largest):
        if len(shape) != len(dims) or any(d not in (-1, size) for d, size in zip(dims, shape, strict=True)):
            raise BackendError(
                f"the input {name!r} has the shape {_sizes(dims)} in the model and cannot be {_sizes(shape)}; give "
                "shapes that differ only where the model has a '?'"
            )
        if min(shape, default=1) < 1:
            raise BackendError(f"the sizes of the input {name!r} must be 1 or more, found {_sizes(shape)}")
    _check_order(name, given)


def _check_order(name: str, given: ShapeProfile) -> None:
    for index, (least, best, largest) in enumerate(zip(given.least, given.best, given.largest, strict=True)):
        if not least <= best <= largest:
            raise BackendError(
                f"the shapes of the input {name!r} must have least <= best <= largest, found {least}, {best}, "
                f"{largest} for axis {index}; put them in order"
            )


def _sizes(shape: Sequence[int]) -> str:
    return "(" + ", ".join("?" if size < 0 else str(size) for size in shape) + ")"


def has_quantization(layers: Sequence[Layer]) -> bool:
    """Whether any layer quantises or dequantises."""
    return any(layer.type.name in ("QUANTIZE", "DEQUANTIZE") for layer in layers)


def set_limits(network: Any, limits: Mapping[str, float]) -> int:
    """Give every value with a limit its range for INT8; returns how many have one.

    A value without a range stays in a float type.
    """
    tensors = [network.get_input(number) for number in range(network.num_inputs)]
    for layer in (network.get_layer(number) for number in range(network.num_layers)):
        tensors += [layer.get_output(number) for number in range(layer.num_outputs)]
    found = {t.name: t for t in tensors if t is not None and t.name in limits and t.dtype.name in _FLOAT_TYPES}
    for name, tensor in found.items():
        tensor.dynamic_range = (-limits[name], limits[name])
    return len(found)


def set_precisions(bindings: Bindings, layers: Sequence[Layer], precisions: Mapping[str, str]) -> int:
    """Ask TensorRT 8.6 for the precision of every layer of a node that must run in a float type.

    Only layers with float outputs are asked, and outputs of the network keep the type that callers expect. Beside
    8-bit layers a LayerNormalization is left to TensorRT: it computes that in FP32 there, and finds no engine at all
    where its weights must be FP16.

    Args:
        bindings: the bindings, of flavour "weak".
        layers: the layers of the parsed network, in order.
        precisions: ONNX node -> "fp32", "fp16", "int8" or "", for every node of the model.

    Returns:
        How many layers were asked.
    """
    asked = 0
    owners = layer_owners(layers, precisions)
    free: set[str | None] = set()
    if has_quantization(layers):
        free = {owner for layer, owner in zip(layers, owners, strict=True) if layer.type.name == "NORMALIZATION"}
    for layer, owner in zip(layers, owners, strict=True):
        wanted = _TYPE_OF.get(precisions.get(owner or "", ""))
        if wanted is None or owner in free or layer.type.name in _UNTYPED_LAYERS:
            continue
        outputs = [layer.get_output(number) for number in range(layer.num_outputs)]
        floats = [
            (number, tensor)
            for number, tensor in enumerate(outputs)
            if tensor is not None and tensor.dtype.name in _FLOAT_TYPES and not tensor.is_shape_tensor
        ]
        if not floats:
            continue
        dtype = bindings.require("DataType", wanted)
        layer.precision = dtype
        for number, tensor in floats:
            if not tensor.is_network_output:
                layer.set_output_type(number, dtype)
        asked += 1
    return asked


def layer_owners(layers: Sequence[Layer], nodes: Mapping[str, str]) -> list[str | None]:
    """The ONNX node that each layer was made for, None for constants and for layers of no node.

    The parser names a layer, or says in its metadata, which node it is for. It gives no name to helpers (such as
    the reshape before a broadcast), which it makes before the layer that bears the node's name.
    """
    owners: list[str | None] = []
    following: str | None = None
    for layer in reversed(layers):
        if layer.type.name == "CONSTANT":
            owners.append(None)
            continue
        named = _named_owner(layer, nodes)
        if named is not None or not layer.name.startswith(_UNNAMED):
            following = named
        owners.append(following)
    return owners[::-1]


def _named_owner(layer: Layer, nodes: Mapping[str, str]) -> str | None:
    candidates = [*sources_of(layer.metadata), layer.name]
    candidates.append(_REPEATED.sub("", layer.name))  # the second layer of "conv" is called "conv_0" or the like
    return next((name for name in candidates if name in nodes), None)
