"""Loading, checking and saving ONNX models, and what identifies one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes import common as passes

from autoprec.data.interface import Interface, TensorSpec
from autoprec.errors import ModelError, RunDirectoryError
from autoprec.graph import FLOAT_TYPES, all_nodes, const_array
from autoprec.records import fingerprint, write_bytes

PROTOBUF_LIMIT_BYTES = 1_900_000_000
"""Above this, weights are saved beside the model: one protobuf message cannot exceed 2 GiB."""

_QUANTIZED_OPS = {
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul",
    "ConvInteger", "MatMulInteger", "MatMulNBits",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Model:
    """A float model ready for tuning.

    Attributes:
        ir: the prepared graph: constants are initializers, every node has a unique name, types are inferred.
        path: the user's file.
        interface: names, types and shapes of inputs and outputs.
        graph_fingerprint: over operators, attributes, connections and shapes, not over names.
        weights_fingerprint: over every initializer's bytes.
    """

    ir: ir.Model
    path: Path
    interface: Interface
    graph_fingerprint: str
    weights_fingerprint: str

    @property
    def graph(self) -> ir.Graph:
        """The main graph."""
        return self.ir.graph


def load_model(path: str | os.PathLike[str]) -> Model:
    """Read an ONNX model and prepare it for tuning.

    Raises:
        ModelError: no such file, no ONNX, truncated, missing external data, already quantised,
            or weights that are not finite.
    """
    file = Path(path)
    model = _read(file)
    _check_external(model, file)
    _refuse_quantized(model, file)
    prepared = prepare(model)
    _check_weights(prepared, file)
    interface = _interface(prepared.graph)
    if not interface.inputs:
        raise ModelError(f"{file} must have at least one input that is no initializer; export it with its inputs")
    return Model(prepared, file, interface, graph_fingerprint(prepared.graph), weights_fingerprint(prepared.graph))


def prepare(model: ir.Model) -> ir.Model:
    """`model` with constants lifted to initializers, unique node names and inferred types (in place)."""
    passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    passes.RemoveInitializersFromInputsPass()(model)
    _name_nodes(model.graph)
    infer_types(model)
    return model


def infer_types(model: ir.Model) -> None:
    """Infer types and shapes of every value; a graph that inference cannot follow keeps what it has."""
    passes.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model)


def to_bytes(model: ir.Model) -> bytes:
    """The serialised model, weights inside."""
    return bytes(ir.to_proto(model).SerializeToString())


def save_model(model: ir.Model, path: Path) -> None:
    """Write `model` to `path` atomically, with weights beside it where one message cannot hold them.

    Raises:
        RunDirectoryError: the folder cannot be written.
    """
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    if size < PROTOBUF_LIMIT_BYTES:
        write_bytes(path, to_bytes(model))
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
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
        onnx.checker.check_model(ir.to_proto(model), full_check=True)
    except Exception as error:
        raise ModelError(f"the lowered model is not valid ONNX, please report this: {error}") from error


def graph_fingerprint(graph: ir.Graph) -> str:
    """A fingerprint of operators, attributes, connections and interface, blind to names of inner values."""
    numbers: dict[ir.Value | None, str] = {None: "-"}
    parts: list[bytes | str] = []
    for value in graph.inputs:
        numbers[value] = f"i{len(numbers)}"
        parts.append(f"{value.name}:{value.dtype}:{value.shape}")
    for value in graph.initializers.values():
        numbers[value] = f"w:{value.dtype}:{value.shape}"
    for node in graph:
        inputs = [numbers.get(value, "outer") for value in node.inputs]
        attributes = sorted(f"{a.name}={_attribute_words(a)}" for a in node.attributes.values())
        parts.append(f"{node.domain}:{node.op_type}({','.join(inputs)}){attributes}")
        for value in node.outputs:
            numbers[value] = f"v{len(numbers)}"
    parts += [f"{value.name}<-{numbers.get(value, '?')}" for value in graph.outputs]
    return fingerprint(parts)


def weights_fingerprint(graph: ir.Graph) -> str:
    """A fingerprint of every initializer's type, shape and bytes in the order the graph uses them."""
    return fingerprint(_weight_parts(graph))


