"""Unfused debug tensors: what the kernels of an engine write, without a change of its fusions.

TensorRT-RTX 1.7, TensorRT 10.12 and newer have them. An engine that is built with them is the same, kernel by kernel.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autoprec.backends.tensorrt.bindings import Bindings
from autoprec.backends.tensorrt.cuda import Cuda, load_cuda
from autoprec.backends.tensorrt.engine import TensorRtEngine
from autoprec.backends.tensorrt.feeds import widen
from autoprec.backends.tensorrt.inspector import parse_layers
from autoprec.backends.tensorrt.loading import DTYPES
from autoprec.backends.tensorrt.records import EngineLayer
from autoprec.precision import Array


def has_debug_tensors(bindings: Bindings) -> bool:
    """Whether this release has unfused debug tensors."""
    network = getattr(bindings.module, "INetworkDefinition", None)
    listener = getattr(bindings.module, "IDebugListener", None)
    method = getattr(network, "mark_unfused_tensors_as_debug_tensors", None)
    return listener is not None and method is not None


def tensors_of(layers: Sequence[EngineLayer], values: Mapping[str, str]) -> dict[str, str]:
    """Return the name of TensorRT's tensor -> the value that it holds.

    A tensor may have the name of the value. Else it is the one result of the only layer that computes the value's node;
    a node that several layers compute, and a layer with several results, tell nothing.

    Args:
        layers: the layers of the engine.
        values: the name of each value -> the name of the node that computes it.
    """
    written = {tensor.name for layer in layers for tensor in layer.outputs}
    found = {name: name for name in values if name in written}
    for name, node in values.items():
        computing = [layer for layer in layers if node in layer.nodes]
        if name not in written and len(computing) == 1 and len(computing[0].outputs) == 1:
            found.setdefault(computing[0].outputs[0].name, name)
    return found


def showing(path: Path, module: Any, values: Mapping[str, str], cuda: Cuda | None = None) -> ShowingEngine | None:
    """Load an engine that was built with debug tensors; None where none of them holds one of the values."""
    with TensorRtEngine(path, module, cuda) as engine:
        names = tensors_of(parse_layers(engine.inspector_text()), values)
    return ShowingEngine(path, module, names, cuda) if names else None


class ShowingEngine(TensorRtEngine):
    """An engine whose runs also return what is in its debug tensors.

    Args:
        path: the engine file, built with debug tensors.
        module: the runtime that built it.
        names: the name of TensorRT's tensor -> the name under which it is returned.
        cuda: CUDA; by default this machine's.
    """

    def __init__(self, path: Path, module: Any, names: Mapping[str, str], cuda: Cuda | None = None) -> None:
        self._names, self._seen = names, dict[str, Array]()
        known = load_cuda() if cuda is None else cuda
        listener = debug_listener(module, known, self._take)
        super().__init__(path, module, known, cuda_graph=False, listener=listener)

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Output name -> array, and value name -> array, for one batch."""
        self._seen = {}
        outputs = super().run(feed)
        return {**self._seen, **outputs}

    def _take(self, name: str, array: Array) -> None:
        if name in self._names:
            self._seen[self._names[name]] = widen(array)


def debug_listener(module: Any, cuda: Cuda, take: Callable[[str, Array], None]) -> Any:
    """TensorRT's abstract listener, made concrete; it hands each tensor on, which is valid during the call only."""

    def __init__(self: Any) -> None:
        module.IDebugListener.__init__(self)  # pybind11 wants it called by name

    def process_debug_tensor(*told: Any) -> bool:  # TensorRT gives seven things by position
        _, addr, location, kind, shape, name, stream = told
        if kind.name in DTYPES and location == module.TensorLocation.DEVICE:
            array = np.empty(tuple(int(size) for size in shape), DTYPES[kind.name])
            if array.size:
                cuda.copy_out(array, address_of(addr), int(stream))
                cuda.synchronize(int(stream))
            take(name, array)
        return True

    methods = {"__init__": __init__, "process_debug_tensor": process_debug_tensor}
    return type("DebugListener", (module.IDebugListener,), methods)()


def address_of(pointer: Any) -> int:
    """Return the address that pybind11 hands over, as a number or in a capsule."""
    if isinstance(pointer, int):
        return pointer
    name_of, pointer_of = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(pointer_of(pointer, name_of(pointer)) or 0)
