"""TensorRT as a backend: engines on this machine's GPU, or ahead of time for one that is not here."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autoprec.backends.child_process import ChildProcess
from autoprec.backends.ort import OrtBackend
from autoprec.backends.protocol import Clock, Engine, RanAs, TimeProfile
from autoprec.backends.scheme import TENSORRT, TENSORRT_8, TENSORRT_RTX
from autoprec.backends.tensorrt.asked_by_model import input_shapes, is_left_to_builder
from autoprec.backends.tensorrt.attribution import attribute
from autoprec.backends.tensorrt.bindings import MODULES, find_bindings
from autoprec.backends.tensorrt.build_queue import SharedQueue, Work
from autoprec.backends.tensorrt.builder import EngineBuilder, check_options, find_device, hardware_of
from autoprec.backends.tensorrt.builder_processes import builder_queue
from autoprec.backends.tensorrt.busy import BusyEngine
from autoprec.backends.tensorrt.debug_tensors import has_debug_tensors, showing
from autoprec.backends.tensorrt.engine import TensorRtEngine
from autoprec.backends.tensorrt.gpus import Gpu, default_gpu
from autoprec.backends.tensorrt.inspector import parse_layers
from autoprec.backends.tensorrt.machine import precisions_of
from autoprec.backends.tensorrt.modelled import ModelledEngine
from autoprec.backends.tensorrt.nodes import ran_as
from autoprec.backends.tensorrt.open_shapes import shape_profiles
from autoprec.backends.tensorrt.records import BuildOptions, EngineFile, EngineLayer, ShapeProfile
from autoprec.files.scratch import ScratchFolder
from autoprec.files.user_cache import user_cache
from autoprec.precision import Array, Precision

_QUICK_LEVEL = 2  # it halves the time of builds whose kernels are not known; TensorRT's default is 3
_SCHEMES = {"weak": TENSORRT_8, "strong": TENSORRT, "rtx": TENSORRT_RTX}


class TensorRtBackend:
    """One TensorRT runtime.

    Without targets engines are built for this machine's GPU and measured on it. Those for targets cannot run here:
    their clock is a model of the first target's GPU, and without published figures of that they are not timed.

    Args:
        name: "tensorrt" or "tensorrt-rtx".
        options: how engines are built.
        threads: the number of CPU threads, for calibration and for exact arithmetic.
        folder: the folder of engines; by default a temporary one. Kernel timings are kept in the user's cache.
        batch: the number of samples of inputs without a given shape.
        sizes: the shapes of inputs in a run of one sample, from which other open dimensions are taken.
        queue: the processes that build the engines; by default some of its own, which end with the backend.
        left_s: says how many seconds builds may take from now; by default any.

    Raises:
        BackendError: the runtime is missing, the options cannot be met, or there is neither GPU nor target.
    """

    default_space = "tensorrt"
    times_by_carrier = False
    portable = False
    builds_quickly = False
    keeps_engines = True

    def __init__(
        self,
        name: str,
        options: BuildOptions | None = None,
        threads: int | None = None,
        folder: Path | None = None,
        *,
        batch: int = 1,
        sizes: Mapping[str, tuple[int, ...]] | None = None,
        queue: SharedQueue | None = None,
        left_s: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self.name = name
        self._bindings = find_bindings(MODULES[name])
        self._options = options or BuildOptions()
        check_options(self._bindings, self._options)
        self._usual_level = self._options.optimization_level
        self._batch, self._sizes, self._folder = batch, dict(sizes or {}), folder
        self._scratch: ScratchFolder | None = None
        self._queue, self._left_s = queue, left_s
        self._reference = OrtBackend(threads)
        self.threads = self._reference.threads
        self.scheme = _SCHEMES[self._bindings.flavour]
        self.targets = self._options.targets
        self.runs_here = self.uses_gpu = not self.targets
        self.times_by_carrier = self.runs_here
        self.chooses_precisions = self.runs_here and self._bindings.chooses_precisions
        self._device = find_device(self._bindings) if self.runs_here else None
        self._hardware = hardware_of(self._bindings, self._options)
        self._clock = None if self._device is None else Clock("measured", self._device.name)

    @property
    def options(self) -> BuildOptions:
        """How engines are built."""
        return self._options

    @property
    def clock(self) -> Clock:
        """Where latencies come from.

        Raises:
            UsageError: there are no figures of a GPU like the first target.
        """
        self._clock = self._clock or Clock("modelled", self._gpu.name)
        return self._clock

    @property
    def _gpu(self) -> Gpu:
        return default_gpu(self._options.targets[0])

    def for_run(self, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> TensorRtBackend:
        """Engines of exactly these shapes: a smaller batch is padded. They are kept in `folder`/engines.

        Raises:
            UsageError: there are no figures to model the latency by, which a run needs.
        """
        if not self.runs_here:
            default_gpu(self.targets[0])  # a GPU without figures is refused before the first minute is spent
        fixed = {name: ShapeProfile(shape, shape, shape) for name, shape in shapes.items()}
        return self._with(replace(self._options, shapes=fixed), folder / "engines")

    def _with(self, options: BuildOptions, folder: Path) -> TensorRtBackend:
        return TensorRtBackend(self.name, options, self.threads, folder, queue=self._shared(), left_s=self._left_s)

    def limit_builds(self, left_s: Callable[[], float], *, quickly: bool = False) -> None:
        """Have every build from now on cancelled, by an `OutOfTimeError`, when these seconds are over."""
        self._left_s = left_s
        quick = quickly and self.runs_here and self._usual_level is None
        self._options = replace(self._options, optimization_level=_QUICK_LEVEL if quick else self._usual_level)

    @property
    def builders(self) -> int:
        """The number of processes that build ahead at once; none for a machine that is not here."""
        return len(self._shared().queue.processes) if self.runs_here else 0

    def get_ready(self) -> None:
        """Start the processes that build, which takes many seconds, before there is anything to build."""
        self._shared().queue.begin()

    def build_ahead(self, model: bytes, *, alone: bool = False) -> None:
        """Begin to build what will be wanted; `build` then waits for no more than the rest.

        Args:
            model: the model.
            alone: whether it has so many kernels to time that no other build may run beside it.
        """
        builder = self._builder(model)
        if builder.kept(model) is None:
            key, work, beside = builder.key(model).digest(), self._work(model), is_left_to_builder(model)
            self._shared().queue.ahead(key, work, alone=alone, beside=beside)

    def kept_build_s(self, model: bytes) -> float | None:
        """The seconds that the builder took for a kept engine, None where there is none."""
        kept = self._builder(model).kept(model)
        return None if kept is None else kept.build_s

    def forget_ahead(self, *, cancel: bool = True) -> None:
        """Give up what was begun ahead and nobody waits for, so that nothing else uses the GPU."""
        if self._queue is not None:
            self._queue.queue.forget_ahead(cancel=cancel)

    def describe(self) -> dict[str, str]:
        """Versions and hardware that a latency depends on."""
        known = self._reference.describe()
        return {
            "backend": self.name,
            "runtime": self._bindings.label,
            "hardware": self._hardware,
            "clock": self.clock.text,
        } | {key: value for key, value in known.items() if key in ("onnxruntime", "platform")}

    def support(self) -> dict[Precision, str | None]:
        """What every GPU that is built for computes in."""
        found: dict[Precision, str | None] = dict.fromkeys(Precision)
        for capability in self._options.targets if self._device is None else (self._device.capability,):
            for precision, why in precisions_of(capability, self._bindings.flavour).items():
                found[precision] = found[precision] or why
        return found

    def build(self, model: bytes, *, exact: bool = False, threads: int | None = None) -> Engine:
        """Build an engine, or take the kept one; exact arithmetic is ONNX Runtime's on the CPU.

        Raises:
            BackendError: the runtime refused, crashed or took too long.
            UsageError: the engine cannot be timed, as there are no figures of a GPU like the first target.
        """
        if exact:
            return self._reference.build(model, exact=True, threads=threads)
        if self.runs_here:
            return TensorRtEngine(self.build_file(model).path, self._bindings.module)
        gpu = self._gpu  # which may be refused: before the time of a build is spent
        file = self.build_file(model)
        return ModelledEngine(file.layers, gpu, file.engine_bytes)

    def build_showing(self, model: bytes, values: Mapping[str, str]) -> Engine | None:
        """Build an engine that shows values as unfused debug tensors; None where there are none, or none fits."""
        if not self.runs_here or not has_debug_tensors(self._bindings):
            return None
        other = self._with(replace(self._options, debug_tensors=True), self._kept_in())
        return showing(other.build_file(model).path, self._bindings.module, values)

    def build_busy(self, model: bytes) -> Engine:
        """An engine that runs on two streams at once, as trtexec with --infStreams=2; nothing waits in between.

        For a target that is not here it is the modelled engine, whose throughput is the inverse of its latency.

        Raises:
            BackendError: the engine cannot be built, as for `build`.
            UsageError: it cannot be timed, as for `build`.
        """
        if not self.runs_here:
            return self.build(model)
        return BusyEngine(lambda: TensorRtEngine(self.build_file(model).path, self._bindings.module))

    def build_file(self, model: bytes, *, anew: bool = False) -> EngineFile:
        """Build an engine and say how it was made; for any target, whether or not it can be timed.

        Raises:
            BackendError: the engine cannot be built, as for `build`.
            OutOfTimeError: it cannot be built in the time that `limit_builds` left.
            RunDirectoryError: the folder cannot be written.
            UsageError: the sizes of an input are not known.
        """
        builder = self._builder(model)
        if not anew and (kept := builder.kept(model)) is not None:
            return kept
        key = builder.key(model).digest() + (" anew" if anew else "")
        return self._shared().queue.build(key, self._work(model, anew=anew))

    def _work(self, model: bytes, *, anew: bool = False) -> Work:
        return lambda process: self._builder(model, process).build(model, anew=anew)

    def _builder(self, model: bytes, process: ChildProcess | None = None) -> EngineBuilder:
        # Quick settings leave few kernels and formats to choose between, and what is left to the builder is a choice.
        level = self._usual_level if is_left_to_builder(model) else self._options.optimization_level
        return EngineBuilder(
            MODULES[self.name],
            self._kept_in(),
            replace(self._options, shapes=self.profiles(input_shapes(model)), optimization_level=level),
            hardware=self._hardware,
            process=process,
            timings=user_cache("kernel-timings"),  # those of one model serve others too
            left_s=lambda: self._left_s(),
        )

    def _shared(self) -> SharedQueue:
        """The processes that build; several on this machine's GPU, where builds are begun ahead."""
        if self._queue is None:
            self._queue = builder_queue(MODULES[self.name], self._hardware, runs_here=self.runs_here)
        return self._queue

    def profiles(self, inputs: Mapping[str, tuple[int | None, ...]]) -> dict[str, ShapeProfile]:
        """The shapes that an engine is built for, where inputs have these dimensions; None is an open one.

        Raises:
            UsageError: the sizes of an input are not known.
        """
        return shape_profiles(inputs, self._options.shapes, self._sizes, self._batch)

    def inspect(self, model: bytes, nodes: Sequence[str]) -> dict[str, RanAs]:
        """What the engine's own inspector says of each node."""
        return ran_as(self._layers(model), nodes)

    def profile(
        self, model: bytes, feed: Mapping[str, Array], home: Mapping[str, str], macs: Mapping[str, int]
    ) -> TimeProfile:
        """Where the time goes, by IProfiler here, and by the model of each layer for an engine that cannot run here.

        Raises:
            BackendError: the engine cannot be built, as for `build`.
            UsageError: it cannot be timed, as for `build`.
        """
        if self.runs_here:
            with TensorRtEngine(self.build_file(model).path, self._bindings.module) as engine:
                layers = parse_layers(engine.inspector_text())
                rows = engine.profile_ms(feed)
        else:
            gpu = self._gpu
            layers = self.build_file(model).layers
            modelled = ModelledEngine(layers, gpu).modelled
            rows = [(layer.name, ms) for layer, ms in zip(layers, modelled.per_layer, strict=True)]
        return attribute(rows, layers, home, macs)

    def _layers(self, model: bytes) -> tuple[EngineLayer, ...]:
        file = self.build_file(model)
        if not self.runs_here:
            return file.layers
        with TensorRtEngine(file.path, self._bindings.module) as engine:
            return parse_layers(engine.inspector_text())

    def _kept_in(self) -> Path:
        if self._folder is None:
            self._scratch = ScratchFolder()
            self._folder = self._scratch.path
        return self._folder