def _weight_parts(graph: ir.Graph) -> Iterator[bytes | str]:
    seen: set[ir.Value] = set()
    for node in all_nodes(graph):
        for value in node.inputs:
            if value is None or value in seen or value.const_value is None:
                continue
            seen.add(value)
            yield f"{value.dtype}{value.shape}"
            yield np.ascontiguousarray(value.const_value.numpy()).tobytes()


def _attribute_words(attribute: ir.Attr) -> str:
    if attribute.type == ir.AttributeType.GRAPH:
        return graph_fingerprint(attribute.as_graph())
    if attribute.type == ir.AttributeType.TENSOR:
        return fingerprint([attribute.as_tensor().tobytes()])
    return str(attribute.value)


def _read(file: Path) -> ir.Model:
    if not file.is_file():
        raise ModelError(f"no such file: {file}; give the path of an ONNX model")
    try:
        proto = onnx.load(str(file), load_external_data=False)
    except Exception as error:  # protobuf raises its own kinds, which differ between its versions
        raise ModelError(
            f"{file} is not an ONNX model, or it is truncated ({type(error).__name__}); export it again"
        ) from error
    if not proto.graph.node or not proto.opset_import:
        raise ModelError(f"{file} is not an ONNX model: it holds no graph; export it again")
    try:
        if proto.ByteSize() < PROTOBUF_LIMIT_BYTES:
            onnx.checker.check_model(proto) if not _has_external(proto) else None
        model = ir.from_proto(proto)
        ir.external_data.set_base_dir(model.graph, file.parent.resolve())
    except Exception as error:
        raise ModelError(f"{file} is not valid ONNX: {_first_line(error)}; export it again") from error
    return model


def _has_external(proto: onnx.ModelProto) -> bool:
    return any(t.data_location == onnx.TensorProto.EXTERNAL for t in proto.graph.initializer)


def _check_external(model: ir.Model, file: Path) -> None:
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if not isinstance(tensor, ir.ExternalTensor):
            continue
        if not Path(tensor.path).is_file():
            raise ModelError(
                f"{file} keeps weight {value.name!r} in the file {tensor.location!r}, which is missing; "
                f"put it beside the model"
            )
        needed = (tensor.offset or 0) + (tensor.length or 0)
        if Path(tensor.path).stat().st_size < needed:
            raise ModelError(f"the weight file {tensor.location!r} of {file} is truncated; copy it again")


def _refuse_quantized(model: ir.Model, file: Path) -> None:
    for node in all_nodes(model.graph):
        if node.op_type in _QUANTIZED_OPS:
            raise ModelError(
                f"{file} must be a float model, but node {node.name!r} is {node.op_type}: it is quantised already; "
                f"give the model from before quantisation"
            )


def _check_weights(model: ir.Model, file: Path) -> None:
    for value in model.graph.initializers.values():
        if value.dtype not in FLOAT_TYPES or value.const_value is None:
            continue
        array = const_array(value)
        if array is not None and not np.isfinite(array).all():
            if np.isneginf(array).any() and not np.isnan(array).any() and not np.isposinf(array).any():
                continue  # an additive attention mask of minus infinity is legitimate
            raise ModelError(f"weight {value.name!r} of {file} holds NaN or infinity; train or export the model again")


def _name_nodes(graph: ir.Graph) -> None:
    taken: set[str] = set()
    for number, node in enumerate(graph):
        name = node.name or (node.outputs[0].name if node.outputs else "") or f"{node.op_type}_{number}"
        unique, count = name, 1
        while unique in taken:
            unique, count = f"{name}#{count}", count + 1
        node.name = unique
        taken.add(unique)


def _interface(graph: ir.Graph) -> Interface:
    return Interface(tuple(map(_spec, graph.inputs)), tuple(map(_spec, graph.outputs)))


def _spec(value: ir.Value) -> TensorSpec:
    dims: list[int | str | None] = []
    for dim in value.shape or ():
        dims.append(dim if isinstance(dim, int) else (dim.value if dim is not None else None))
    dtype: Any = value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)
    return TensorSpec(str(value.name), np.dtype(dtype), tuple(dims))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__

