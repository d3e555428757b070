"""Building engines: in a process of their own, under a time limit, kept on disk."""

from __future__ import annotations

import contextlib
import math
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from autoprec.backends.child_process import STDERR, ChildProcess
from autoprec.backends.tensorrt import failures
from autoprec.backends.tensorrt.asked_by_model import requested_limits, requested_precisions
from autoprec.backends.tensorrt.bindings import Bindings, find_bindings
from autoprec.backends.tensorrt.cuda import Device, load_cuda
from autoprec.backends.tensorrt.gpus import gpus_of_capability
from autoprec.backends.tensorrt.records import BuildOptions, EngineFile
from autoprec.backends.tensorrt.request import CHILD, ENGINE, MODEL, BuildRequest, BuildResult, LogLine, read_log
from autoprec.backends.tensorrt.store import DEFAULT_LIMIT_BYTES, WORK_PREFIX, EngineKey, EngineStore
from autoprec.errors import BackendError, OutOfTimeError, RunDirectoryError
from autoprec.files.json import write_bytes

_STDERR_TAIL = 4_000
_MOST_WARNINGS = 100
_HIGHEST_LEVEL = 5


class EngineBuilder:
    """Builds engines with one runtime and keeps them.

    Args:
        bindings_name: "tensorrt" or "tensorrt_rtx".
        folder: the folder where engines and kernel timings are kept; it is made where it does not exist.
        options: how to build.
        hardware: the hardware that engines are for; by default the targets, or the GPU of this machine.
        limit_bytes: the most bytes of all engines that are kept there together.
        process: the process that builds; by default one that ends with each build.
        timings: the folder where kernel timings are kept; by default that of the engines.
        left_s: says how many seconds a build may take before the run that wants it is out of time; by default any.

    Raises:
        BackendError: the runtime is missing, cannot build for the targets, or there is neither target nor GPU.
    """

    def __init__(
        self,
        bindings_name: str,
        folder: Path,
        options: BuildOptions,
        *,
        hardware: str | None = None,
        limit_bytes: int = DEFAULT_LIMIT_BYTES,
        process: ChildProcess | None = None,
        timings: Path | None = None,
        left_s: Callable[[], float] = lambda: math.inf,
    ) -> None:
        self.bindings = find_bindings(bindings_name)
        check_options(self.bindings, options)
        self.options = options
        self.folder = folder
        self.hardware = hardware or hardware_of(self.bindings, options)
        self._store = EngineStore(folder, limit_bytes)
        self._process, self._timings, self._left_s = process, timings or folder, left_s

    def build(self, model: bytes, *, anew: bool = False) -> EngineFile:
        """The engine of a serialised ONNX model, built if it is not kept already.

        Args:
            model: lowered for this runtime.
            anew: build it even if one is kept, which it replaces.

        Raises:
            BackendError: TensorRT refused, crashed or took too long; the message says which and what to do.
            OutOfTimeError: the run that wants it is out of time; a build that had begun was cancelled.
            RunDirectoryError: the folder cannot be written.
        """
        bindings, key = self.bindings, self.key(model)
        if not anew and (kept := self._store.find(key)) is not None:
            return kept
        precisions = requested_precisions(model) if bindings.flavour == "weak" else {}
        with self._work_folder() as name:
            work = Path(name)
            write_bytes(work / MODEL, model)
            request = BuildRequest(
                bindings=bindings.name,
                options=self.options,
                precisions=precisions,
                timing_cache=self._timing_cache(),
                limits=requested_limits(model),
            )
            exit_code = self._run(request.write(work))
            result, log = BuildResult.read(work), read_log(work)
            try:
                self._raise_failure(work, result, log, exit_code)
            except BackendError:
                if self._process is not None:  # an error of CUDA may stick to the process
                    self._process.close()
                raise
            record = {
                "build_s": result.build_s if result else None,
                "warm_timing_cache": result.warm_timing_cache if result else False,
                "activation_bytes": result.activation_bytes if result else None,
                "warnings": [*loosened(result), *warnings_of(log)],
            }
            return self._store.keep(key, work, record)

    def key(self, model: bytes) -> EngineKey:
        """What the engine of a model is found by."""
        return EngineKey(
            model=model,
            options=self.options,
            runtime=self.bindings.name,
            version=self.bindings.version_text,
            hardware=self.hardware,
        )

    def kept(self, model: bytes) -> EngineFile | None:
        """The engine of a model if it was built before."""
        return self._store.find(self.key(model))

    def _work_folder(self) -> tempfile.TemporaryDirectory[str]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryDirectory(prefix=WORK_PREFIX, dir=self.folder, ignore_cleanup_errors=True)
        except OSError as error:
            raise RunDirectoryError(
                f"cannot write {self.folder}: {error.strerror or error}; choose a writable folder with free space"
            ) from error

    def _timing_cache(self) -> Path | None:
        """One file for each GPU and version; TensorRT-RTX times no kernels while it builds."""
        if not self.options.timing_cache or self.bindings.flavour == "rtx":
            return None
        index = re.sub(r"[^A-Za-z0-9.]+", "-", f"{self.bindings.version_text} {self.hardware}").strip("-")
        return self._timings.resolve() / f"{index}.timings"

    def _run(self, request: Path) -> int:
        """Run the request to its end; returns the exit code of the process where it ended, else 0.

        Raises:
            BackendError: it took too long.
            OutOfTimeError: the run is out of time.
        """
        left_s, limit_s = self._left_s(), self.options.time_limit_s
        late = OutOfTimeError(
            f"the time limit ended before {self.bindings.label} had built an engine; allow more time: the same command "
            f"goes on from what is known"
        )
        if left_s <= 0:
            raise late
        with self._building() as process:
            try:
                return process.run(request, min(limit_s, left_s))
            except TimeoutError as error:
                if left_s < limit_s:
                    raise late from error
                raise BackendError(
                    f"{self.bindings.label} did not build the engine within {self.options.time_limit_s:g} s and was "
                    "stopped; allow it more time, or build smaller shapes"
                ) from error

    @contextlib.contextmanager
    def _building(self) -> Iterator[ChildProcess]:
        if self._process is not None:
            yield self._process
            return
        process = ChildProcess(CHILD)
        try:
            yield process
        finally:
            process.close()

    def _raise_failure(self, work: Path, result: BuildResult | None, log: Sequence[LogLine], exit_code: int) -> None:
        label, flavour = self.bindings.label, self.bindings.flavour
        if result is None:
            stderr = (work / STDERR).read_text(encoding="utf-8", errors="replace")[-_STDERR_TAIL:]
            raise BackendError(failures.explain_death(label, flavour, log, stderr, exit_code))
        if result.refusal:
            raise BackendError(result.refusal)
        if result.parser_errors:
            raise BackendError(failures.explain_parser(label, result.parser_errors, log))
        if result.build_s is None or not (work / ENGINE).is_file():
            raise BackendError(failures.explain(label, flavour, log, result.exception))


