"""ONNX files as protobuf messages: reading them with the weights that lie beside them, and running the checker."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
import onnx_ir as ir

from autoprec.errors import ModelError

PROTOBUF_LIMIT_BYTES = 1_900_000_000
"""The most bytes of weights in one message. Protobuf allows 2 GiB for the whole message; the rest is for the graph."""

_LARGE_WEIGHT_BYTES = 4096  # smaller ones stay in the checked message, since they may be shapes or axes


def fits_one_message(sizes: Iterable[int]) -> bool:
    """Return whether weights of these sizes in bytes fit into one protobuf message."""
    return sum(sizes) < PROTOBUF_LIMIT_BYTES


def read_proto(file: Path) -> onnx.ModelProto:
    """Read an ONNX file without the weights that lie beside it.

    Raises:
        ModelError: there is no such file, it cannot be read, or it is not a whole ONNX model.
    """
    if file.is_dir():
        raise ModelError(f"{file} is a folder; give the path of the ONNX file in it")
    if not file.is_file():
        raise ModelError(f"no such file: {file}; give the path of an ONNX model")
    try:
        proto = onnx.load(str(file), format="protobuf", load_external_data=False)
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}; check its permissions") from error
    except Exception as error:  # protobuf raises its own errors, whose classes differ between its versions
        raise ModelError(
            f"{file} is not an ONNX model, or it is truncated ({type(error).__name__}); export it again"
        ) from error
    # Protobuf accepts many files of other kinds, and a truncated one may end between two fields.
    if not proto.graph.node or not proto.opset_import:
        raise ModelError(f"{file} is not an ONNX model, or it is truncated: it holds no graph; export it again")
    if not proto.graph.name:  # the checker wants a name, although no runtime does
        proto.graph.name = file.stem or "graph"
    return proto


def load_external(proto: onnx.ModelProto, file: Path) -> None:
    """Read the weights that lie beside the model into `proto`.

    Raises:
        ModelError: the file of a weight is missing, is truncated, or lies outside the folder of the model.
    """
    for tensor in _tensors(proto.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_external(tensor, file)
    try:
        onnx.load_external_data_for_model(proto, str(file.parent))
    except Exception as error:
        raise ModelError(f"the weights of {file} cannot be read: {first_line(error)}") from error


def _check_external(tensor: onnx.TensorProto, file: Path) -> None:
    """Check where a weight lies; a model from a stranger must not read files outside its own folder."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location, folder = entries.get("location", ""), file.parent
    data, text = folder / location, f"{file} keeps weight {tensor.name!r} in the file {location!r}"
    if not location or Path(location).is_absolute() or ".." in Path(location).parts:
        raise ModelError(f"{text}, but it must lie in the model's folder; export the model again")
    if not data.is_file():
        raise ModelError(f"{text}, which is missing; put it beside the model")
    if folder.resolve() not in data.resolve().parents or data.stat().st_nlink > 1:
        raise ModelError(f"{text}, which is a link to elsewhere; put a copy beside the model")
    needed = _bytes_of(tensor)
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", needed))
    except ValueError as error:
        raise ModelError(f"{text} at an unreadable place; export the model again") from error
    if length < needed or offset < 0:
        raise ModelError(f"{text}, but {length} bytes from {offset} cannot be its {needed}; export the model again")
    if data.stat().st_size < offset + length:
        raise ModelError(f"the weight file {location!r} of {file} is truncated; copy it again")


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of the graph and of the bodies inside it."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)  # an attribute without a tensor gives an empty message
            for body in (attribute.g, *attribute.graphs):
                yield from _tensors(body)


def _bytes_of(tensor: onnx.TensorProto) -> int:
    bits: int = math.prod(tensor.dims) * ir.DataType(tensor.data_type).bitwidth
    return -(-bits // 8)  # rounded up: types of 4 bits are packed


def check_proto(proto: onnx.ModelProto, full_check: bool = False) -> None:
    """Run the ONNX checker, which raises errors of its own.

    The checker serialises the model, which must fit into one message. If it does not, its large weights are declared
    as inputs instead, which leaves everything else to be checked.

    Args:
        proto: the model with all of its weights.
        full_check: whether types and shapes are inferred and compared too.
    """
    numeric = [tensor for tensor in proto.graph.initializer if tensor.data_type != onnx.TensorProto.STRING]
    if not fits_one_message(map(_bytes_of, numeric)):
        proto = _as_inputs(proto, [tensor for tensor in numeric if _bytes_of(tensor) > _LARGE_WEIGHT_BYTES])
    onnx.checker.check_model(proto, full_check=full_check)


def _as_inputs(proto: onnx.ModelProto, moved: list[onnx.TensorProto]) -> onnx.ModelProto:
    """Return a model that declares the initializers `moved` as inputs."""
    graph, names = proto.graph, {tensor.name for tensor in moved}
    kept = [tensor for tensor in graph.initializer if tensor.name not in names]
    inputs = [value for value in graph.input if value.name not in names]
    for tensor in moved:
        dims = [onnx.TensorShapeProto.Dimension(dim_value=size) for size in tensor.dims]
        shape = onnx.TensorShapeProto(dim=dims)
        kind = onnx.TypeProto(tensor_type=onnx.TypeProto.Tensor(elem_type=tensor.data_type, shape=shape))
        inputs.append(onnx.ValueInfoProto(name=tensor.name, type=kind))
    slim = onnx.GraphProto(
        name=graph.name,
        node=graph.node,
        initializer=kept,
        input=inputs,
        output=graph.output,
        value_info=graph.value_info,
    )
    return onnx.ModelProto(
        ir_version=max(proto.ir_version, 4), opset_import=proto.opset_import, graph=slim, functions=proto.functions
    )


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its class if it has none; ONNX adds many lines of details."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
