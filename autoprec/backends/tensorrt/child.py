"""Builds engines in a process of its own, which reads the path of a request from each line of its input.

TensorRT ends the whole process where a library is missing or an assertion fails, so it never builds inside the
process that searches. Everything made lies in the request's folder; the result is written last, a line on the output
says that it is there, and no result means that the process died.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TextIO

from autoprec.backends.child_process import die_with_parent, meet_requests
from autoprec.backends.tensorrt.bindings import Bindings, find_bindings
from autoprec.backends.tensorrt.network import (
    ModelRefused,
    has_quantization,
    parse_model,
    set_limits,
    set_precisions,
    set_shapes,
)
from autoprec.backends.tensorrt.records import BuildOptions
from autoprec.backends.tensorrt.request import ENGINE, LAYERS, LOG, MODEL, BuildRequest, BuildResult
from autoprec.errors import AutoprecError, RunDirectoryError
from autoprec.files.json import write_bytes

_LAYERS_START = "Layers:"
_ACTIVATION = re.compile(r"Total Activation Memory: (\d+) bytes")
_THREADS = 8
"""The threads of a builder, of which TensorRT uses one by default: cold builds of MobileNet v1 took a tenth less."""
_DIGEST_BYTES = hashlib.sha256().digest_size

Constraints = Literal["", "obeyed", "preferred", "none"]
"""How far TensorRT 8.6 is bound to the precisions of layers; "" where the types of the model bind it."""


class Messages:
    """TensorRT's messages on their way into a file, and what is read from them.

    Each line is on disk before TensorRT goes on, so that a crash leaves what it said last.

    Attributes:
        layers: the list of the engine's layers, "" until it comes.
        activation_bytes: the most that any part of the engine needs, None until it is said.
    """

    def __init__(self, file: TextIO, verbose: bool) -> None:
        self._file = file
        self._verbose = verbose
        self.layers = ""
        self.activation_bytes: int | None = None

    def add(self, severity: str, text: str) -> None:
        """Take one message; must not raise, since TensorRT calls it."""
        if severity == "verbose" and not self._verbose:
            return
        if not self.layers and text.startswith(_LAYERS_START):
            self.layers = text
        if match := _ACTIVATION.search(text):
            self.activation_bytes = max(int(match[1]), self.activation_bytes or 0)
        try:
            self._file.write(json.dumps([severity, text]) + "\n")
            self._file.flush()
        except OSError:  # the disk is full: the engine will not be written either, and that is reported
            self._verbose = False


class Loggers:
    """The one logger that TensorRT listens to in a process, and whose messages they are at the moment."""

    def __init__(self) -> None:
        self._messages: Messages | None = None
        self._made: dict[str, Any] = {}

    def of(self, bindings: Bindings, messages: Messages) -> Any:
        """The logger of the bindings; from now on it hands everything to `messages`."""
        self._messages = messages
        if bindings.name not in self._made:
            self._made[bindings.name] = self._make(bindings)
        return self._made[bindings.name]

    def _make(self, bindings: Bindings) -> Any:
        def add(severity: Any, text: str) -> None:
            if self._messages is not None:
                self._messages.add(severity.name.lower(), text)

        class Logger(bindings.module.ILogger):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                bindings.module.ILogger.__init__(self)  # pybind11 forbids super() here

            def log(self, severity: Any, text: str) -> None:
                add(severity, text)

        return Logger()


def build(request: BuildRequest, folder: Path, bindings: Bindings, messages: Messages, logger: Any) -> BuildResult:
    """Build the engine and write it, with what is known of its layers, into the folder.

    Raises:
        ModelRefused: the parser refused the model.
        AutoprecError: the request cannot be met, or a file cannot be written.
    """
    module = bindings.module
    register_plugins = getattr(module, "init_libnvinfer_plugins", None)
    if register_plugins is not None:  # TensorRT 8.6 runs some operators, such as InstanceNormalization, as plugins
        register_plugins(logger, "")
    refused: BuildResult | None = None
    ladder: tuple[Constraints, ...] = ("obeyed", "preferred", "none") if bindings.flavour == "weak" else ("",)
    for constraints in ladder:
        result = attempt(request, folder, bindings, messages, logger, constraints=constraints)
        if result.build_s is not None:
            return result
        refused = refused or result
        if not any(request.precisions.values()):
            break
    assert refused is not None
    return refused


def attempt(
    request: BuildRequest,
    folder: Path,
    bindings: Bindings,
    messages: Messages,
    logger: Any,
    *,
    constraints: Constraints,
) -> BuildResult:
    """Build once; without `build_s` where TensorRT finds no engine.

    TensorRT 8.6 has no kernel for some layers that a plan may ask for, such as an INT8 convolution with a residual
    in FP16, and says so at once. Bound less tightly it builds them, and its inspector tells what became of them.
    """
    module = bindings.module
    builder = module.Builder(logger)
    if bindings.flavour != "rtx":
        builder.max_threads = _THREADS
    network = builder.create_network(bindings.network_flags(freely=request.limits is not None))
    parse_model(bindings, network, logger, (folder / MODEL).read_bytes())
    if request.options.debug_tensors:
        network.mark_unfused_tensors_as_debug_tensors()
    config = builder.create_builder_config()
    configure(bindings, config, request.options)
    profile = builder.create_optimization_profile()
    if set_shapes(network, profile, request.options.shapes):
        config.add_optimization_profile(profile)
    leave_to_builder(bindings, config, network, request.limits)
    if constraints:
        set_weak_precisions(bindings, config, network, request.precisions, constraints)
    timings, warm = use_timing_cache(config, request.timing_cache)
    start = time.perf_counter()
    engine = builder.build_serialized_network(network, config)
    build_s = time.perf_counter() - start
    if engine is None or engine.nbytes == 0:
        return BuildResult(warm_timing_cache=warm)
    data = bytes(engine)
    write_bytes(folder / ENGINE, data)
    save_timing_cache(config, timings, request.timing_cache)
    if bindings.flavour == "rtx":  # its engines cannot be deserialised without a GPU; its builder says as much
        layers, activation = messages.layers, messages.activation_bytes
    else:
        layers, activation = inspect(bindings, logger, data)
    write_bytes(folder / LAYERS, layers.encode())
    return BuildResult(build_s=build_s, warm_timing_cache=warm, activation_bytes=activation, constraints=constraints)


def configure(bindings: Bindings, config: Any, options: BuildOptions) -> None:
    """Set what the options ask for; TF32 stays on, as it is by default.

    Raises:
        AutoprecError: a target is none of this runtime's.
    """
    config.profiling_verbosity = bindings.require("ProfilingVerbosity", "DETAILED")
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(bindings.require("MemoryPoolType", "WORKSPACE"), options.workspace_mib << 20)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    targets = [bindings.target(name) for name in options.targets]
    if not targets and bindings.flavour == "rtx":
        targets = [bindings.require("ComputeCapability", "CURRENT")]
    if targets:
        config.num_compute_capabilities = len(targets)
        for number, target in enumerate(targets):
            config.set_compute_capability(target, number)


def leave_to_builder(bindings: Bindings, config: Any, network: Any, limits: Mapping[str, float] | None) -> None:
    """Let TensorRT choose between FP32, FP16 and INT8 by the time of its kernels, where values have limits."""
    if limits is not None:
        config.set_flag(bindings.require("BuilderFlag", "FP16"))
        config.set_flag(bindings.require("BuilderFlag", "INT8"))
        set_limits(network, limits)


def set_weak_precisions(
    bindings: Bindings, config: Any, network: Any, precisions: Mapping[str, str], constraints: Constraints
) -> None:
    """Allow TensorRT 8.6 the types that the model asks for, layer by layer where it is a float type."""
    layers = [network.get_layer(number) for number in range(network.num_layers)]
    wanted = set(precisions.values()) - {""}
    if wanted - {"fp32"}:  # where all is FP32, layers of no node must not go below either
        config.set_flag(bindings.require("BuilderFlag", "FP16"))
    if has_quantization(layers):
        config.set_flag(bindings.require("BuilderFlag", "INT8"))
    if wanted and constraints != "none":
        obey = bindings.require("BuilderFlag", "OBEY_PRECISION_CONSTRAINTS")
        prefer = bindings.require("BuilderFlag", "PREFER_PRECISION_CONSTRAINTS")
        config.set_flag(obey if constraints == "obeyed" else prefer)
        set_precisions(bindings, layers, precisions)


def use_timing_cache(config: Any, path: Path | None) -> tuple[Any, bool]:
    """Let the builder begin with the kernel timings in a file.

    Returns:
        The cache that the builder fills, which must live as long as it builds, and whether it held timings; None
        where none is wanted.
    """
    if path is None:
        return None, False
    stored = read_timing_cache(path)
    for timings in (stored, b"") if stored else (b"",):  # those of another GPU or version are refused
        cache = config.create_timing_cache(timings)
        if cache is not None and config.set_timing_cache(cache, False):
            return cache, bool(timings)
    return None, False


def save_timing_cache(config: Any, cache: Any, path: Path | None) -> None:
    """Write the kernel timings that the builder now has, with those that other builds wrote in the meantime."""
    if path is None or cache is None:
        return
    if (stored := read_timing_cache(path)) and (other := config.create_timing_cache(stored)) is not None:
        cache.combine(other, False)
    data = bytes(cache.serialize())
    with contextlib.suppress(RunDirectoryError):  # timings only save time, and the engine is built
        write_bytes(path, hashlib.sha256(data).digest() + data)


def read_timing_cache(path: Path) -> bytes:
    """The timings in a file, none where it is missing or damaged: TensorRT may crash on a damaged one."""
    try:
        data = path.read_bytes()
    except OSError:
        return b""
    digest, timings = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
    return timings if hashlib.sha256(timings).digest() == digest else b""


def inspect(bindings: Bindings, logger: Any, engine: bytes) -> tuple[str, int | None]:
    """The inspector's JSON of an engine, "" where it cannot be had, and the bytes of activations and scratch."""
    loaded = bindings.module.Runtime(logger).deserialize_cuda_engine(engine)
    if loaded is None:
        return "", None
    json_format = bindings.require("LayerInformationFormat", "JSON")
    text = loaded.create_engine_inspector().get_engine_information(json_format)
    size = getattr(loaded, "device_memory_size_v2", None)  # TensorRT 11 lacks the older name, 8.6 the newer
    return text, int(getattr(loaded, "device_memory_size", 0) if size is None else size)


def run(path: Path, logger: Loggers) -> None:
    """Build what a request asks for and write how it ended."""
    folder = path.parent
    try:
        request = BuildRequest.read(path)
        bindings = find_bindings(request.bindings)
        with (folder / LOG).open("w", encoding="utf-8") as file:
            # Only TensorRT-RTX lists the layers there; elsewhere these are a line for every kernel that is timed.
            messages = Messages(file, verbose=bindings.flavour == "rtx")
            result = build(request, folder, bindings, messages, logger.of(bindings, messages))
    except ModelRefused as refused:
        result = BuildResult(parser_errors=refused.errors)
    except AutoprecError as error:
        result = BuildResult(refusal=str(error))
    except Exception as error:  # whatever TensorRT's bindings raise; the log says more
        result = BuildResult(exception=f"{type(error).__name__}: {error}")
    result.write(folder)


def serve() -> None:
    """Run the request of each line of the input, all with the same loggers."""
    logger = Loggers()
    meet_requests(lambda path: run(path, logger))


if __name__ == "__main__":
    die_with_parent()
    os.chdir(os.path.sep)  # it was started in the folder of its first request, which goes with that
    serve()
    # TensorRT's clean-up at exit may crash; the results are written, and nothing is left to clean up.
    os._exit(0)
