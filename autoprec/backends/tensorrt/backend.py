"""TensorRT as a backend: engines on this machine's GPU, or ahead of time for one that is not here."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autoprec.backends.ort import OrtBackend
from autoprec.backends.protocol import Clock, Engine, RanAs
from autoprec.backends.tensorrt.attribution import attribute
from autoprec.backends.tensorrt.bindings import find_bindings
from autoprec.backends.tensorrt.builder import EngineBuilder
from autoprec.backends.tensorrt.cuda import load_cuda
from autoprec.backends.tensorrt.engine import TensorRtEngine
from autoprec.backends.tensorrt.gpus import default_gpu
from autoprec.backends.tensorrt.inspector import parse_layers
from autoprec.backends.tensorrt.machine import precisions_of
from autoprec.backends.tensorrt.modelled import ModelledEngine
from autoprec.backends.tensorrt.network import input_shapes
from autoprec.backends.tensorrt.nodes import ran_as
from autoprec.backends.tensorrt.records import BuildOptions, EngineFile, EngineLayer, ShapeProfile
from autoprec.precision import Array, Precision

_MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}


class TensorRtBackend:
    """One TensorRT runtime.

    Without targets engines are built for this machine's GPU and measured on it. With targets they are built ahead of
    time; they cannot run here, and their clock is a model of the first target's GPU.

    Args:
        name: "tensorrt" or "tensorrt-rtx".
        options: how engines are built.
        threads: of the CPU, for calibration and for exact arithmetic.
        folder: where engines and kernel timings are kept; by default a temporary folder of this process.
        batch: the first dimension of inputs without a given shape; other open dimensions are 1.

    Raises:
        BackendError: the runtime is missing, or there is neither GPU nor target.
    """

    def __init__(
        self,
        name: str,
        options: BuildOptions | None = None,
        threads: int | None = None,
        folder: Path | None = None,
        batch: int = 1,
    ) -> None:
        self.name = name
        self._bindings = find_bindings(_MODULES[name])
        self._options = options or BuildOptions()
        self._batch = batch
        self._reference = OrtBackend(threads)
        self.threads = self._reference.threads
        self.scheme = "tensorrt-8" if self._bindings.flavour == "weak" else "tensorrt"
        if self._options.targets:
            for target in self._options.targets:
                self._bindings.target(target)
            self._gpu = default_gpu(self._options.targets[0])
            self.clock = Clock("modelled", self._gpu.name)
            self._capabilities = self._options.targets
        else:
            device = load_cuda().device()
            self.clock = Clock("measured", device.name)
            self._capabilities = (device.capability,)
            self._device = device
        self.runs_here = not self._options.targets
        self._temporary = tempfile.TemporaryDirectory(prefix="autoprec-") if folder is None else None
        self._builder = EngineBuilder(
            _MODULES[name], folder or Path(self._temporary.name if self._temporary else "."), self._options
        )

    def for_run(self, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> TensorRtBackend:
        """Engines of exactly these shapes: a smaller batch is padded. They are kept in `folder`/engines."""
        fixed = {name: ShapeProfile(shape, shape, shape) for name, shape in shapes.items()}
        return TensorRtBackend(self.name, replace(self._options, shapes=fixed), self.threads, folder / "engines")

    def describe(self) -> dict[str, str]:
        """Versions and hardware that a latency depends on."""
        return {
            "backend": self.name,
            "runtime": self._bindings.label,
            "hardware": self._builder.hardware,
            "clock": self.clock.words,
        } | self._reference_versions()

    def support(self) -> dict[Precision, str | None]:
        """What every GPU that is built for computes in."""
        found: dict[Precision, str | None] = dict.fromkeys(Precision)
        for capability in self._capabilities:
            for precision, why in precisions_of(capability, self._bindings.flavour).items():
                found[precision] = found[precision] or why
        return found

    def build(self, model: bytes, *, exact: bool = False, threads: int | None = None) -> Engine:
        """Build an engine, or take the kept one; exact arithmetic is ONNX Runtime's on the CPU.

        Raises:
            BackendError: the runtime refused, crashed or took too long.
        """
        if exact:
            return self._reference.build(model, exact=True, threads=threads)
        file = self.build_file(model)
        if self.clock.kind == "modelled":
            return ModelledEngine(file.layers, self._gpu)
        return TensorRtEngine(file.path, self._bindings.module)

    def build_file(self, model: bytes, *, anew: bool = False) -> EngineFile:
        """Build an engine and say how it was made.

        Raises:
            BackendError: as `build`.
        """
        shapes = dict(self._options.shapes)
        for name, shape in input_shapes(model).items():
            if name not in shapes and any(size is None for size in shape):
                fixed = tuple(size or (1 if axis else self._batch) for axis, size in enumerate(shape))
                shapes[name] = ShapeProfile(fixed, fixed, fixed)
        self._builder.options = replace(self._options, shapes=shapes)
        return self._builder.build(model, anew=anew)

    def inspect(self, model: bytes, nodes: Sequence[str]) -> dict[str, RanAs]:
        """What the engine's own inspector says of each node."""
        return ran_as(self._layers(model), nodes)

    def profile_ms(self, model: bytes, feed: Mapping[str, Array], nodes: Sequence[str]) -> dict[str, float]:
        """Milliseconds in each named node; reformats, casts and what belongs to no node under ""."""
        layers = self._layers(model)
        if self.clock.kind == "modelled":
            engine = ModelledEngine(layers, self._gpu)
            rows = [(layer.name, ms) for layer, ms in zip(layers, engine.modelled.per_layer, strict=True)]
        else:
            with TensorRtEngine(self.build_file(model).path, self._bindings.module) as measured:
                rows = measured.profile_ms(feed)
        found = attribute(rows, layers, {name: name for name in nodes})
        rest = sum(found.boundary_ms.values()) + sum(milliseconds for _, milliseconds in found.rest)
        return {**found.unit_ms, "": rest}

    def _layers(self, model: bytes) -> tuple[EngineLayer, ...]:
        file = self.build_file(model)
        if self.clock.kind == "modelled":
            return file.layers
        with TensorRtEngine(file.path, self._bindings.module) as engine:
            return parse_layers(engine.inspector_text())

    def _reference_versions(self) -> dict[str, str]:
        return {key: value for key, value in self._reference.describe().items() if key in ("onnxruntime", "platform")}
