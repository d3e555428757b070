"""Loading, checking and saving ONNX models, and what identifies one."""

from __future__ import annotations

import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir import Graph
from onnx_ir.passes import common as passes

from autoprec.errors import AutoprecError, ModelError, RunDirectoryError
from autoprec.files.json import write_bytes
from autoprec.graph.interface import Interface, TensorSpec
from autoprec.graph.topology import (
    FLOAT_TYPES,
    all_graphs,
    all_nodes,
    const_array,
    graph_fingerprint,
    type_by_schema,
    weights_fingerprint,
)

PROTOBUF_LIMIT_BYTES = 1_900_000_000
"""Above this, weights are saved beside the model: one protobuf message cannot exceed 2 GiB."""

_QUANTIZED_OPS = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "ConvInteger",
        "MatMulInteger",
        "MatMulNBits",
        "MatMulBnb4",
        "MatMulIntegerToFloat",
        "DynamicQuantizeMatMul",
        "DynamicQuantizeLSTM",
        "GatherBlockQuantized",
        "QAttention",
        "QGemm",
        "QMoE",
        "QEmbedLayerNormalization",
        "TRT_FP8QuantizeLinear",
        "TRT_INT8QuantizeLinear",
    }
)

_TAKES_INFINITY = frozenset(
    {
        "Add",
        "Where",
        "Clip",
        "Min",
        "Max",
        "Expand",
        "Pad",
        "Slice",
        "Concat",
        "Gather",
        "Trilu",
        "Equal",
        "Less",
        "Greater",
        "LessOrEqual",
        "GreaterOrEqual",
        "ScatterND",
        "Identity",
        "Reshape",
        "Unsqueeze",
    }
)
"""Readers for whom infinity is a mask or an open bound, and no broken weight."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A float model ready for tuning.

    Attributes:
        ir: the prepared graph: constants are initializers, every node has a unique name, types are inferred.
        original: the graph as it was read, which an all-FP32 plan gives back.
        path: the user's file.
        interface: names, types and shapes of inputs and outputs.
        graph_fingerprint: over operators, attributes, connections and shapes, not over names.
        weights_fingerprint: over every initializer's bytes.
    """

    original: ir.Model
    ir: ir.Model
    path: Path
    interface: Interface
    graph_fingerprint: str
    weights_fingerprint: str

    @property
    def graph(self) -> Graph:
        """The main graph."""
        return self.ir.graph


def load_model(path: str | os.PathLike[str]) -> Model:
    """Read an ONNX model and prepare it for tuning.

    Raises:
        ModelError: no such file, no ONNX, truncated, missing external data, already quantised,
            or weights that are not finite.
    """
    file = Path(path)
    proto = _read(file)
    try:
        _load_external(proto, file)
        _check_proto(proto)
        original = ir.from_proto(proto)  # shares the weights of the prepared one
        model = prepare(ir.from_proto(proto))
        _refuse_quantized(model, file)
        _check_weights(model, file)
        interface = _interface(model.graph)
        graph, weights = graph_fingerprint(model.graph), weights_fingerprint(model.graph)
    except AutoprecError:
        raise
    except Exception as error:  # the checker's words, or what it passed over: a circle, a malformed tensor
        raise ModelError(f"{file} is not valid ONNX: {_first_line(error)}; export it again") from error
    if not interface.inputs:
        raise ModelError(f"{file} must have at least one input that is no initializer; export it with its inputs")
    return Model(
        original=original,
        ir=model,
        path=file,
        interface=interface,
        graph_fingerprint=graph,
        weights_fingerprint=weights,
    )


def prepare(model: ir.Model) -> ir.Model:
    """`model` with functions inlined, constants as initializers, unique names and inferred types (in place)."""
    if model.functions:
        passes.InlinePass()(model)
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.RemoveInitializersFromInputsPass()(model)
    model.ir_version = max(model.ir_version, 4)  # before that every initializer had to be an input
    model.graph.sort()
    _name_nodes(model.graph)
    infer_types(model)
    return model


def infer_types(model: ir.Model) -> None:
    """Infer types and shapes of every value; a graph that inference cannot follow keeps what it has.

    Behind an operator that ONNX does not know, element types are carried on without shapes.
    """
    passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)
    opset = model.opset_imports.get("", model.opset_imports.get("ai.onnx", 17))
    for node in model.graph:
        untyped = bool(node.outputs) and node.outputs[0].dtype is None
        if untyped and (dtype := type_by_schema(node, opset)) is not None:
            node.outputs[0].dtype = dtype


def to_bytes(model: ir.Model) -> bytes:
    """The serialised model, weights inside."""
    return bytes(ir.to_proto(model).SerializeToString())


