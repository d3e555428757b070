"""FP32's outputs of single samples, kept in files for the stages that need them again.

FP32 runs on every sample once to deal the halves, once more for what the search compares plans with, and once more for
what the report does; where its outputs are too large for memory, also beside every plan. For a network that costs
seconds a sample, that is most of a run's time.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from typing import Any

import numpy as np

from autoprec.backends.protocol import Computing
from autoprec.files.scratch import ScratchFolder
from autoprec.graph.interface import Interface
from autoprec.precision import Array

DEAR_MACS = 10**9
"""From so many multiply-accumulates a sample on, outputs are read faster than they are computed."""
_SHARE_OF_DISK = 0.25
"""The files may take this share of what is free where temporary files lie."""


class RememberedOutputs:
    """Outputs by the samples that gave them; the model must treat each sample by itself.

    Args:
        interface: the interface of the model, whose inputs and outputs hold the samples on their first axis.

    Raises:
        OSError: there is no place for temporary files.
    """

    def __init__(self, interface: Interface) -> None:
        self._inputs = tuple(spec.name for spec in interface.inputs)
        self._folder = ScratchFolder()
        self._left_bytes = int(_SHARE_OF_DISK * shutil.disk_usage(self._folder.path).free)
        self._rows: dict[bytes, int] = {}
        self._forms: dict[str, tuple[np.dtype[Any], tuple[int, ...]]] = {}

    def keys(self, feed: Mapping[str, Array]) -> list[bytes]:
        """The key of each sample of a feed: a digest of its inputs."""
        count = len(feed[self._inputs[0]])
        return [_digest([feed[name][row] for name in self._inputs]) for row in range(count)]

    def find(self, keys: list[bytes]) -> dict[str, Array] | None:
        """The outputs of these samples; None unless all are known."""
        rows = [self._rows.get(key) for key in keys]
        if not self._forms or None in rows:
            return None
        found = {}
        for number, (name, (dtype, shape)) in enumerate(self._forms.items()):
            array = np.empty((len(rows), *shape), dtype)
            with (self._folder.path / str(number)).open("rb") as file:
                for at, row in enumerate(rows):
                    one = array[at : at + 1].reshape(-1).view(np.uint8).data
                    file.seek((row or 0) * one.nbytes)
                    if file.readinto(one) != one.nbytes:
                        return None
            found[name] = array
        return found

    def add(self, keys: list[bytes], outputs: Mapping[str, Array]) -> None:
        """Keep the outputs of samples; those that do not fit, in form or in number, are left out."""
        forms = {name: (array.dtype, array.shape[1:]) for name, array in outputs.items() if array.ndim}
        plain = len(forms) == len(outputs) and all(len(array) == len(keys) for array in outputs.values())
        if not plain or (self._forms and forms != self._forms):
            return
        self._forms = self._forms or forms
        for row, key in enumerate(keys):
            size = sum(array[row].nbytes for array in outputs.values())
            if key in self._rows or size > self._left_bytes:
                continue
            try:
                self._write(len(self._rows), [array[row] for array in outputs.values()])
            except OSError:  # a full disk costs time, not the run
                self._left_bytes = 0
                return
            self._rows[key] = len(self._rows)
            self._left_bytes -= size

    def _write(self, row: int, arrays: list[Array]) -> None:
        for number, array in enumerate(arrays):
            path = self._folder.path / str(number)
            with path.open("r+b" if path.exists() else "w+b") as file:
                file.seek(row * array.nbytes)
                file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


class RememberingEngine:
    """An engine that computes only what is not remembered.

    Args:
        memory: the outputs of the same model for samples that it has seen.
        engine: computes the others, which are remembered then; it must stay open.
    """

    def __init__(self, memory: RememberedOutputs, engine: Computing) -> None:
        self._memory, self._engine = memory, engine

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Output name -> array, for one batch."""
        keys = self._memory.keys(feed)
        found = self._memory.find(keys)
        if found is None:
            found = self._engine.run(feed)
            self._memory.add(keys, found)
        return found


def outputs_worth_keeping(interface: Interface, macs: int) -> RememberedOutputs | None:
    """A memory of FP32's outputs; None for a network that computes about as fast as files are read, or without a place.

    Args:
        interface: the interface of the model.
        macs: the multiply-accumulates of one sample.
    """
    by_sample = all(spec.sample_axis == 0 and len(spec.shape) > 0 for spec in (*interface.inputs, *interface.outputs))
    if macs < DEAR_MACS or not by_sample or interface.batch_size not in (None, 1):
        return None
    try:
        return RememberedOutputs(interface)
    except OSError:
        return None


def _digest(arrays: list[Array]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for array in arrays:
        digest.update(str(array.shape).encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.digest()
