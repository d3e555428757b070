"""Loading, checking and saving of ONNX models."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir import Graph

from autoprec.errors import AutoprecError, ModelError, RunDirectoryError
from autoprec.files.json import PART, write_bytes
from autoprec.files.links import refuse_links
from autoprec.graph.dimensions import dimensions, forget_placeholders, sample_axes
from autoprec.graph.fingerprints import graph_fingerprint, weights_fingerprint
from autoprec.graph.float_check import check_weights
from autoprec.graph.interface import Interface, TensorSpec
from autoprec.graph.names import rename_duplicates
from autoprec.graph.onnx_file import (
    bring_inside,
    check_proto,
    first_line,
    fits_one_message,
    move_outside,
    place_weights,
    read_proto,
    serialize,
    sizes_of,
)
from autoprec.graph.opset.convert import opset_of, to_opset
from autoprec.graph.preparation import prepare
from autoprec.graph.sparse_weights import densify
from autoprec.graph.weight_files import WeightStore, keepers_of, map_weights
from autoprec.graph.widening import widen


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A float model that is ready for tuning.

    Attributes:
        original: the graph as it was read, but nodes that share a name get one each, and a newer opset than the
            runtime reads is lowered; a plan with nothing but FP32 gives it back.
        ir: the prepared graph: constants are initializers, every node has a unique name, types are inferred, and what
            was in half precision is written in FP32.
        path: the user's file.
        interface: the names, types and shapes of inputs and outputs.
        graph_fingerprint: the fingerprint of operators, attributes, connections and shapes, but not of names.
        weights_fingerprint: the fingerprint of the bytes of all initializers.
        store: the weights that are in no file of the user's and those that plans make of them, for a large model;
            None for a model that is in memory.
    """

    original: ir.Model
    ir: ir.Model
    path: Path
    interface: Interface
    graph_fingerprint: str
    weights_fingerprint: str
    store: WeightStore | None = None

    @property
    def graph(self) -> Graph:
        """The main graph."""
        return self.ir.graph

    @property
    def weight_bytes(self) -> int:
        """The bytes of all constants."""
        tensors = (value.const_value for value in self.graph.initializers.values())
        return sum(tensor.nbytes for tensor in tensors if tensor is not None)


def load_model(path: str | os.PathLike[str], newest_opset: int | None = None) -> Model:
    """Read an ONNX model and prepare it for tuning.

    Args:
        path: the ONNX file.
        newest_opset: the newest opset that the runtime reads, to which a newer model is brought down; None for any.

    Raises:
        ModelError: there is no such file, it is not a whole and valid ONNX model, its external data is missing, it is
            its weights are not finite, or an operator cannot be written for `newest_opset`.
    """
    file = Path(path)
    proto = read_proto(file)
    try:
        proto, store = place_weights(proto, file)
        check_proto(proto)
        densify(proto, file)
        original = map_weights(ir.from_proto(proto), store)  # both graphs share weights, so they are in memory once
        rename_duplicates(original.graph)
        forget_placeholders(original)
        model = prepare(map_weights(ir.from_proto(proto), store))
        map_weights(model, store)  # what was in attributes is an initializer now
        check_weights(model, file)
        graph, weights = graph_fingerprint(model.graph), weights_fingerprint(model.graph)
        if newest_opset is not None and opset_of(model) > newest_opset:
            model = _lowered_to(model, newest_opset, file)
            original = model.clone()
        widen(model)
        interface = _interface(model.graph)
    except AutoprecError:
        raise
    except Exception as error:  # from the checker, or from later code that met what the checker does not see
        raise ModelError(f"{file} is not valid ONNX: {first_line(error)}; export it again") from error
    if not interface.inputs:
        raise ModelError(f"{file} must have at least one input that is not an initializer; export it with its inputs")
    return Model(
        original=original,
        ir=model,
        path=file,
        interface=interface,
        graph_fingerprint=graph,
        weights_fingerprint=weights,
        store=store,
    )


def _lowered_to(model: ir.Model, newest_opset: int, file: Path) -> ir.Model:
    """Bring a prepared model down to the newest opset that the runtime reads."""
    found = opset_of(model)
    try:
        return prepare(to_opset(model, newest_opset))
    except ModelError as error:
        raise ModelError(
            f"the runtime reads models up to opset {newest_opset}, but {file} has opset {found}, and {error}"
        ) from error


def to_bytes(model: ir.Model) -> bytes:
    """Return the serialised model: an OnnxMessage if some of its weights lie in files, else all weights are inside."""
    return serialize(ir.to_proto(model), keepers_of(model))


def save_model(model: ir.Model, path: Path) -> None:
    """Write `model` to `path` atomically.

    If one protobuf message cannot hold the weights, they are written to a file beside the model, `path` + ".data",
    which is there before the model is.

    Raises:
        RunDirectoryError: the folder cannot be written to.
    """
    proto, beside = ir.to_proto(model), Path(f"{path}.data")
    for file in (path, beside):
        refuse_links(file)
    if fits_one_message(sizes_of(proto)):
        bring_inside(proto)
    else:
        _write_beside(proto, path, beside)
    write_bytes(path, bytes(proto.SerializeToString()))


def _write_beside(proto: onnx.ModelProto, path: Path, beside: Path) -> None:
    """Move the weights of a model to the file `beside`, block by block."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}{PART}") as folder:
            temporary = Path(folder) / beside.name
            with temporary.open("wb") as data:
                move_outside(proto, data, beside.name)
                data.flush()
                os.fsync(data.fileno())
            path.unlink(missing_ok=True)  # nobody may ever find an earlier model beside these weights
            os.replace(temporary, beside)
    except OSError as error:
        raise RunDirectoryError(
            f"cannot write {beside}: {error.strerror or error}; choose a writable folder with free space by --out"
        ) from error


def check_model(model: ir.Model) -> None:
    """Run the ONNX checker with full shape and type inference.

    Raises:
        ModelError: the checker refuses the model; the message quotes it.
    """
    try:
        check_proto(ir.to_proto(model), full_check=True)
    except Exception as error:
        raise ModelError(f"the lowered model is not valid ONNX, please report this: {error}") from error


def _interface(graph: ir.Graph) -> Interface:
    axes = sample_axes(graph)
    return Interface(*(tuple(_spec(value, axes[value]) for value in side) for side in (graph.inputs, graph.outputs)))


def _spec(value: ir.Value, axis: int | None) -> TensorSpec:
    dtype: Any = value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)
    return TensorSpec(str(value.name), np.dtype(dtype), dimensions(value), axis)
