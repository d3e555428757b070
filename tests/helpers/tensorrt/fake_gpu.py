"""A GPU without a GPU: CUDA over NumPy buffers with a clock of its own, and a module that acts like TensorRT."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from autoprec.backends.tensorrt.cuda import Device
from autoprec.backends.tensorrt.cuda_errors import CudaError
from autoprec.precision import Array

DEVICE = Device(name="Fake GPU", capability="9.0", memory_bytes=1 << 30, driver_cuda="13.0", runtime_cuda="12.4")
ENGINE_BYTES = b"an engine"


@dataclass
class Event:
    at_ms: float | None = None


class Stream(int):
    """int(stream) is what TensorRT is given."""


@dataclass
class FakeCuda:
    """Keeps account of what is allocated; work on the stream is done at once and advances the clock.

    Attributes:
        room: bytes of GPU memory.
        refuse: method name -> the error that it raises.
    """

    room: int = 1 << 30
    refuse: dict[str, CudaError] = field(default_factory=dict)
    now_ms: float = 0.0
    copy_ms: float = 0.0
    memory: dict[int, Array] = field(default_factory=dict)
    pinned: list[Array] = field(default_factory=list)
    streams: set[int] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)
    graphs: list[list[Callable[[], None]]] = field(default_factory=list)
    capturing: list[Callable[[], None]] | None = None
    launches: int = 0
    calls: list[str] = field(default_factory=list)
    _next: int = 4096

    def device(self) -> Device:
        self._called("device")
        return DEVICE

    def allocate(self, size: int) -> int:
        self._called("allocate")
        if sum(array.size for array in self.memory.values()) + size > self.room:
            raise CudaError("CUDA could not allocate: cudaErrorMemoryAllocation", "cudaErrorMemoryAllocation")
        self._next += 4096 + size
        self.memory[self._next] = np.full(size, 0xEE, np.uint8)
        return self._next

    def free(self, address: int) -> None:
        self._called("free")
        del self.memory[address]

    def allocate_pinned(self, size: int) -> Array:
        self._called("allocate_pinned")
        self.pinned.append(np.zeros(size, np.uint8))
        return self.pinned[-1]

    def free_pinned(self, array: Array) -> None:
        self.pinned = [other for other in self.pinned if other is not array]

    def copy_in(self, address: int, array: Array, stream: Stream) -> None:
        assert array.flags.c_contiguous
        self._called("copy_in")
        self.memory[address][: array.nbytes] = np.frombuffer(array.tobytes(), np.uint8)
        self.now_ms += self.copy_ms

    def copy_out(self, array: Array, address: int, stream: Stream) -> None:
        self._called("copy_out")
        array.view(np.uint8).reshape(-1)[:] = self.memory[address][: array.nbytes]
        self.now_ms += self.copy_ms

    def create_stream(self) -> Stream:
        self._next += 1
        self.streams.add(self._next)
        return Stream(self._next)

    def destroy_stream(self, stream: Stream) -> None:
        self.streams.remove(int(stream))

    def synchronize(self, stream: Stream) -> None:
        self._called("synchronize")
        assert int(stream) in self.streams
        assert self.capturing is None, "synchronising a stream spoils its capture"

    def create_event(self) -> Event:
        self.events.append(Event())
        return self.events[-1]

    def destroy_event(self, event: Event) -> None:
        self.events = [other for other in self.events if other is not event]

    def record(self, event: Event, stream: Stream) -> None:
        event.at_ms = self.now_ms

    def wait(self, event: Event) -> None:
        assert event.at_ms is not None

    def elapsed_ms(self, start: Event, end: Event) -> float:
        assert start.at_ms is not None
        assert end.at_ms is not None
        return end.at_ms - start.at_ms

    def begin_capture(self, stream: Stream) -> None:
        self._called("begin_capture")
        self.capturing = []

    def end_capture(self, stream: Stream) -> Any:
        graph, self.capturing = self.capturing, None
        self._called("end_capture")
        assert graph is not None
        self.graphs.append(graph)
        return graph

    def abandon_capture(self, stream: Stream) -> None:
        self.capturing = None
        self.calls.append("abandon_capture")

    def launch(self, graph: list[Callable[[], None]], stream: Stream) -> None:
        self._called("launch")
        assert any(graph is other for other in self.graphs), "launch of a graph that was destroyed"
        self.launches += 1
        for work in graph:
            work()

    def destroy_graph(self, graph: list[Callable[[], None]]) -> None:
        self.graphs = [other for other in self.graphs if other is not graph]

    def work(self, work: Callable[[], None]) -> None:
        """What TensorRT enqueues: recorded while capturing, else done."""
        if self.capturing is None:
            work()
        else:
            self.capturing.append(work)

    @property
    def leaks(self) -> dict[str, int]:
        """What is still allocated."""
        kinds = {
            "memory": self.memory,
            "pinned": self.pinned,
            "streams": self.streams,
            "events": self.events,
            "graphs": self.graphs,
        }
        return {name: len(kind) for name, kind in kinds.items() if kind}

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if name in self.refuse:
            raise self.refuse[name]


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


@dataclass
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
        {"x": Tensor(dtype, ((least, 3), (best, 3), (largest, 3)))},
        {"y": Tensor(dtype)},
        lambda shapes: {"y": shapes["x"]},
        lambda arrays: {"y": arrays["x"] + arrays["x"]},
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

    def execute_async_v3(self, stream: int) -> bool:
        assert type(stream) is int
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
