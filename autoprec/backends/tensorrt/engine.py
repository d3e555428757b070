"""A TensorRT engine on the GPU: run it, time it as trtexec does, see into it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from autoprec.backends.tensorrt.benchmark import RunTimes
from autoprec.backends.tensorrt.cuda import Cuda, Device, Handle, load_cuda
from autoprec.backends.tensorrt.cuda_errors import CudaError
from autoprec.backends.tensorrt.execution import Execution
from autoprec.backends.tensorrt.feeds import Fitted, InputSlot, OutputSlot, cut, fit, widen
from autoprec.backends.tensorrt.layer_times import layer_profiler, median_times
from autoprec.backends.tensorrt.loading import Loaded, load, messages_of, runtime_label
from autoprec.backends.tensorrt.records import Shape
from autoprec.backends.tensorrt.stopwatch import Stopwatch
from autoprec.errors import BackendError
from autoprec.precision import Array

_FIRST_RUNS = 3  # of a profile: kernels are loaded, clocks rise


class TensorRtEngine:
    """A serialised engine, loaded on the current GPU; close it, or use it as a context manager, to free the GPU.

    Args:
        path: the engine file.
        module: the runtime that built it, `tensorrt` or `tensorrt_rtx`.
        cuda: CUDA; by default this machine's.
        cuda_graph: launch timed runs as a CUDA graph, as trtexec 11 does, where the engine can be captured.
        listener: TensorRT's IDebugListener that is handed what kernels write, None for none.

    Attributes:
        path: the engine file.
        runtime: its name and version, as in "TensorRT 8.6.0".
        device: the GPU.
        inputs: the inputs that the engine is fed.
        outputs: the outputs that it returns.
        warnings: the warnings of TensorRT, and why there is no CUDA graph where one was wanted.
        size_bytes: the size of the file.
        activation_bytes: GPU memory for activations and scratch.

    Raises:
        BackendError: no GPU, no cuda-python, or the engine cannot be loaded here; the message says what to do.
    """

    def __init__(
        self, path: Path, module: Any, cuda: Cuda | None = None, *, cuda_graph: bool = True, listener: Any = None
    ) -> None:
        self.path = path
        self.runtime: str = runtime_label(module)
        self._module = module
        self._cuda: Cuda = load_cuda() if cuda is None else cuda
        self.device: Device = self._cuda.device()
        self._wants_graph, self._listener = cuda_graph, listener
        self._stream: Handle | None = None
        self._loaded: Loaded | None = None
        self._execution: Execution | None = None
        self._shapes: dict[str, Shape] = {}
        self._messages = messages_of(module)
        loaded = load(path, module, self.device)
        self.inputs: tuple[InputSlot, ...] = loaded.inputs
        self.outputs: tuple[OutputSlot, ...] = loaded.outputs
        self.warnings: list[str] = list(loaded.warnings)
        self.size_bytes: int = loaded.engine_bytes
        self.activation_bytes: int = loaded.activation_bytes
        try:
            self._stream = self._cuda.create_stream()
            self._loaded = loaded
            self._open()
        except BaseException:
            self.close()
            raise

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Output name -> array, for one batch; 16-bit and 8-bit floats come as float32.

        A batch below the engine's least is padded and its results cut; one above its largest is refused.

        Raises:
            DataError: the batch does not fit the engine.
            BackendError: TensorRT or CUDA failed.
        """
        execution = self._open()
        fitted = fit(self.inputs, feed)
        self._upload(execution, fitted)
        self._messages.clear()
        execution.enqueue()
        return {name: widen(array) for name, array in cut(execution.download(), fitted).items()}

    def time_ms(self, feed: Mapping[str, Array], runs: int) -> list[float]:
        """Milliseconds of the GPU for each of `runs` runs, by CUDA events, with the inputs already there.

        Runs are launched as a CUDA graph where that is possible, up to `stopwatch.IN_FLIGHT` ahead, so that the
        host's time to enqueue hides behind the run before. Time of the host and of transfers is not in it.

        Raises:
            DataError: the batch does not fit the engine.
            BackendError: TensorRT or CUDA failed.
        """
        execution = self._open()
        self._make_ready(feed)
        with self._stopwatch(execution.launch) as stopwatch:
            laps, _ = stopwatch.run(lambda done, _: done < runs)
        return [lap.steps_ms[0] for lap in laps]

    def ready(self, feed: Mapping[str, Array]) -> None:
        """Bring a batch to the GPU, for `launch`.

        Raises:
            DataError: the batch does not fit the engine.
            BackendError: TensorRT or CUDA failed.
        """
        self._make_ready(feed)

    def launch(self) -> None:
        """Enqueue one run of the batch that is `ready`, and wait for nothing."""
        self._open().launch()

    def wait(self) -> None:
        """Wait for all that was enqueued."""
        self._cuda.synchronize(self._stream)

    def measure(
        self,
        feed: Mapping[str, Array],
        *,
        warmup_ms: float = 200.0,
        iterations: int = 10,
        duration_s: float = 3.0,
        include_transfers: bool = False,
    ) -> RunTimes:
        """Time the engine as trtexec 11 does, one stream, for `benchmark.summarize`.

        As in `time_ms` several runs are in flight; with transfers each run's copies from and to page-locked memory
        stand before and behind it on the same stream (trtexec --exposeDMA), so they do not overlap with computing
        and latencies add up. TensorRT-RTX compiles kernels in its first run, which is never counted.

        Args:
            feed: one batch.
            warmup_ms: runs within this time are not counted.
            iterations: the least counted runs.
            duration_s: the least time of all counted runs.
            include_transfers: copy inputs and outputs in each run, and time that.

        Raises:
            DataError: the batch does not fit the engine.
            BackendError: TensorRT or CUDA failed.
        """
        execution = self._open()
        fitted = self._make_ready(feed)
        steps = [execution.launch]
        try:
            if include_transfers:
                execution.pin(fitted.arrays)
                steps = [execution.send, execution.launch, execution.fetch]
            with self._stopwatch(*steps) as stopwatch:
                stopwatch.run(lambda _, seconds: 1e3 * seconds < warmup_ms)
                laps, wall_s = stopwatch.run(lambda done, seconds: done < iterations or seconds < duration_s)
        finally:
            execution.unpin()
        compute = len(steps) // 2
        return RunTimes(
            gpu_ms=tuple(lap.steps_ms[compute] for lap in laps),
            enqueue_ms=tuple(lap.enqueue_ms[compute] for lap in laps),
            to_device_ms=tuple(lap.steps_ms[0] for lap in laps) if include_transfers else (),
            to_host_ms=tuple(lap.steps_ms[-1] for lap in laps) if include_transfers else (),
            wall_s=wall_s,
            batch=fitted.samples,
            cuda_graph=execution.has_graph,
        )

    def profile_ms(self, feed: Mapping[str, Array], runs: int = 20) -> list[tuple[str, float]]:
        """Each layer in order with its milliseconds, the median over `runs` runs, by TensorRT's own IProfiler.

        The sum exceeds the time of a whole run, since the events between layers keep the GPU from running on. Done
        in an execution context of its own, without a CUDA graph, so that timed runs are left alone; the next run or
        timing has a new one. Where runs did not report the same layers, such as with loops, a layer's times in one
        run are added up.

        Raises:
            DataError: the batch does not fit the engine.
            BackendError: TensorRT or CUDA failed, or reports no layers.
        """
        fitted = fit(self.inputs, feed)
        profiler = layer_profiler(self._module)
        self._leave()  # TensorRT 8.6 gives an optimization profile to one context at a time
        execution = self._context()
        reports: list[list[tuple[str, float]]] = []
        try:
            execution.context.profiler = profiler
            execution.context.enqueue_emits_profile = True
            self._upload(execution, fitted)
            for _ in range(_FIRST_RUNS + runs):
                profiler.rows.clear()
                execution.enqueue()
                self._cuda.synchronize(self._stream)
                reports.append(list(profiler.rows))
        finally:
            execution.close()
        if not any(reports):
            raise BackendError(f"TensorRT reported no layer times for {self.path}; build the engine again")
        return median_times(reports[_FIRST_RUNS:])

    def inspector_text(self) -> str:
        """TensorRT's JSON on every layer, with the shapes of the last batch, or those that the engine is tuned for.

        Raises:
            BackendError: TensorRT refuses.
        """
        execution = self._open()
        if not execution.has_shapes:
            execution.set_shapes(self._shapes or {slot.name: slot.shapes.best for slot in self.inputs})
        self._messages.clear()
        inspector = execution.loaded.engine.create_engine_inspector()
        if inspector is None:
            raise BackendError(f"TensorRT gives no inspector for {self.path}: {self._messages.why}")
        inspector.execution_context = execution.context
        return str(inspector.get_engine_information(self._module.LayerInformationFormat.JSON))

    def close(self) -> None:
        """Free everything on the GPU; a second call does nothing."""
        self._leave()
        self._loaded = None  # and with it the engine, whose weights are on the GPU
        if self._stream is not None:
            with suppress(CudaError):
                self._cuda.destroy_stream(self._stream)
            self._stream = None

    def __enter__(self) -> TensorRtEngine:
        """The engine itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free everything on the GPU."""
        self.close()

    def _open(self) -> Execution:
        """The execution context of runs, made again after a profile."""
        if self._execution is None:
            self._execution = self._context()
        return self._execution

    def _context(self) -> Execution:
        if self._loaded is None:
            raise BackendError(f"the engine {self.path} was closed; load it again")
        execution = Execution(self._loaded, self._cuda, self._stream, self._messages)
        if self._listener is not None:
            execution.context.set_debug_listener(self._listener)
            execution.context.unfused_tensors_debug_state = True
        return execution

    def _leave(self) -> None:
        execution, self._execution = self._execution, None
        if execution is not None:
            execution.close()

    def _upload(self, execution: Execution, fitted: Fitted) -> None:
        execution.upload(fitted.arrays)
        self._shapes = {name: array.shape for name, array in fitted.arrays.items()}

    def _make_ready(self, feed: Mapping[str, Array]) -> Fitted:
        """Inputs on the GPU, one run done, and a CUDA graph of it where that is wanted and possible."""
        execution = self._open()
        fitted = fit(self.inputs, feed)
        self._upload(execution, fitted)
        if execution.has_graph:
            return fitted
        self._messages.clear()
        execution.enqueue()  # TensorRT does work of its own in the first run of a shape, which cannot be captured
        self._cuda.synchronize(self._stream)
        if self._wants_graph:
            refusal = execution.capture()
            if refusal is not None:
                self._wants_graph = False
                self.warnings.append(f"timed without a CUDA graph, since this engine cannot be captured: {refusal}")
        return fitted

    def _stopwatch(self, *steps: Callable[[], None]) -> Stopwatch:
        return Stopwatch(self._cuda, self._stream, steps)
