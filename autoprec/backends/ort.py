"""ONNX Runtime on the CPU: INT8 runs in real kernels, FP16, BF16 and FP8 are simulated by rounding."""

from __future__ import annotations

import itertools
import json
import os
import platform
import tempfile
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import onnxruntime as ort

from autoprec.backends.protocol import Clock, RanAs, TimeProfile
from autoprec.backends.scheme import ORT_CPU
from autoprec.backends.sharing import Kernel, share_out
from autoprec.errors import BackendError
from autoprec.precision import Array, Precision

if TYPE_CHECKING:
    import onnx

_LOG_ERRORS_ONLY = 3
# They drop a Relu or Clip before QuantizeLinear as if FP8 had no negative numbers (ONNX Runtime 1.31).
_WRONG_FOR_FP8 = ("ReluQuantRewrite", "ClipQuantRewrite")
_QUANTIZED_PREFIXES = ("QLinear", "QGemm", "MatMulInteger", "ConvInteger", "DynamicQuantize")
_MOVING = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "Cast",
        "ReorderInput",
        "ReorderOutput",
        "Transpose",
        "Concat",
        "QLinearConcat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Pad",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Unsqueeze",
    }
)
_CONTROL_FLOW = ("If", "Loop", "Scan")  # their time is that of the kernels in their bodies
_PROFILED_RUNS = 6


