"""CUDA memory, streams, events and graphs through NVIDIA's cuda-python, which no other module imports."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from autoprec.backends.tensorrt.cuda_errors import DRIVER_ADVICE, CudaError, advice_on
from autoprec.errors import BackendError
from autoprec.precision import Array

Handle = Any
"""A stream, an event or an executable graph; int(stream) is what TensorRT takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The GPU in use and what drives it.

    Attributes:
        name: NVIDIA's, such as "NVIDIA H200".
        capability: compute capability, such as "9.0".
        memory_bytes: all of its memory.
        driver_cuda: the newest CUDA version that the driver supports.
        runtime_cuda: the CUDA version that cuda-python was made for.
    """

    name: str
    capability: str
    memory_bytes: int
    driver_cuda: str
    runtime_cuda: str


class Cuda(Protocol):
    """What engines need of CUDA; every method raises CudaError where CUDA refuses."""

    def device(self) -> Device:
        """The current GPU."""

    def allocate(self, size: int) -> int:
        """The address of `size` bytes of GPU memory."""

    def free(self, address: int) -> None:
        """Give GPU memory back."""

    def allocate_pinned(self, size: int) -> Array:
        """uint8[size] in page-locked memory of the host, which the GPU copies at full speed."""

    def free_pinned(self, array: Array) -> None:
        """Give page-locked memory back; the array must not be used any more."""

    def copy_in(self, address: int, array: Array, stream: Handle) -> None:
        """Copy a contiguous array to the GPU, in stream order; it must outlive the copy."""

    def copy_out(self, array: Array, address: int, stream: Handle) -> None:
        """Fill a contiguous array from the GPU, in stream order."""

    def create_stream(self) -> Handle:
        """A stream that does not wait for the default stream."""

    def destroy_stream(self, stream: Handle) -> None:
        """Free a stream."""

    def synchronize(self, stream: Handle) -> None:
        """Wait for all work of a stream."""

    def create_event(self) -> Handle:
        """An event that notes its time."""

    def destroy_event(self, event: Handle) -> None:
        """Free an event."""

    def record(self, event: Handle, stream: Handle) -> None:
        """Note the time when the stream gets here."""

    def wait(self, event: Handle) -> None:
        """Wait until an event has happened."""

    def elapsed_ms(self, start: Handle, end: Handle) -> float:
        """Milliseconds of the GPU's clock between two events that have happened."""

    def begin_capture(self, stream: Handle) -> None:
        """From here, record what the stream is given instead of doing it."""

    def end_capture(self, stream: Handle) -> Handle:
        """The recorded work as an executable graph."""

    def abandon_capture(self, stream: Handle) -> None:
        """Leave capture after a failure, whatever its state; never raises."""

    def launch(self, graph: Handle, stream: Handle) -> None:
        """Do recorded work."""

    def destroy_graph(self, graph: Handle) -> None:
        """Free an executable graph."""


