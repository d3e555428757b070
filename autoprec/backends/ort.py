"""ONNX Runtime on the CPU: INT8 runs in real kernels, FP16, BF16 and FP8 are simulated by rounding."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime as ort

from autoprec.backends.host import available_cpus, cpu_name
from autoprec.backends.ort_engine import BusyOrtEngine, OrtEngine, fed, first_line
from autoprec.backends.ort_inspection import ran_as
from autoprec.backends.ort_kernels import KernelOwners, durations_ms, kernel_of
from autoprec.backends.ort_request import TrialRequest
from autoprec.backends.ort_sessions import open_session, products_are_exact, session_options
from autoprec.backends.ort_trial import ModelTrial
from autoprec.backends.protocol import Clock, RanAs, TimeProfile
from autoprec.backends.scheme import ORT_CPU, ORT_CPU_7BIT
from autoprec.backends.sharing import Kernel, share_out
from autoprec.errors import BackendError
from autoprec.files.onnx_message import OnnxMessage
from autoprec.files.scratch import ScratchFolder
from autoprec.precision import Array, Precision

if TYPE_CHECKING:
    import onnx

_NATIVE = frozenset({Precision.FP64, Precision.FP32, Precision.INT8, Precision.INT8_DYNAMIC})
_PROFILED_RUNS = 6
_DUMPED_INSIDE_BYTES = 1024
_TRIAL = ModelTrial()
"""One for all backends of this Python process: what it has tried out need not be tried again."""


class OrtBackend:
    """ONNX Runtime's CPU execution provider.

    Args:
        threads: threads of one run; by default the CPUs that this process may use.
        shapes: input name -> the shape of the batch that models are tried out with.
        trial: tries models out in another process before this one loads them; by default one that all share.
    """

    name = "ort-cpu"
    default_space = "cpu"
    targets: tuple[str, ...] = ()
    runs_here = True
    uses_gpu = False
    portable = True
    builds_quickly = True
    keeps_engines = False

    def __init__(
        self,
        threads: int | None = None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
        *,
        trial: ModelTrial = _TRIAL,
    ) -> None:
        self.threads = threads or available_cpus()
        self.scheme = ORT_CPU if products_are_exact() else ORT_CPU_7BIT
        self._shapes, self._trial = shapes or {}, trial
        self.clock = Clock("measured", cpu_name())

    def for_run(self, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> OrtBackend:
        """A backend that tries models out with these shapes; its sessions take any shape and keep no files."""
        return OrtBackend(self.threads, shapes, trial=self._trial)

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
        """FP64, FP32, INT8 and INT4 are native; others are simulated, so their latency means nothing here."""
        simulated = "simulated by rounding: ONNX Runtime has no kernels for it on a CPU, so it cannot be timed"
        return {p: None if p in _NATIVE or p.weights_only else simulated for p in Precision}

    def build(self, model: bytes, *, exact: bool = False, threads: int | None = None) -> OrtEngine:
        """Build a session, of a model that was tried out in another process.

        Where a number of threads is given, the model is a part of one, or one that ran before; it is not tried out.

        Raises:
            BackendError: ONNX Runtime refused the model, or crashed when it was tried out.
        """
        if threads is None:
            self._trial.survives(model, TrialRequest(self.threads, exact, self._shapes))
        options = session_options(threads or self.threads, exact=exact, in_files=isinstance(model, OnnxMessage))
        return OrtEngine(self._session(model, options, exact=exact), large=isinstance(model, OnnxMessage))

    def build_busy(self, model: bytes) -> BusyOrtEngine:
        """As many callers as threads, each run on one thread: what serves most samples per second.

        Raises:
            BackendError: ONNX Runtime refused the model, or crashed when it was tried out.
        """
        self._trial.survives(model, TrialRequest(1, exact=False, shapes=self._shapes))
        session = self._session(model, session_options(1))
        return BusyOrtEngine(session, self.threads, large=isinstance(model, OnnxMessage))

    def inspect(self, model: bytes, nodes: Sequence[str]) -> dict[str, RanAs]:
        """Read the graph as ONNX Runtime optimised it."""
        import onnx

        with ScratchFolder() as folder:
            _, graph = self._optimized(model, session_options(self.threads), folder)
        return ran_as(graph, onnx.load_from_string(model).graph, nodes)

    def profile(
        self, model: bytes, feed: Mapping[str, Array], home: Mapping[str, str], macs: Mapping[str, int]
    ) -> TimeProfile:
        """Kernel times by ONNX Runtime's profiler, each the median over a few runs; a kernel is of one unit alone."""
        import onnx

        with ScratchFolder() as folder:
            options = session_options(self.threads)
            options.enable_profiling = True
            options.profile_file_prefix = str(folder / "profile")
            session, graph = self._optimized(model, options, folder)
            try:
                for _ in range(_PROFILED_RUNS):
                    session.run(None, fed(session, feed))
                events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
            except Exception as error:  # its C++ part, or a profile that a full disk cut short
                raise BackendError(f"ONNX Runtime could not profile the model: {first_line(error)}") from error
        owners = KernelOwners(home, onnx.load_from_string(model).graph)
        constants = {tensor.name for tensor in graph.initializer}
        kernels = [kernel_of(node, home, owners, constants) for node in graph.node]
        named: dict[str, list[Kernel]] = {}
        for kernel in kernels:
            named.setdefault(kernel.name, []).append(kernel)
        timed = []
        for name, durations in durations_ms(events).items():
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

        self._trial.survives(model, TrialRequest(self.threads, exact=False, shapes=self._shapes))
        path = folder / "optimized.onnx"
        options.optimized_model_filepath = str(path)
        if isinstance(model, OnnxMessage):  # protobuf cannot hold all of its weights
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights")
            options.add_session_config_entry(
                "session.optimized_model_external_initializers_min_size_in_bytes", str(_DUMPED_INSIDE_BYTES)
            )
        try:
            session = self._session(model, options)
        except BackendError as error:
            if "serialization" not in str(error):
                raise
            raise BackendError(
                f"ONNX Runtime could not write the optimised model to {folder}; free space there, or set TMPDIR"
            ) from error
        return session, onnx.load(str(path), load_external_data=False).graph

    def _session(self, model: bytes, options: ort.SessionOptions, *, exact: bool = False) -> ort.InferenceSession:
        try:
            return open_session(model, options, exact=exact, in_files=isinstance(model, OnnxMessage))
        except Exception as error:  # ONNX Runtime raises plain RuntimeErrors of its C++ part
            raise BackendError(f"ONNX Runtime {ort.__version__} refused the model: {first_line(error)}") from error