def loosened(result: BuildResult | None) -> list[str]:
    """That TensorRT 8.6 could not obey every precision, if so."""
    text = {
        "preferred": "it has no kernels that obey every precision of the plan, so they were only preferred",
        "none": "it has no kernels for the precisions of the plan, so it chose between its float types itself",
    }
    return [text[result.constraints]] if result is not None and result.constraints in text else []


def warnings_of(log: Sequence[LogLine]) -> list[str]:
    """The warnings of a build, each once, in order; beyond a hundred only their number."""
    found = list(dict.fromkeys(" ".join(line.text.split()) for line in log if line.severity == "warning"))
    more = len(found) - _MOST_WARNINGS
    if more <= 0:
        return found
    return [*found[:_MOST_WARNINGS], f"and {more} more warnings"]


def check_options(bindings: Bindings, options: BuildOptions) -> None:
    """Refuse options that no build can meet.

    Raises:
        BackendError: the runtime does not build for a target, or a number is out of range.
    """
    for target in options.targets:
        bindings.target(target)
    if options.optimization_level is not None and not 0 <= options.optimization_level <= _HIGHEST_LEVEL:
        raise BackendError(f"the optimization level must be 0 to {_HIGHEST_LEVEL}, found {options.optimization_level}")
    if options.workspace_mib is not None and options.workspace_mib < 1:
        raise BackendError(f"the workspace must be 1 MiB or more, found {options.workspace_mib}")
    if not options.time_limit_s > 0:
        raise BackendError(f"the time limit of a build must be more than 0 s, found {options.time_limit_s:g}")


def hardware_of(bindings: Bindings, options: BuildOptions) -> str:
    """The targets, or the name and the compute capability of this machine's GPU.

    Raises:
        BackendError: there is neither.
    """
    if options.targets:
        return ",".join(options.targets)
    device = find_device(bindings)
    return f"{device.name} (compute capability {device.capability})"


def find_device(bindings: Bindings) -> Device:
    """This machine's GPU.

    Raises:
        BackendError: there is none, or it cannot be used; says so of targets where the runtime has them.
    """
    try:
        return load_cuda().device()
    except BackendError as error:
        targets = bindings.targets()
        if not targets:
            raise
        example = max(targets, key=lambda target: (bool(gpus_of_capability(target)), targets.index(target)))
        raise BackendError(
            f"{bindings.label} must know what to build for: name targets, such as --target {example}, or build where "
            f"there is a GPU ({error})"
        ) from error
