"""A serialised ONNX model whose large weights lie in files, and are mapped into memory by whoever reads them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(os.path.abspath("")).anchor
"""The root of the file system, to which the places of weights in files are relative."""
_BLOCK_BYTES = 1 << 24


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
