"""ONNX files as protobuf messages: reading them with the weights that lie beside them, and running the checker."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import onnx
import onnx_ir as ir

from autoprec.errors import ModelError
from autoprec.files.onnx_message import ROOT, FilePart, OnnxMessage, refuse_no_onnx
from autoprec.graph.weight_files import LARGE_BYTES, WeightStore

PROTOBUF_LIMIT_BYTES = 1_900_000_000
"""The most bytes of weights in one message. Protobuf allows 2 GiB for the whole message; the rest is for the graph."""

INLINE_BYTES = 1 << 26
"""A model with at most so many bytes of weights is in memory as one; of a larger one, the weights stay in files."""

_WITHOUT_SIZE = (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED)
_ALIGNED_BYTES = 4096
_LARGE_WEIGHT_BYTES = 4096  # smaller ones stay in the checked message, since they may be shapes or axes


def fits_one_message(sizes: Iterable[int]) -> bool:
    """Return whether weights of these sizes in bytes fit into one protobuf message."""
    return sum(sizes) < PROTOBUF_LIMIT_BYTES


def read_proto(file: Path) -> onnx.ModelProto:
    """Read an ONNX file without the weights that lie beside it.

    Raises:
        ModelError: there is no such file, it cannot be read, or it is not a whole ONNX model.
    """
    refuse_no_onnx(file)
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


def place_weights(proto: onnx.ModelProto, file: Path) -> tuple[onnx.ModelProto, WeightStore | None]:
    """Read small weights that lie beside the model, and leave those of a large model in files.

    Of a large model the weights inside are written to a file too, so that nobody ever serialises all of it.

    Returns:
        The model, and the store of what it did not have in files; None for a model that is small enough to be in
        memory. External data is placed relative to the root of the file system.

    Raises:
        ModelError: the file of a weight is missing, is truncated, or lies outside the folder of the model.
    """
    tensors = list(tensors_of(proto))
    for tensor in tensors:
        if is_external(tensor):
            _check_external(tensor, file)
    try:
        if sum(map(_bytes_of, tensors)) <= INLINE_BYTES:
            onnx.load_external_data_for_model(proto, str(file.parent))
            return proto, None
        store = WeightStore()
        moved = [_place(tensor, file, store) for tensor in tensors]
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"the weights of {file} cannot be read: {first_line(error)}") from error
    if any(moved):  # protobuf frees what was cleared only with the whole message
        proto = onnx.ModelProto.FromString(proto.SerializeToString())
    return proto, store


def _place(tensor: onnx.TensorProto, file: Path, store: WeightStore) -> bool:
    """Place a weight relative to the root; returns whether it was moved out of the message."""
    large = _bytes_of(tensor) >= LARGE_BYTES
    if is_external(tensor):
        if not large:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(file.parent))
            _set_place(tensor, "")
            return False
        entries = {entry.key: entry.value for entry in tensor.external_data}
        path = os.path.abspath(file.parent / entries["location"])
        _set_place(tensor, path[len(ROOT) :], int(entries.get("offset", 0)))
        return False
    if not large:
        return False
    data = tensor.raw_data or onnx.numpy_helper.to_array(tensor).tobytes()
    if len(data) != _bytes_of(tensor):
        return False  # the checker will say so
    path = str(store.path)
    for field in ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
        tensor.ClearField(field)
    _set_place(tensor, path[len(ROOT) :], store.put_bytes(data))
    return True


def is_external(tensor: onnx.TensorProto) -> bool:
    """Return whether the data of a weight lies in a file."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def _set_place(tensor: onnx.TensorProto, location: str, offset: int = 0) -> None:
    """Say in which file the data of a weight lies, "" where it is inside the message."""
    del tensor.external_data[:]
    tensor.ClearField("data_location")
    if location:
        tensor.data_location = onnx.TensorProto.EXTERNAL
        place = {"location": location, "offset": str(offset), "length": str(_bytes_of(tensor))}
        tensor.external_data.extend(onnx.StringStringEntryProto(key=key, value=value) for key, value in place.items())


