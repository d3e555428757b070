"""A module that acts like TensorRT when engines are loaded and run, on the GPU of `fake_cuda`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from autoprec.precision import Array

from .fake_cuda import FakeCuda

ENGINE_BYTES = b"an engine"


class DataType(Enum):
    FLOAT, HALF, BF16, FP8, INT8, INT32, INT64, BOOL, UINT8, INT4 = range(10)


class Severity(Enum):
    INTERNAL_ERROR, ERROR, WARNING, INFO, VERBOSE = range(5)


class TensorIOMode(Enum):
    NONE, INPUT, OUTPUT = range(3)


class TensorLocation(Enum):
    DEVICE, HOST = range(2)


class TensorFormat(Enum):
    LINEAR, CHW32 = range(2)


class LayerInformationFormat(Enum):
    ONELINE, JSON = range(2)


NUMPY = {
    DataType.FLOAT: np.float32,
    DataType.HALF: np.float16,
    DataType.BF16: ml_dtypes.bfloat16,
    DataType.FP8: ml_dtypes.float8_e4m3fn,
    DataType.INT8: np.int8,
    DataType.INT32: np.int32,
    DataType.INT64: np.int64,
    DataType.BOOL: np.bool_,
    DataType.UINT8: np.uint8,
}


@dataclass
class Tensor:
    """An input or output; `shapes` are least, best and largest of an input."""

    dtype: DataType = DataType.FLOAT
    shapes: tuple[tuple[int, ...], ...] = ()
    location: TensorLocation = TensorLocation.DEVICE
    format: TensorFormat = TensorFormat.LINEAR


@dataclass(kw_only=True)
class Spec:
    """What the fake engine is.

    Attributes:
        inputs: name -> tensor.
        outputs: name -> tensor.
        shape_of: input shapes -> output shapes.
        compute: input arrays -> output arrays.
        times_ms: of successive runs, over and over.
        layers: per run the layers' times for the profiler.
        errors: what is logged instead of loading.
        warnings: what is logged while loading.
        refuses_capture: TensorRT refuses to be captured.
        fails: executing returns False, with these words in the log.
        no_context: no execution context can be made, with these words in the log.
    """

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    shape_of: Callable[[Mapping[str, tuple[int, ...]]], Mapping[str, tuple[int, ...]]]
    compute: Callable[[Mapping[str, Array]], Mapping[str, Array]]
    times_ms: tuple[float, ...] = (1.0,)
    layers: tuple[tuple[tuple[str, float], ...], ...] = ((("conv", 0.5),),)
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    refuses_capture: bool = False
    fails: str = ""
    no_context: str = ""
    refused_shape: tuple[int, ...] | None = None


def doubling(least: int = 1, best: int = 4, largest: int = 8, dtype: DataType = DataType.FLOAT, **others: Any) -> Spec:
    """An engine that doubles x[n, 3] into y[n, 3]."""
    return Spec(
        inputs={"x": Tensor(dtype, ((least, 3), (best, 3), (largest, 3)))},
        outputs={"y": Tensor(dtype)},
        shape_of=lambda shapes: {"y": shapes["x"]},
        compute=lambda arrays: {"y": arrays["x"] + arrays["x"]},
        **others,
    )


class FakeContext:
    def __init__(self, spec: Spec, cuda: FakeCuda, logger: Any) -> None:
        self.spec, self.cuda, self.logger = spec, cuda, logger
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}
        self.profiler: Any = None
        self.enqueue_emits_profile = True
        self.runs = 0
        self.listener: Any = None
        self.stream = 0
        self.unfused_tensors_debug_state = False

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        if tuple(shape) == self.spec.refused_shape:
            self.logger.log(Severity.ERROR, "setInputShape: not in the profile")
            return False
        self.shapes[name] = tuple(shape)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.spec.shape_of(self.shapes)[name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return address in self.cuda.memory

    def set_debug_listener(self, listener: Any) -> bool:
        self.listener = listener
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert type(stream) is int
        self.stream = stream
        if self.spec.fails:
            self.logger.log(Severity.ERROR, self.spec.fails)
            return False
        if self.cuda.capturing is not None and (self.spec.refuses_capture or self.profiler is not None):
            self.logger.log(Severity.ERROR, "operation not permitted when stream is capturing")
            return False
        shapes = dict(self.shapes)
        self.cuda.work(lambda: self._compute(shapes))
        return True

    def _compute(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        arrays = {}
        for name, tensor in self.spec.inputs.items():
            dtype = np.dtype(NUMPY[tensor.dtype])
            size = int(np.prod(shapes[name])) * dtype.itemsize
            raw = self.cuda.memory[self.addresses[name]][:size]
            arrays[name] = raw.view(dtype).reshape(shapes[name])
            if self.listener is not None and self.unfused_tensors_debug_state:  # as if a kernel had written a copy
                where, place = self.addresses[name], TensorLocation.DEVICE
                self.listener.process_debug_tensor(
                    where, place, tensor.dtype, shapes[name], f"{name} copy", self.stream
                )
        for name, array in self.spec.compute(arrays).items():
            data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            self.cuda.memory[self.addresses[name]][: data.size] = data
        if self.profiler is not None and self.enqueue_emits_profile:
            for layer, time in self.spec.layers[self.runs % len(self.spec.layers)]:
                self.profiler.report_layer_time(layer, time)
        self.cuda.now_ms += self.spec.times_ms[self.runs % len(self.spec.times_ms)]
        self.runs += 1


class FakeEngine:
    device_memory_size = 3 << 20

    def __init__(self, spec: Spec, cuda: FakeCuda, logger: Any) -> None:
        self.spec, self.cuda, self.logger = spec, cuda, logger
        self.names = [*spec.inputs, *spec.outputs]
        self.num_io_tensors = len(self.names)
        self.contexts: list[FakeContext] = []
        self.inspector = FakeInspector()

    def create_execution_context(self) -> FakeContext | None:
        if self.spec.no_context:
            self.logger.log(Severity.ERROR, self.spec.no_context)
            return None
        self.contexts.append(FakeContext(self.spec, self.cuda, self.logger))
        return self.contexts[-1]

    def create_engine_inspector(self) -> FakeInspector:
        return self.inspector

    def get_tensor_name(self, number: int) -> str:
        return self.names[number]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.spec.inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:
        return self._tensor(name).dtype

    def get_tensor_location(self, name: str) -> TensorLocation:
        return self._tensor(name).location

    def get_tensor_format(self, name: str) -> TensorFormat:
        return self._tensor(name).format

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        least, _, largest = self.spec.inputs[name].shapes
        return tuple(low if low == high else -1 for low, high in zip(least, largest, strict=True))

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert profile == 0
        return list(self.spec.inputs[name].shapes)

    def _tensor(self, name: str) -> Tensor:
        return {**self.spec.inputs, **self.spec.outputs}[name]


class FakeInspector:
    execution_context: Any = None

    def get_engine_information(self, form: LayerInformationFormat) -> str:
        assert form is LayerInformationFormat.JSON
        return f'{{"Layers": [], "shapes": "{self.execution_context.shapes}"}}'


class FakeTensorRt:
    """Stands for the module; `engines` are those that were loaded."""

    TensorIOMode, TensorLocation, TensorFormat = TensorIOMode, TensorLocation, TensorFormat
    LayerInformationFormat = LayerInformationFormat

    class ILogger:
        pass

    class IProfiler:
        pass

    class IDebugListener:
        pass

    class INetworkDefinition:
        def mark_unfused_tensors_as_debug_tensors(self) -> bool:
            return True

    def __init__(self, spec: Spec, cuda: FakeCuda, name: str = "tensorrt", version: str = "8.6.0") -> None:
        self.spec, self.cuda = spec, cuda
        self.__name__, self.__version__ = name, version
        self.engines: list[FakeEngine] = []
        self.plugins = 0

    def init_libnvinfer_plugins(self, logger: Any, namespace: str) -> bool:
        assert namespace == ""
        self.plugins += 1
        return True

    def Runtime(self, logger: Any) -> FakeRuntime:
        return FakeRuntime(self, logger)


class FakeRuntime:
    def __init__(self, module: FakeTensorRt, logger: Any) -> None:
        self.module, self.logger = module, logger

    def deserialize_cuda_engine(self, data: bytes) -> FakeEngine | None:
        assert data == ENGINE_BYTES
        for text in self.module.spec.warnings:
            self.logger.log(Severity.WARNING, text)
        for text in self.module.spec.errors:
            self.logger.log(Severity.ERROR, text)
        if self.module.spec.errors:
            return None
        self.module.engines.append(FakeEngine(self.module.spec, self.module.cuda, self.logger))
        return self.module.engines[-1]


def engine_file(folder: Path, name: str = "model.engine") -> Path:
    """A file with the bytes that the fake runtime takes for an engine."""
    path = folder / name
    path.write_bytes(ENGINE_BYTES)
    return path