class OrtEngine:
    """An ONNX Runtime session."""

    size_bytes = 0

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session: Any = session
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Output name -> array, for one batch.

        Raises:
            BackendError: the runtime failed on this batch.
        """
        try:
            results = self._session.run(None, dict(feed))
        except Exception as error:  # ONNX Runtime raises plain RuntimeErrors of its C++ part
            raise BackendError(f"ONNX Runtime failed while running the model: {_first_line(error)}") from error
        return dict(zip(self._outputs, results, strict=True))

    def time_ms(self, feed: Mapping[str, Array], runs: int) -> list[float]:
        """Wall-clock milliseconds of each of `runs` runs."""
        arrays, times = dict(feed), []
        for _ in range(runs):
            start = time.perf_counter()
            self._session.run(None, arrays)
            times.append(1e3 * (time.perf_counter() - start))
        return times

    def __enter__(self) -> OrtEngine:
        """The engine itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the session and its threads."""
        self._session = None


class BusyOrtEngine(OrtEngine):
    """A session of one thread a run, called by several threads at once, each with its next batch as soon as it can.

    Args:
        session: that they share.
        callers: how many.
    """

    def __init__(self, session: ort.InferenceSession, callers: int) -> None:
        super().__init__(session)
        self._callers = callers

    def time_ms(self, feed: Mapping[str, Array], runs: int) -> list[float]:
        """Milliseconds for each batch, `runs` times: as many batches as callers, over the time until all were done."""
        arrays, ready = dict(feed), threading.Barrier(self._callers + 1)

        def call() -> list[float]:
            done = []
            ready.wait()
            for _ in range(runs):
                self._session.run(None, arrays)
                done.append(time.perf_counter())
            return done

        with ThreadPoolExecutor(self._callers) as pool:
            futures = [pool.submit(call) for _ in range(self._callers)]
            ready.wait()
            began = time.perf_counter()
            done = sorted(moment for future in futures for moment in future.result())
        ends = [began, *done[self._callers - 1 :: self._callers]]
        return [1e3 * (end - start) / self._callers for start, end in itertools.pairwise(ends)]


class OrtBackend:
    """ONNX Runtime's CPU execution provider.

    Args:
        threads: threads of one run; by default the CPUs that this process may use.
    """

    name = "ort-cpu"
    scheme = ORT_CPU
    default_space = "cpu"
    targets: tuple[str, ...] = ()
    runs_here = True
    uses_gpu = False
    portable = True
    builds_quickly = True
    keeps_engines = False

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or available_cpus()
        self.clock = Clock("measured", cpu_name())

    def for_run(self, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> OrtBackend:
        """This backend: sessions take any shape and keep no files."""
        return self

    def describe(self) -> dict[str, str]:
        """Versions and hardware that a measured latency depends on."""
        return {
            "backend": self.name,
            "onnxruntime": ort.__version__,
            "cpu": cpu_name(),
            "threads": str(self.threads),
            "platform": platform.platform(terse=True),
        }

    def support(self) -> dict[Precision, str | None]:
        """FP32 and INT8 are native; the others are simulated, so their latency means nothing here."""
        simulated = "simulated by rounding: ONNX Runtime has no kernels for it on a CPU, so it cannot be timed"
        return {p: None if p in (Precision.FP32, Precision.INT8) else simulated for p in Precision}

    def build(self, model: bytes, *, exact: bool = False, threads: int | None = None) -> OrtEngine:
        """Build a session.

        Raises:
            BackendError: ONNX Runtime refused the model.
        """
        options = self._options(threads)
        if exact:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
        return OrtEngine(self._session(model, options, _WRONG_FOR_FP8 if exact else ()))

    def build_busy(self, model: bytes) -> BusyOrtEngine:
        """As many callers as threads, each run on one thread: what serves most samples per second.

        Raises:
            BackendError: ONNX Runtime refused the model.
        """
        return BusyOrtEngine(self._session(model, self._options(1)), self.threads)

    def inspect(self, model: bytes, nodes: Sequence[str]) -> dict[str, RanAs]:
        """Read the graph as ONNX Runtime optimised it."""
        with tempfile.TemporaryDirectory(prefix="autoprec-") as folder:
            _, graph = self._optimized(model, self._options(), Path(folder))
        owner = _Owner(nodes, model)
        found: dict[str, RanAs] = {}
        for node in graph.node:
            name = owner.of(node.name, node.output)
            if name is not None and not node.op_type.startswith(("Quantize", "Dequantize", "Reorder")):
                found.setdefault(
                    name, RanAs(operator=node.op_type, quantized=node.op_type.startswith(_QUANTIZED_PREFIXES))
                )
        return found

    def profile(
        self, model: bytes, feed: Mapping[str, Array], home: Mapping[str, str], macs: Mapping[str, int]
    ) -> TimeProfile:
        """Kernel times by ONNX Runtime's profiler, each the median over a few runs; a kernel is of one unit alone."""
        with tempfile.TemporaryDirectory(prefix="autoprec-") as folder:
            options = self._options()
            options.enable_profiling = True
            options.profile_file_prefix = str(Path(folder) / "profile")
            session, graph = self._optimized(model, options, Path(folder))
            try:
                for _ in range(_PROFILED_RUNS):
                    session.run(None, dict(feed))
                events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
            except Exception as error:  # its C++ part, or a profile that a full disk cut short
                raise BackendError(f"ONNX Runtime could not profile the model: {_first_line(error)}") from error
        owner, constants = _Owner(home, model), {tensor.name for tensor in graph.initializer}
        kernels = [_kernel(node, home, owner, constants) for node in graph.node]
        named: dict[str, list[Kernel]] = {}
        for kernel in kernels:
            named.setdefault(kernel.name, []).append(kernel)
        timed = []
        for name, durations in _durations_ms(events).items():
            same = named.get(name) or [Kernel(name=name, units={})]  # of a control-flow body
            for index, kernel in enumerate(same):  # kernels of one name run in the order of the graph
                each = sorted(durations[index :: len(same)])
                if each:  # a kernel in a body may run several times
                    timed.append((kernel, each[len(each) // 2] * max(1.0, len(each) / _PROFILED_RUNS)))
        return share_out(timed, kernels)

    def _optimized(
        self, model: bytes, options: ort.SessionOptions, folder: Path
    ) -> tuple[ort.InferenceSession, onnx.GraphProto]:
        """A session, and the graph that it runs."""
        import onnx

        path = folder / "optimized.onnx"
        options.optimized_model_filepath = str(path)
        try:
            session = self._session(model, options)
        except BackendError as error:
            if "serialization" not in str(error):
                raise
            raise BackendError(
                f"ONNX Runtime could not write the optimised model to {folder}; free space there, or set TMPDIR"
            ) from error
        return session, onnx.load(str(path)).graph

    def _options(self, threads: int | None = None) -> ort.SessionOptions:
        options = ort.SessionOptions()
        options.log_severity_level = _LOG_ERRORS_ONLY
        options.intra_op_num_threads = threads or self.threads
        options.inter_op_num_threads = 1
        # Engines run in turns: threads of one that spin on after its run take the cores of the next. With
        # that, the same model measured against itself came out at 0.5 times its own latency.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return options

    def _session(self, model: bytes, options: ort.SessionOptions, disabled: Sequence[str] = ()) -> ort.InferenceSession:
        try:
            return ort.InferenceSession(
                model, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(disabled)
            )
        except Exception as error:  # ONNX Runtime raises plain RuntimeErrors of its C++ part
            raise BackendError(f"ONNX Runtime {ort.__version__} refused the model: {_first_line(error)}") from error


class _Owner:
    """Maps kernels to the nodes that they were made of.

    Fusions keep a node's name and append to it, and blocked convolutions take that of their output; others are known
    by the tensor that they write, which is the one that the last of their nodes wrote.
    """

    def __init__(self, nodes: Iterable[str], model: bytes) -> None:
        import onnx

        self._nodes = frozenset(nodes)
        graph = onnx.load_from_string(model).graph
        makers = ((name, node.name) for node in graph.node if node.name in self._nodes for name in node.output)
        self._makers: dict[str, str] = dict(makers)

    def of(self, kernel: str, outputs: Sequence[str] = ()) -> str | None:
        if (tensor := kernel.removesuffix("_nchwc")) != kernel and tensor in self._makers:
            return self._makers[tensor]
        name = kernel
        while name:
            if name in self._nodes:
                return name
            cut = max(name.rfind("_"), name.rfind("/"))
            name = name[:cut] if cut > 0 else ""
        return next((self._makers[output] for output in outputs if output in self._makers), None)


def _kernel(node: onnx.NodeProto, home: Mapping[str, str], owner: _Owner, constants: Collection[str]) -> Kernel:
    """A node of an optimised graph. What only moves or converts data is of a unit where the partition says so."""
    converts = node.op_type in _MOVING and node.name not in home
    made_of = None if converts else owner.of(node.name, node.output)
    reads = tuple(name for name in node.input if name and name not in constants)
    return Kernel(
        name=node.name,
        units={} if made_of is None else {home[made_of]: 1.0},
        reads=reads,
        writes=tuple(node.output),
        converts=converts,
    )


def _durations_ms(events: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Kernel -> milliseconds of each time that it ran."""
    found: dict[str, list[float]] = {}
    for event in events:
        kernel = event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
        if kernel and event.get("args", {}).get("op_name") not in _CONTROL_FLOW:
            found.setdefault(event["name"].removesuffix("_kernel_time"), []).append(event["dur"] / 1e3)
    return found


def available_cpus() -> int:
    """CPUs that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def cpu_name() -> str:
    """The CPU's model name, with the 8-bit instructions that decide whether INT8 pays."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    known = [flag for flag in ("avx2", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm") if flag in flags]
    return f"{fields.get('model name', platform.machine())} ({', '.join(known) or 'no 8-bit instructions'})"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