class CudaRuntime:
    """The CUDA runtime API of cuda-python.

    Args:
        api: the module `cuda.bindings.runtime`, or `cuda.cudart` of cuda-python before 12.8.
    """

    def __init__(self, api: Any) -> None:
        self._api = api
        self._success = api.cudaError_t.cudaSuccess

    def device(self) -> Device:
        """The current GPU.

        Raises:
            CudaError: there is no driver, it is too old, or there is no GPU.
        """
        supported = self._call("cudaDriverGetVersion", doing="find an NVIDIA driver")
        if supported == 0:
            raise CudaError(
                f"running engines needs an NVIDIA driver, and none is installed here; {DRIVER_ADVICE}",
                "cudaErrorInsufficientDriver",
            )
        index = self._call("cudaGetDevice", doing="find a GPU")
        found = self._call("cudaGetDeviceProperties", index, doing="read the GPU's properties")
        made_for = self._call("cudaRuntimeGetVersion", doing="read the version of CUDA")
        return Device(
            name=_text(found.name),
            capability=f"{found.major}.{found.minor}",
            memory_bytes=int(found.totalGlobalMem),
            driver_cuda=_version(supported),
            runtime_cuda=_version(made_for),
        )

    def allocate(self, size: int) -> int:
        """The address of `size` bytes of GPU memory."""
        return int(self._call("cudaMalloc", size, doing=f"allocate {size / 2**20:,.1f} MiB of GPU memory"))

    def free(self, address: int) -> None:
        """Give GPU memory back."""
        self._call("cudaFree", address, doing="free GPU memory")

    def allocate_pinned(self, size: int) -> Array:
        """uint8[size] in page-locked memory of the host."""
        doing = f"allocate {size / 2**20:,.1f} MiB of page-locked memory"
        address = int(self._call("cudaMallocHost", size, doing=doing))
        array: Array = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
        return array

    def free_pinned(self, array: Array) -> None:
        """Give page-locked memory back."""
        self._call("cudaFreeHost", array.ctypes.data, doing="free page-locked memory")

    def copy_in(self, address: int, array: Array, stream: Handle) -> None:
        """Copy a contiguous array to the GPU, in stream order."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call(
            "cudaMemcpyAsync", address, array.ctypes.data, array.nbytes, kind, stream, doing="copy an input to the GPU"
        )

    def copy_out(self, array: Array, address: int, stream: Handle) -> None:
        """Fill a contiguous array from the GPU, in stream order."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call(
            "cudaMemcpyAsync",
            array.ctypes.data,
            address,
            array.nbytes,
            kind,
            stream,
            doing="copy an output back",
        )

    def create_stream(self) -> Handle:
        """A stream that does not wait for the default stream."""
        return self._call("cudaStreamCreateWithFlags", self._api.cudaStreamNonBlocking, doing="create a stream")

    def destroy_stream(self, stream: Handle) -> None:
        """Free a stream."""
        self._call("cudaStreamDestroy", stream, doing="free a stream")

    def synchronize(self, stream: Handle) -> None:
        """Wait for all work of a stream."""
        self._call("cudaStreamSynchronize", stream, doing="finish the work on the GPU")

    def create_event(self) -> Handle:
        """An event that notes its time; waiting for it spins, which wakes up soonest."""
        return self._call("cudaEventCreateWithFlags", self._api.cudaEventDefault, doing="create an event")

    def destroy_event(self, event: Handle) -> None:
        """Free an event."""
        self._call("cudaEventDestroy", event, doing="free an event")

    def record(self, event: Handle, stream: Handle) -> None:
        """Note the time when the stream gets here."""
        self._call("cudaEventRecord", event, stream, doing="record an event")

    def wait(self, event: Handle) -> None:
        """Wait until an event has happened."""
        self._call("cudaEventSynchronize", event, doing="finish the work on the GPU")

    def elapsed_ms(self, start: Handle, end: Handle) -> float:
        """Milliseconds of the GPU's clock between two events."""
        return float(self._call("cudaEventElapsedTime", start, end, doing="read the GPU's clock"))

    def begin_capture(self, stream: Handle) -> None:
        """From here, record what the stream is given."""
        # Thread local, as trtexec: what other threads do with CUDA must not spoil the capture.
        mode = self._api.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", stream, mode, doing="begin to capture a CUDA graph")

    def end_capture(self, stream: Handle) -> Handle:
        """The recorded work as an executable graph."""
        graph = self._call("cudaStreamEndCapture", stream, doing="capture a CUDA graph")
        try:
            # Not cudaGraphInstantiate, whose arguments changed with CUDA 12.
            return self._call("cudaGraphInstantiateWithFlags", graph, 0, doing="make a CUDA graph executable")
        finally:
            self._call("cudaGraphDestroy", graph, doing="free a CUDA graph")

    def abandon_capture(self, stream: Handle) -> None:
        """Leave capture after a failure, whatever its state."""
        error, *graph = self._api.cudaStreamEndCapture(stream)
        if error == self._success and graph and graph[0] is not None and int(graph[0]):
            self._api.cudaGraphDestroy(graph[0])
        self._api.cudaGetLastError()  # the failure would otherwise be reported by a later, innocent call

    def launch(self, graph: Handle, stream: Handle) -> None:
        """Do recorded work."""
        self._call("cudaGraphLaunch", graph, stream, doing="launch a CUDA graph")

    def destroy_graph(self, graph: Handle) -> None:
        """Free an executable graph."""
        self._call("cudaGraphExecDestroy", graph, doing="free a CUDA graph")

    def _call(self, name: str, *arguments: Any, doing: str) -> Any:
        try:
            error, *values = getattr(self._api, name)(*arguments)
        except RuntimeError as failure:  # cuda-python before 12.8 where libcuda.so.1 is missing
            raise CudaError(
                f"CUDA could not {doing}: {failure}; {DRIVER_ADVICE}", "cudaErrorInsufficientDriver"
            ) from failure
        if error != self._success:
            raise self._failure(error, doing)
        return values[0] if values else None

    def _failure(self, error: Any, doing: str) -> CudaError:
        name = _text(self._api.cudaGetErrorName(error)[1])
        why = _text(self._api.cudaGetErrorString(error)[1])
        self._api.cudaGetLastError()
        return CudaError(f"CUDA could not {doing}: {name} ({why}){advice_on(name)}", name)


def load_cuda() -> CudaRuntime:
    """The CUDA of this machine; that it loads does not mean that there is a GPU (ask `device`).

    Raises:
        BackendError: cuda-python is not installed, or does not load.
    """
    try:
        from cuda.bindings import runtime
    except ImportError as first:
        try:
            from cuda import cudart as runtime
        except ImportError:
            missing = isinstance(first, ModuleNotFoundError)
            found = "is not installed" if missing else f"does not load ({first})"
            raise BackendError(
                f"running engines needs NVIDIA's cuda-bindings, which {found}; run: pip install cuda-bindings"
            ) from first
    return CudaRuntime(runtime)


def _text(value: bytes | str) -> str:
    return (value.decode(errors="replace") if isinstance(value, bytes) else str(value)).rstrip("\0")


def _version(number: int) -> str:
    """CUDA counts 12.4 as 12040."""
    return f"{number // 1000}.{number % 1000 // 10}"
