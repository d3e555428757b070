"""Large weights in files: mapped page by page where they are needed, and written once for all plans that share them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnx_ir as ir

from autoprec.files.onnx_message import ROOT
from autoprec.files.scratch import ScratchFolder
from autoprec.graph.topology import all_graphs
from autoprec.precision import Array

T = TypeVar("T")

LARGE_BYTES = 1 << 16
"""Weights of at least so many bytes go to files, in a model that keeps its weights in files."""
_ALIGNED_BYTES = 4096  # a page: whoever maps a weight maps no bytes of another one


class FileWeight(ir.ExternalTensor):
    """A weight in a file. Each array of it is mapped anew, so that its pages leave the memory with the array.

    The tensor that it is made of would keep what it has mapped, so that a pass over all weights would end with all of
    them in memory.

    Args:
        path: the file.
        offset: where the weight begins, in bytes.
        dtype: the type of its elements.
        shape: its shape.
        name: its name.
        keeper: what must live as long as the tensor does, such as the owner of a temporary file.
    """

    def __init__(
        self, path: str, offset: int, dtype: ir.DataType, shape: ir.Shape, *, name: str, keeper: object = None
    ) -> None:
        self.keeper = keeper
        absolute = os.path.abspath(path)
        dims = shape.numpy()
        length = -(-math.prod(dims) * dtype.bitwidth // 8)  # rounded up: types of 4 bits are packed
        super().__init__(absolute[len(ROOT) :], offset, length, dtype, shape=ir.Shape(dims), name=name, base_dir=ROOT)

    def numpy(self) -> Array:
        """Map the weight; the array cannot be written to."""
        if self.size == 0 or self.dtype.bitwidth < 8:
            found: Array = np.array(super().numpy())
            self.release()
            return found
        mapped = np.memmap(self.path, np.uint8, "r", offset=self.offset or 0, shape=(self.nbytes,))
        return np.asarray(mapped).view(self.dtype.numpy()).reshape(self.shape.numpy())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        """Return the array, in another type where one is asked for."""
        array = self.numpy()
        return array if dtype is None else array.astype(dtype, copy=bool(copy))

    def tobytes(self) -> bytes:
        """Read the weight."""
        with Path(self.path).open("rb") as file:
            file.seek(self.offset or 0)
            return file.read(self.length or self.nbytes)

    @property
    def place(self) -> tuple[str, int]:
        """The file, and where the weight begins in it; nobody writes to that part as long as the tensor is used."""
        return self.path, self.offset or 0

    def renamed(self, name: str) -> FileWeight:
        """Return another tensor of the same part of the file."""
        return FileWeight(self.path, self.offset or 0, self.dtype, self.shape, name=name, keeper=self.keeper)


def map_weights(model: ir.Model, keeper: object = None) -> ir.Model:
    """Let the weights of a model that lie in files, relative to the root, be mapped anew by each reader.

    Args:
        model: the model.
        keeper: what must live as long as the weights are read, such as the owner of a temporary file.

    Returns:
        The same model.
    """
    for graph in all_graphs(model.graph):
        ir.external_data.set_base_dir(graph, ROOT)
        for value in graph.initializers.values():
            tensor = value.const_value
            if isinstance(tensor, ir.ExternalTensor) and not isinstance(tensor, FileWeight):
                place = os.path.join(ROOT, tensor.location)
                offset, name = tensor.offset or 0, str(tensor.name)
                value.const_value = FileWeight(place, offset, tensor.dtype, tensor.shape, name=name, keeper=keeper)
    return model


def keepers_of(model: ir.Model) -> tuple[object, ...]:
    """Return what must live as long as the weights of a model are read."""
    tensors = (value.const_value for graph in all_graphs(model.graph) for value in graph.initializers.values())
    found = {id(tensor.keeper): tensor.keeper for tensor in tensors if isinstance(tensor, FileWeight)}
    return tuple(found.values())


class WeightStore:
    """A temporary file for weights that a model does not have in files of its own, and for what plans make of them.

    What was made once of a weight is given again, so that plans share it. The file goes with the store.
    """

    def __init__(self) -> None:
        self._folder: ScratchFolder | None = None
        self._path: Path | None = None
        self._made: dict[Hashable, Any] = {}

    def put(self, data: Array, name: str) -> FileWeight:
        """Write an array, and return the tensor of it.

        Raises:
            OSError: the disk is full.
        """
        array = np.ascontiguousarray(data)
        dtype, shape = ir.DataType.from_numpy(array.dtype), ir.Shape(array.shape)
        packed = dtype.bitwidth < 8  # NumPy has a byte for each of them
        offset = self.put_bytes(ir.tensor(array).tobytes() if packed else array.reshape(-1).view(np.uint8).data)
        return FileWeight(str(self.path), offset, dtype, shape, name=name, keeper=self)

    def put_bytes(self, data: bytes | memoryview) -> int:
        """Write bytes at the end of the file, and return where they begin."""
        with self.path.open("ab") as file:
            file.write(b"\0" * (-file.tell() % _ALIGNED_BYTES))
            offset = file.tell()
            file.write(data)
        return offset

    def once(self, what: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` makes, which is made once for each `what`."""
        if what not in self._made:
            self._made[what] = make()
        found: T = self._made[what]
        return found

    @property
    def path(self) -> Path:
        """The file, which is made for the first weight."""
        if self._path is None:
            self._folder = ScratchFolder()
            self._path = self._folder.path / "weights"
            self._path.touch()
        return self._path