def save_model(model: ir.Model, path: Path) -> None:
    """Write `model` to `path` atomically, with weights beside it where one message cannot hold them.

    Raises:
        RunDirectoryError: the folder cannot be written.
    """
    tensors = [value.const_value for value in model.graph.initializers.values()]
    if sum(tensor.nbytes for tensor in tensors if tensor is not None) < PROTOBUF_LIMIT_BYTES:
        write_bytes(path, to_bytes(model))
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
            temporary = Path(folder) / path.name
            ir.save(model, temporary, external_data=f"{path.name}.data")
            os.replace(f"{temporary}.data", f"{path}.data")
            os.replace(temporary, path)
    except OSError as error:
        raise RunDirectoryError(f"cannot write {path}: {error.strerror}; choose another folder by --out") from error


def check_model(model: ir.Model) -> None:
    """Run the ONNX checker with full shape and type inference.

    Raises:
        ModelError: the checker's own words.
    """
    try:
        _check_proto(ir.to_proto(model), full_check=True)
    except Exception as error:
        raise ModelError(f"the lowered model is not valid ONNX, please report this: {error}") from error


def _read(file: Path) -> onnx.ModelProto:
    if file.is_dir():
        raise ModelError(f"{file} is a folder; give the path of the ONNX file in it")
    if not file.is_file():
        raise ModelError(f"no such file: {file}; give the path of an ONNX model")
    try:
        proto = onnx.load(str(file), format="protobuf", load_external_data=False)
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}; check its permissions") from error
    except Exception as error:  # protobuf raises its own kinds, which differ between its versions
        raise ModelError(
            f"{file} is not an ONNX model, or it is truncated ({type(error).__name__}); export it again"
        ) from error
    if not proto.graph.node or not proto.opset_import:
        raise ModelError(f"{file} is not an ONNX model, or it is truncated: it holds no graph; export it again")
    return proto


def _load_external(proto: onnx.ModelProto, file: Path) -> None:
    """Bring weights that lie beside the model into it."""
    for tensor in _tensors(proto.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            _check_external(tensor, file)
    try:
        onnx.load_external_data_for_model(proto, str(file.parent))
    except Exception as error:
        raise ModelError(f"the weights of {file} cannot be read: {_first_line(error)}") from error


def _check_external(tensor: onnx.TensorProto, file: Path) -> None:
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
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for body in (attribute.g, *attribute.graphs):
                yield from _tensors(body)


def _bytes_of(tensor: onnx.TensorProto) -> int:
    bits: int = math.prod(tensor.dims) * ir.DataType(tensor.data_type).bitwidth
    return -(-bits // 8)


def _check_proto(proto: onnx.ModelProto, full_check: bool = False) -> None:
    """Run the ONNX checker; what is too large for one message, with its large weights as inputs."""
    numeric = [tensor for tensor in proto.graph.initializer if tensor.data_type != onnx.TensorProto.STRING]
    if sum(map(_bytes_of, numeric)) >= PROTOBUF_LIMIT_BYTES:
        proto = _as_inputs(proto, [tensor for tensor in numeric if _bytes_of(tensor) > 4096])
    onnx.checker.check_model(proto, full_check=full_check)


def _as_inputs(proto: onnx.ModelProto, moved: list[onnx.TensorProto]) -> onnx.ModelProto:
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


def _refuse_quantized(model: ir.Model, file: Path) -> None:
    for node in all_nodes(model.graph):
        if node.op_type in _QUANTIZED_OPS or node.op_type.startswith("QLinear"):
            raise ModelError(
                f"{file} must be a float model, but node {node.name!r} is {node.op_type}: it is quantised already; "
                f"give the model from before quantisation"
            )


def _check_weights(model: ir.Model, file: Path) -> None:
    weights = [value for graph in all_graphs(model.graph) for value in graph.initializers.values()]
    for value in weights:
        array = const_array(value) if value.dtype in FLOAT_TYPES else None
        if array is None or np.isfinite(array).all():
            continue
        readers = {node.op_type for node in value.consumers()}
        if np.isnan(array).any() or not readers <= _TAKES_INFINITY:
            raise ModelError(f"weight {value.name!r} of {file} holds NaN or infinity; train or export the model again")


def _name_nodes(graph: ir.Graph) -> None:
    nodes = list(all_nodes(graph))
    given = Counter(node.name for node in nodes)
    taken = {name for name, count in given.items() if name and count == 1}
    for number, node in enumerate(nodes):
        if node.name in taken and given[node.name] == 1:
            continue
        name = node.name or (node.outputs[0].name if node.outputs else "") or f"{node.op_type}_{number}"
        unique, count = name, 1
        while unique in taken:
            unique, count = f"{name}#{count}", count + 1
        node.name = unique
        taken.add(unique)


def _interface(graph: ir.Graph) -> Interface:
    return Interface(tuple(map(_spec, graph.inputs)), tuple(map(_spec, graph.outputs)))


def _spec(value: ir.Value) -> TensorSpec:
    dims = [dim if isinstance(dim, int) else dim.value for dim in value.shape or ()]
    dtype: Any = value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)
    return TensorSpec(str(value.name), np.dtype(dtype), tuple(dims))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