def _place_of(tensor: onnx.TensorProto) -> FilePart:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return FilePart(os.path.join(ROOT, entries["location"]), int(entries.get("offset", 0)), _bytes_of(tensor))


def serialize(proto: onnx.ModelProto, keeper: object = None) -> bytes:
    """Serialise a model; an OnnxMessage where some of its weights lie in files.

    Args:
        proto: the model, whose external data is placed relative to the root; it is used up.
        keeper: what must live as long as the message does.
    """
    message = bytes(proto.SerializeToString())
    outside = [tensor for tensor in tensors_of(proto) if is_external(tensor)]
    if not outside:
        return message
    parts = external_parts(proto)
    for tensor in outside:
        del tensor.external_data[:]
    return OnnxMessage.of(message, parts, bytes(proto.SerializeToString()), keeper)


def external_parts(proto: onnx.ModelProto) -> list[FilePart]:
    """Return the parts of files that hold weights."""
    return [_place_of(tensor) for tensor in tensors_of(proto) if is_external(tensor)]


def bring_inside(proto: onnx.ModelProto) -> None:
    """Read the weights that lie in files into the model, which must be able to hold them."""
    for tensor in tensors_of(proto):
        if is_external(tensor):
            data = b"".join(_place_of(tensor).blocks())
            _set_place(tensor, "")
            tensor.raw_data = data


def move_outside(proto: onnx.ModelProto, data: BinaryIO, location: str) -> None:
    """Write all weights but the smallest to one file, block by block.

    Args:
        proto: the model, whose weights are placed there afterwards.
        data: the file, empty.
        location: its name, as seen from the folder of the model.
    """
    for tensor in tensors_of(proto):
        if _bytes_of(tensor) < _LARGE_WEIGHT_BYTES:
            continue
        data.write(b"\0" * (-data.tell() % _ALIGNED_BYTES))  # runtimes map weights that begin at a page
        begin = data.tell()
        if is_external(tensor):
            for block in _place_of(tensor).blocks():
                data.write(block)
        else:
            data.write(tensor.raw_data or onnx.numpy_helper.to_array(tensor).tobytes())
            tensor.ClearField("raw_data")
        _set_place(tensor, location, begin)


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


def tensors_of(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every weight of the graph, of its attributes and of the bodies inside it; texts have no fixed size."""
    return (tensor for tensor in _tensors(proto.graph) if tensor.data_type not in _WITHOUT_SIZE)


def sizes_of(proto: onnx.ModelProto) -> Iterator[int]:
    """Yield the bytes of every weight, wherever it lies."""
    return map(_bytes_of, tensors_of(proto))


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

    The checker serialises the model, which must fit into one message. Large weights that do not, and those that lie in
    files, are declared as inputs instead, which leaves everything else to be checked.

    Args:
        proto: the model with all of its weights.
        full_check: whether types and shapes are inferred and compared too.
    """
    numeric = [tensor for tensor in proto.graph.initializer if tensor.data_type not in _WITHOUT_SIZE]
    inside = [tensor for tensor in numeric if not is_external(tensor)]
    moved = [tensor for tensor in numeric if is_external(tensor)]
    if not fits_one_message(map(_bytes_of, inside)):
        moved += [tensor for tensor in inside if _bytes_of(tensor) > _LARGE_WEIGHT_BYTES]
    proto = as_inputs(proto, moved)
    if any(map(is_external, tensors_of(proto))):  # in attributes and bodies, where the checker looks for the file
        proto = onnx.ModelProto.FromString(proto.SerializeToString())
        for tensor in tensors_of(proto):
            if is_external(tensor):
                _set_place(tensor, "")
                tensor.raw_data = b"\0"  # the checker wants data, and compares no sizes
    onnx.checker.check_model(proto, full_check=full_check)


def as_inputs(proto: onnx.ModelProto, moved: list[onnx.TensorProto]) -> onnx.ModelProto:
    """Return a model that declares the initializers `moved` as inputs; the same one where there are none."""
    if not moved:
        return proto
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
