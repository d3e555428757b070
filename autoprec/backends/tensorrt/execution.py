"""An execution context with the GPU memory of its inputs and outputs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np

from autoprec.backends.tensorrt.cuda import Cuda, Handle
from autoprec.backends.tensorrt.cuda_errors import CudaError
from autoprec.backends.tensorrt.loading import Loaded, Messages
from autoprec.backends.tensorrt.records import Shape
from autoprec.errors import BackendError
from autoprec.precision import Array


class Execution:
    """One execution context and the device buffers of its tensors, which grow when they must and are used again.

    Args:
        loaded: the engine.
        cuda: CUDA.
        stream: the stream on which everything happens.
        messages: TensorRT's log.

    Raises:
        BackendError: there is not enough GPU memory for the activations.
    """

    def __init__(self, loaded: Loaded, cuda: Cuda, stream: Handle, messages: Messages) -> None:
        self.loaded, self._cuda, self._stream, self._messages = loaded, cuda, stream, messages
        self._buffers: dict[str, tuple[int, int]] = {}
        self._pinned: dict[str, Array] = {}
        self._graph: Handle | None = None
        self._prepared: dict[str, Shape] | None = None
        self._shapes: dict[str, Shape] = {}
        messages.clear()
        self.context: Any = loaded.engine.create_execution_context()
        if self.context is None:
            raise self._error(
                f"TensorRT could not make an execution context, which needs {loaded.activation_bytes / 2**20:,.1f} MiB "
                "of GPU memory for activations"
            )

    def set_shapes(self, shapes: Mapping[str, Shape]) -> None:
        """Tell TensorRT the inputs' shapes, if they are others than before.

        Raises:
            BackendError: TensorRT refuses a shape.
        """
        if self._shapes == dict(shapes):
            return
        self._drop_graph()  # a graph holds for the shapes that it was captured with, and only those
        self._shapes, self._prepared = {}, None
        self._messages.clear()
        for name, shape in shapes.items():
            if not self.context.set_input_shape(name, shape):
                raise self._error(f"TensorRT refuses the shape {list(shape)} for the input {name!r}")
        self._shapes = dict(shapes)

    @property
    def has_shapes(self) -> bool:
        """Whether the inputs' shapes were set."""
        return bool(self._shapes)

    def upload(self, arrays: Mapping[str, Array]) -> None:
        """Bring inputs to the GPU, and make room for the outputs.

        Raises:
            BackendError: TensorRT refuses a shape, or GPU memory ran out.
        """
        self.set_shapes({name: array.shape for name, array in arrays.items()})
        if self._prepared is None:
            sizes = {name: array.nbytes for name, array in arrays.items()}
            outputs = self._output_shapes()
            for slot in self.loaded.outputs:
                sizes[slot.name] = int(np.prod(outputs[slot.name])) * slot.dtype.itemsize
            for name, size in sizes.items():
                self._place(name, size)
            self._prepared = outputs
        for name, array in arrays.items():
            self._cuda.copy_in(self._buffers[name][0], array, self._stream)
        self._cuda.synchronize(self._stream)  # the arrays are the caller's again

    def enqueue(self) -> None:
        """Have TensorRT enqueue one run.

        Raises:
            BackendError: TensorRT refuses.
        """
        if not self.context.execute_async_v3(int(self._stream)):
            raise self._error("TensorRT could not run the engine")

    def capture(self) -> str | None:
        """Record one run as a CUDA graph, for `launch`; a run of the same shapes must have gone before.

        Returns:
            None, or why there is no graph.
        """
        self._drop_graph()
        self._messages.clear()
        try:
            self._cuda.begin_capture(self._stream)
            try:
                self.enqueue()
            except BaseException:
                self._cuda.abandon_capture(self._stream)
                raise
            self._graph = self._cuda.end_capture(self._stream)
        except BackendError as error:
            return str(error)
        return None

    @property
    def has_graph(self) -> bool:
        """Whether `launch` launches a CUDA graph."""
        return self._graph is not None

    def launch(self) -> None:
        """One run: the CUDA graph where there is one."""
        if self._graph is None:
            self.enqueue()
        else:
            self._cuda.launch(self._graph, self._stream)

    def download(self) -> dict[str, Array]:
        """The outputs, when all that was enqueued is done."""
        outputs: dict[str, Array] = {}
        for slot in self.loaded.outputs:
            outputs[slot.name] = np.empty((self._prepared or {})[slot.name], slot.dtype)
            if outputs[slot.name].size:
                self._cuda.copy_out(outputs[slot.name], self._buffers[slot.name][0], self._stream)
        self._cuda.synchronize(self._stream)
        return outputs

    def pin(self, arrays: Mapping[str, Array]) -> None:
        """Keep inputs, and room for outputs, in page-locked memory, for `send` and `fetch`."""
        self.unpin()
        for name, array in arrays.items():
            self._pinned[name] = self._cuda.allocate_pinned(array.nbytes)
            self._pinned[name][:] = np.frombuffer(array.tobytes(), np.uint8)
        for slot in self.loaded.outputs:
            size = int(np.prod((self._prepared or {})[slot.name])) * slot.dtype.itemsize
            self._pinned[slot.name] = self._cuda.allocate_pinned(max(1, size))

    def send(self) -> None:
        """Enqueue copying the pinned inputs to the GPU."""
        for slot in self.loaded.inputs:
            self._cuda.copy_in(self._buffers[slot.name][0], self._pinned[slot.name], self._stream)

    def fetch(self) -> None:
        """Enqueue copying the outputs to pinned memory."""
        for slot in self.loaded.outputs:
            self._cuda.copy_out(self._pinned[slot.name], self._buffers[slot.name][0], self._stream)

    def unpin(self) -> None:
        """Free what `pin` set aside."""
        with suppress(CudaError):
            self._cuda.synchronize(self._stream)
        pinned, self._pinned = self._pinned, {}
        for array in pinned.values():
            with suppress(CudaError):
                self._cuda.free_pinned(array)

    def close(self) -> None:
        """Free everything; calls after a lost CUDA context, which fail, are passed over."""
        self.unpin()
        self._drop_graph()
        self.context = None
        for address, _ in self._buffers.values():
            with suppress(CudaError):
                self._cuda.free(address)
        self._buffers.clear()
        self._prepared, self._shapes = None, {}

    def _output_shapes(self) -> dict[str, Shape]:
        shapes = {slot.name: tuple(map(int, self.context.get_tensor_shape(slot.name))) for slot in self.loaded.outputs}
        for name, shape in shapes.items():
            if min(shape, default=0) < 0:
                raise BackendError(
                    f"the shape of the output {name!r} depends on the data ({list(shape)}), so no memory can be set "
                    "aside for it; cut the model before the node that makes it so, such as NonZero"
                )
        return shapes

    def _place(self, name: str, size: int) -> None:
        address, room = self._buffers.get(name, (0, 0))
        if size > room or not address:
            if address:
                del self._buffers[name]
                self._cuda.free(address)
            address = self._cuda.allocate(max(1, size))  # TensorRT wants an address for empty tensors too
            self._buffers[name] = address, max(1, size)
        if not self.context.set_tensor_address(name, address):
            raise self._error(f"TensorRT refuses memory for {name!r}")

    def _error(self, head: str) -> BackendError:
        memory = "; free GPU memory (nvidia-smi lists who holds it) or use a smaller batch"
        return BackendError(f"{head}: {self._messages.why}{memory if self._messages.out_of_memory else ''}")

    def _drop_graph(self) -> None:
        graph, self._graph = self._graph, None
        if graph is not None:
            with suppress(CudaError):
                self._cuda.destroy_graph(graph)
