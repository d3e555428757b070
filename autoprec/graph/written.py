"""Written models: read again as they were serialised, and known by their size and their contents."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx

from autoprec.errors import ModelError
from autoprec.files.onnx_message import FilePart, OnnxMessage, message_digest, whole_bytes
from autoprec.graph.onnx_file import (
    bring_inside,
    external_parts,
    fits_one_message,
    is_external,
    place_weights,
    read_proto,
    serialize,
    tensors_of,
)


def read_message(file: Path) -> bytes:
    """Read a model file as `to_bytes` serialises a model: its bytes, or an OnnxMessage if the model is large.

    Raises:
        ModelError: it is no whole ONNX model, or its external data is missing.
    """
    proto = read_proto(file)
    inside = not any(map(is_external, tensors_of(proto)))
    proto, store = place_weights(proto, file)
    return file.read_bytes() if store is None and inside else serialize(proto, store)


def written(model: bytes) -> tuple[int, str]:
    """Return the size in bytes and the SHA-256 digest of what `save_model` writes of a serialised model.

    Where that is two files, the digest covers the weights and not their places.
    """
    if isinstance(model, OnnxMessage):
        if not fits_one_message([whole_bytes(model)]):
            return whole_bytes(model), message_digest(model)
        proto = onnx.ModelProto.FromString(model)
        bring_inside(proto)
        model = bytes(proto.SerializeToString())
    return len(model), message_digest(model)


def written_file(file: Path) -> tuple[int, str]:
    """Return the size and the digest of a file that `save_model` wrote, as `written` does of the model.

    Raises:
        ModelError: the file is missing, or is no whole ONNX model.
    """
    if any(map(is_external, tensors_of(read_proto(file)))):
        return written(read_message(file))
    size, digest = file.stat().st_size, hashlib.sha256()
    for block in FilePart(str(file), 0, size).blocks():
        digest.update(block)
    return size, digest.hexdigest()


def file_bytes(file: Path) -> int:
    """Return the bytes of a model file and of the weights beside it.

    Raises:
        ModelError: the file is missing, or is no whole ONNX model.
    """
    proto = read_proto(file)
    return file.stat().st_size + sum(part.length for part in external_parts(proto))


def is_written(file: Path, size: int, digest: str) -> bool:
    """Return whether a file holds the model of that size and digest."""
    try:
        return file.is_file() and written_file(file) == (size, digest)
    except ModelError:  # some other file
        return False
