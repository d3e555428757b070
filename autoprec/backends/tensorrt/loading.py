"""Load a serialised engine, or say why TensorRT refuses it."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from autoprec.backends.tensorrt.cuda import Device
from autoprec.backends.tensorrt.feeds import InputSlot, OutputSlot
from autoprec.backends.tensorrt.records import ShapeProfile
from autoprec.errors import BackendError

DTYPES: dict[str, np.dtype[Any]] = {
    "FLOAT": np.dtype(np.float32),
    "HALF": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "FP8": np.dtype(ml_dtypes.float8_e4m3fn),
    "INT8": np.dtype(np.int8),
    "INT32": np.dtype(np.int32),
    "INT64": np.dtype(np.int64),
    "BOOL": np.dtype(np.bool_),
    "UINT8": np.dtype(np.uint8),
}
_KEPT_MESSAGES = 200
# Neither says anything about the engine: the first is advice on start-up, the second on our own logger.
_NOISE = ("lazy loading", "differs from one already")

_OUT_OF_MEMORY = re.compile(r"out of memory|OutOfMemory|could not be allocated|allocate memory|alloc.*fail", re.I)
# A pattern of TensorRT's text -> what it means here and what to do. The first that fits counts.
_REFUSALS = (
    (
        r"is not supported by this|unsupported (SM|GPU|compute)|SM \d+ .*not supported",
        "this {runtime} does not support the GPU; use a runtime that does",
    ),
    (
        r"incompatible device|expecting compute|compute capabilit|different (model|device)|target GPU",
        "it was built for another GPU; build it again on this machine or for its GPU",
    ),
    (r"platform specific tag", "it was built on another platform; build it again on this machine"),
    (
        r"version tag|serialization ?version|compatible with this version|library version|older plan file",
        "it was built by another version of {runtime}; build it again with this one",
    ),
    (
        r"insufficient|error: 35|cudaError 35|CUDA initialization",
        "CUDA does not start: install or update the NVIDIA driver (nvidia-smi shows it)",
    ),
    (_OUT_OF_MEMORY.pattern, "the GPU has too little free memory (nvidia-smi lists who holds it)"),
    (
        r"magic tag|minBufferSize|header|plan file|Serialization",
        "it is not an engine of {runtime}, or it is damaged; build it again",
    ),
)


class Messages:
    """What TensorRT logs, errors and warnings apart, the newest of each."""

    def __init__(self, module: Any) -> None:
        self.errors: deque[str] = deque(maxlen=_KEPT_MESSAGES)
        self.warnings: deque[str] = deque(maxlen=_KEPT_MESSAGES)
        self.logger = _logger(module, self)

    def clear(self) -> None:
        """Forget all, before something is tried."""
        self.errors.clear()
        self.warnings.clear()

    def note(self, severity: str, text: str) -> None:
        """Keep a message; the logger calls it."""
        if severity in ("ERROR", "INTERNAL_ERROR"):
            self.errors.append(text)
        elif severity == "WARNING" and not any(noise in text for noise in _NOISE):
            self.warnings.append(text)

    @property
    def why(self) -> str:
        """The first error, which the others follow from, on one line."""
        return " ".join(self.errors[0].split()) if self.errors else "it does not say why"

    @property
    def out_of_memory(self) -> bool:
        """Whether an error says that memory ran out."""
        return any(_OUT_OF_MEMORY.search(text) for text in self.errors)


@cache
def messages_of(module: Any) -> Messages:
    """The log of one TensorRT: one for the process, since TensorRT itself listens to the first logger only."""
    return Messages(module)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """An engine in memory; the runtime must outlive it.

    Attributes:
        runtime: TensorRT's.
        engine: TensorRT's.
        inputs: the inputs, in the engine's order.
        outputs: the outputs, in the engine's order.
        engine_bytes: the size of the file.
        activation_bytes: GPU memory for activations and scratch of one execution context.
        warnings: TensorRT's while it loaded the engine.
    """

    runtime: Any
    engine: Any
    inputs: tuple[InputSlot, ...]
    outputs: tuple[OutputSlot, ...]
    engine_bytes: int
    activation_bytes: int
    warnings: tuple[str, ...]


def load(path: Path, module: Any, device: Device) -> Loaded:
    """Deserialise an engine file.

    Args:
        path: the file.
        module: `tensorrt` or `tensorrt_rtx`.
        device: the GPU, for messages.

    Raises:
        BackendError: the file cannot be read, or TensorRT refuses it: built for another GPU or by another version,
            not enough memory, no engine at all; or its inputs and outputs are of a kind that cannot be fed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BackendError(f"cannot read the engine {path}: {error.strerror or error}") from error
    log = messages_of(module)
    log.clear()
    try:
        register_plugins = getattr(module, "init_libnvinfer_plugins", None)
        if register_plugins is not None:
            register_plugins(log.logger, "")  # an engine may hold plugins, as 8.6 makes of InstanceNormalization
        runtime = module.Runtime(log.logger)
        engine = runtime.deserialize_cuda_engine(data)
    except (RuntimeError, TypeError) as error:  # pybind11 where the constructor returned nothing
        raise BackendError(_refusal(path, module, device, log)) from error
    if engine is None:
        raise BackendError(_refusal(path, module, device, log))
    inputs, outputs = _slots(path, module, engine)
    return Loaded(
        runtime=runtime,
        engine=engine,
        inputs=inputs,
        outputs=outputs,
        engine_bytes=len(data),
        activation_bytes=_activation_bytes(engine),
        warnings=tuple(dict.fromkeys(log.warnings)),
    )


