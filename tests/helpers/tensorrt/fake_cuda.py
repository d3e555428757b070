"""A GPU without a GPU: CUDA over NumPy buffers, with a clock of its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from autoprec.backends.tensorrt.cuda import Device
from autoprec.backends.tensorrt.cuda_errors import CudaError
from autoprec.precision import Array

DEVICE = Device(name="Fake GPU", capability="9.0", memory_bytes=1 << 30, driver_cuda="13.0", runtime_cuda="12.4")


@dataclass
class Event:
    at_ms: float | None = None


class Stream(int):
    """int(stream) is what TensorRT is given."""


@dataclass(kw_only=True)
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


class DeviceOnly:
    """CUDA that is asked for its device and nothing else; an error is raised."""

    def __init__(self, answer: Device | CudaError) -> None:
        self._answer = answer

    def device(self) -> Device:
        if isinstance(self._answer, CudaError):
            raise self._answer
        return self._answer
