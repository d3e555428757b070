"""A serialised ONNX model whose large weights lie in files, and are mapped into memory by whoever reads them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from autoprec.errors import ModelError

ROOT = Path(os.path.abspath("")).anchor
"""The root of the file system, to which the places of weights in files are relative."""
_BLOCK_BYTES = 1 << 24
_GRAPH = 7
"""The number of the graph among the fields of a model, as ONNX's protobuf definition has it."""
_FIXED_BYTES = {1: 8, 5: 4}
_LENGTH_DELIMITED = 2


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of a file that holds a weight.

    Attributes:
        path: the file.
        offset: where the weight begins, in bytes.
        length: how long it is, in bytes.
    """

    path: str
    offset: int
    length: int

    def blocks(self) -> Iterator[bytes]:
        """Yield the bytes, block by block."""
        with Path(self.path).open("rb") as file:
            file.seek(self.offset)
            left = self.length
            while left > 0 and (block := file.read(min(left, _BLOCK_BYTES))):
                left -= len(block)
                yield block


class OnnxMessage(bytes):
    """A serialised model that says of its large weights where they lie, relative to the root of the file system.

    It is the message itself, so that whatever reads only the graph takes it as it takes any serialised model. A model
    whose weights are all inside is plain `bytes`.

    Attributes:
        outside: the weights that are not in the message, in its order.
        skeleton: the message without the places of these weights, which is the same wherever they lie.
        keeper: what must not be given up as long as the model is read, such as a temporary folder.
    """

    outside: tuple[FilePart, ...]
    skeleton: bytes
    keeper: object

    @classmethod
    def of(cls, message: bytes, outside: Sequence[FilePart], skeleton: bytes, keeper: object = None) -> OnnxMessage:
        """Make a message of which some weights lie in files."""
        made = cls(message)
        made.outside, made.skeleton, made.keeper = tuple(outside), skeleton, keeper
        return made


def whole_bytes(model: bytes) -> int:
    """Return the size of a serialised model with the weights that lie in files, without the names of these files."""
    if not isinstance(model, OnnxMessage):
        return len(model)
    return len(model.skeleton) + sum(part.length for part in model.outside)


def message_digest(model: bytes) -> str:
    """Return the SHA-256 digest of a serialised model; it covers every weight and does not depend on where they lie."""
    if not isinstance(model, OnnxMessage):
        return hashlib.sha256(model).hexdigest()
    digest = hashlib.sha256(model.skeleton)
    for part in model.outside:
        for block in part.blocks():
            digest.update(block)
    return digest.hexdigest()


def refuse_no_onnx(file: Path) -> None:
    """Refuse what cannot be an ONNX model by the outermost fields of the file, in milliseconds whatever its size.

    Raises:
        ModelError: there is no such file, it cannot be read, it is truncated, or it has no graph.
    """
    if file.is_dir():
        raise ModelError(f"{file} is a folder; give the path of the ONNX file in it")
    if not file.is_file():
        raise ModelError(f"no such file: {file}; give the path of an ONNX model")
    try:
        with file.open("rb") as stream:
            fields = _fields(stream, file.stat().st_size)
    except OSError as error:
        raise ModelError(f"{file} cannot be read: {error.strerror}; check its permissions") from error
    except ValueError as error:
        raise ModelError(f"{file} is not an ONNX model, or it is truncated ({error}); export it again") from error
    if _GRAPH not in fields:
        raise ModelError(f"{file} is not an ONNX model, or it is truncated: it holds no graph; export it again")


def _fields(stream: BinaryIO, size: int) -> set[int]:
    """Return the numbers of the fields of a protobuf message.

    Raises:
        ValueError: it is not a message, or it ends inside a field.
    """
    found = set()
    while stream.tell() < size:
        key = _varint(stream)
        number, wire = key >> 3, key & 7
        if wire == 0:
            _varint(stream)
        elif wire == _LENGTH_DELIMITED or wire in _FIXED_BYTES:
            length = _varint(stream) if wire == _LENGTH_DELIMITED else _FIXED_BYTES[wire]
            if stream.tell() + length > size:
                raise ValueError(f"field {number} ends behind the end of the file")
            stream.seek(length, os.SEEK_CUR)
        else:
            raise ValueError(f"byte {stream.tell() - 1} begins no field")
        found.add(number)
    return found


def _varint(stream: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            raise ValueError("the file ends inside a number")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError("a number has more than ten bytes")