def runtime_label(module: Any) -> str:
    """A runtime's name and version, as in "TensorRT 8.6.0"."""
    name = "TensorRT-RTX" if module.__name__ == "tensorrt_rtx" else "TensorRT"
    return f"{name} {module.__version__}"


def _refusal(path: Path, module: Any, device: Device, log: Messages) -> str:
    errors, runtime = " ".join(log.errors), runtime_label(module)
    meaning = next((text for pattern, text in _REFUSALS if re.search(pattern, errors, re.I)), "")
    where = f"on {device.name} (compute capability {device.capability})"
    said = f"{runtime} says: {log.why}"
    head = f"the engine {path} cannot be loaded by {runtime} {where}"
    return f"{head}: {meaning.format(runtime=runtime)}; {said}" if meaning else f"{head}; {said}; build it again"


def _slots(path: Path, module: Any, engine: Any) -> tuple[tuple[InputSlot, ...], tuple[OutputSlot, ...]]:
    inputs, outputs = [], []
    for number in range(engine.num_io_tensors):
        name = engine.get_tensor_name(number)
        dtype = _dtype(path, name, engine)
        if engine.get_tensor_location(name) == module.TensorLocation.HOST:
            raise BackendError(
                f"the engine {path} reads or writes {name!r} as a shape on the host, which cannot be fed; "
                "make the shape a constant of the model"
            )
        if engine.get_tensor_format(name) != module.TensorFormat.LINEAR:
            raise BackendError(
                f"the engine {path} has {name!r} in the memory layout {engine.get_tensor_format(name).name}; "
                "build it with linear inputs and outputs"
            )
        if engine.get_tensor_mode(name) == module.TensorIOMode.INPUT:
            inputs.append(InputSlot(name, dtype, _shapes(engine, name)))
        else:
            outputs.append(OutputSlot(name, dtype))
    return tuple(inputs), tuple(outputs)


def _shapes(engine: Any, name: str) -> ShapeProfile:
    shape = tuple(int(size) for size in engine.get_tensor_shape(name))
    if min(shape, default=0) >= 0:
        return ShapeProfile(shape, shape, shape)
    least, best, largest = (tuple(int(n) for n in dims) for dims in engine.get_tensor_profile_shape(name, 0))
    return ShapeProfile(least, best, largest)


def _dtype(path: Path, name: str, engine: Any) -> np.dtype[Any]:
    kind = engine.get_tensor_dtype(name).name
    if kind not in DTYPES:
        raise BackendError(f"the engine {path} has {name!r} in {kind}, which cannot be fed; keep it in a wider type")
    return DTYPES[kind]


def _activation_bytes(engine: Any) -> int:
    size = getattr(engine, "device_memory_size_v2", None)  # TensorRT 11 has dropped the older name, 8.6 lacks this one
    return int(engine.device_memory_size if size is None else size)


def _logger(module: Any, messages: Messages) -> Any:
    """TensorRT's abstract logger, made concrete; the base class is known only once a runtime is."""

    def __init__(self: Any) -> None:
        module.ILogger.__init__(self)  # pybind11 wants it called by name

    def log(_self: Any, severity: Any, text: str) -> None:
        messages.note(severity.name, text)

    return type("Logger", (module.ILogger,), {"__init__": __init__, "log": log})()
