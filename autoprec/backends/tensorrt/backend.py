"""TensorRT as a backend: engines on this machine's GPU, or ahead of time for one that is not here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autoprec.backends.child_process import ChildProcess
from autoprec.backends.ort import OrtBackend
from autoprec.backends.protocol import Clock, Engine, RanAs, TimeProfile
from autoprec.backends.scheme import TENSORRT, TENSORRT_8, TENSORRT_RTX
from autoprec.backends.tensorrt.attribution import attribute
from autoprec.backends.tensorrt.bindings import MODULES, find_bindings
from autoprec.backends.tensorrt.builder import EngineBuilder, check_options, find_device, hardware_of
from autoprec.backends.tensorrt.busy import BusyEngine
from autoprec.backends.tensorrt.engine import TensorRtEngine
from autoprec.backends.tensorrt.gpus import Gpu, default_gpu
from autoprec.backends.tensorrt.inspector import parse_layers
from autoprec.backends.tensorrt.machine import precisions_of
from autoprec.backends.tensorrt.modelled import ModelledEngine
from autoprec.backends.tensorrt.network import input_shapes
from autoprec.backends.tensorrt.nodes import ran_as
from autoprec.backends.tensorrt.open_shapes import shape_profiles
from autoprec.backends.tensorrt.records import BuildOptions, EngineFile, EngineLayer, ShapeProfile
from autoprec.backends.tensorrt.request import CHILD
from autoprec.files.scratch import ScratchFolder
from autoprec.files.user_cache import user_cache
from autoprec.precision import Array, Precision

_SCHEMES = {"weak": TENSORRT_8, "strong": TENSORRT, "rtx": TENSORRT_RTX}


class TensorRtBackend:
    """One TensorRT runtime.

    Without targets engines are built for this machine's GPU and measured on it. With targets they are built ahead of
    time; they cannot run here, and their clock is a model of the first target's GPU. For targets without published
    figures they can be built and inspected, and not timed.

    Args:
        name: "tensorrt" or "tensorrt-rtx".
        options: how engines are built.
        threads: the number of CPU threads, for calibration and for exact arithmetic.
        folder: the folder where engines are kept; by default a temporary one, which is made for the first engine and
            removed with the backend. Kernel timings are kept in the user's cache.
        batch: the number of samples of inputs without a given shape.
        sizes: the shapes of inputs in a run of one sample, from which other open dimensions are taken.
        process: the process that builds the engines; by default one of its own, which ends with the backend.

    Raises:
        BackendError: the runtime is missing, the options cannot be met, or there is neither GPU nor target.
    """

    default_space = "tensorrt"
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
        process: ChildProcess | None = None,
    ) -> None:
        self.name = name
        self._bindings = find_bindings(MODULES[name])
        self._options = options or BuildOptions()
        check_options(self._bindings, self._options)
        self._batch, self._sizes, self._folder = batch, dict(sizes or {}), folder
        self._scratch: ScratchFolder | None = None
        self._process = process or ChildProcess(CHILD)
        self._reference = OrtBackend(threads)
        self.threads = self._reference.threads
        self.scheme = _SCHEMES[self._bindings.flavour]
        self.targets = self._options.targets
        self.runs_here = self.uses_gpu = not self.targets
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
        if self._clock is None:
            self._clock = Clock("modelled", self._gpu.name)
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
        return TensorRtBackend(
            self.name, replace(self._options, shapes=fixed), self.threads, folder / "engines", process=self._process
        )

    def describe(self) -> dict[str, str]:
        """Versions and hardware that a latency depends on."""
        return {
            "backend": self.name,
            "runtime": self._bindings.label,
            "hardware": self._hardware,
            "clock": self.clock.text,
        } | self._reference_versions()

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

    def build_busy(self, model: bytes) -> Engine:
        """An engine that runs on two streams at once, as trtexec with --infStreams=2; nothing waits in between.

        For a target that is not here it is the modelled engine, whose throughput is the inverse of its latency.

        Raises:
            BackendError: the engine cannot be built, as for `build`.
            UsageError: it cannot be timed, as for `build`.
        """
        if not self.runs_here:
            return self.build(model)
        path = self.build_file(model).path
        return BusyEngine(lambda: TensorRtEngine(path, self._bindings.module))

    def build_file(self, model: bytes, *, anew: bool = False) -> EngineFile:
        """Build an engine and say how it was made; for any target, whether or not it can be timed.

        Raises:
            BackendError: the engine cannot be built, as for `build`.
            RunDirectoryError: the folder cannot be written.
            UsageError: the sizes of an input are not known.
        """
        options = replace(self._options, shapes=self.profiles(input_shapes(model)))
        builder = EngineBuilder(
            MODULES[self.name],
            self._kept_in(),
            options,
            hardware=self._hardware,
            process=self._process,
            timings=user_cache("kernel-timings"),  # those of one model serve others too
        )
        return builder.build(model, anew=anew)

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

    def _reference_versions(self) -> dict[str, str]:
        return {key: value for key, value in self._reference.describe().items() if key in ("onnxruntime", "platform")}
