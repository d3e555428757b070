"""The seam to the machine: what a runtime can do, and an engine built by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, runtime_checkable

from autoprec.backends.scheme import Scheme
from autoprec.precision import Array, Precision


@dataclass(frozen=True, slots=True)
class RanAs:
    """The kernel that a runtime really made of one node.

    Attributes:
        operator: the name of the kernel or fused operator that computes it.
        quantized: whether it computes on 8-bit codes.
        precision: the precision of its arithmetic; None where the runtime does not tell.
        layer: the runtime's name for what computes it, "" where it has none.
        tactic: the kernel chosen for that layer, "" where it is not said.
        beside: other nodes that the same layer computes.
    """

    operator: str
    quantized: bool
    precision: Precision | None = None
    layer: str = ""
    tactic: str = ""
    beside: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Clock:
    """Where latencies come from.

    Attributes:
        kind: "measured" where hardware is timed, "modelled" where a model of it is asked.
        hardware: the name of the CPU or GPU.
    """

    kind: Literal["measured", "modelled"]
    hardware: str

    @property
    def text(self) -> str:
        """What to write beside a figure: "measured on NVIDIA H200", "modelled for L4"."""
        return f"measured on {self.hardware}" if self.kind == "measured" else f"modelled for {self.hardware}"


@dataclass(frozen=True, slots=True)
class TimeProfile:
    """Where the time of one profiled run went.

    Attributes:
        unit_ms: unit -> milliseconds of the kernels that compute it.
        boundary_ms: (unit before, unit after) -> milliseconds of reformats, casts, copies and Q/DQ between them; ""
            stands for what enters or leaves the network.
        rest: (kernel, milliseconds) of what belongs to no unit and no boundary, the longest first.
    """

    unit_ms: Mapping[str, float]
    boundary_ms: Mapping[tuple[str, str], float]
    rest: tuple[tuple[str, float], ...]

    @property
    def total_ms(self) -> float:
        """The sum over the profile."""
        return sum(self.unit_ms.values()) + sum(self.boundary_ms.values()) + sum(ms for _, ms in self.rest)

    @property
    def layers_ms(self) -> dict[str, float]:
        """Unit -> milliseconds of its kernels and of the conversions of its inputs.

        The conversion of a network output is charged to the unit that produces it.
        """
        found = dict(self.unit_ms)
        for (before, after), ms in self.boundary_ms.items():
            unit = after or before
            if unit:
                found[unit] = found.get(unit, 0.0) + ms
        return found

    @property
    def share(self) -> float:
        """The part of the sum that belongs to a unit or a boundary; 1 for an empty profile."""
        total = self.total_ms
        return 1.0 - sum(ms for _, ms in self.rest) / total if total else 1.0


Attribution = TimeProfile
"""The name that the class had for the earlier Protocol, for the backends of users (see `older.py`)."""


class Computing(Protocol):
    """Anything that computes outputs from inputs."""

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Output name -> array, for one batch."""


class Engine(Computing, Protocol):
    """A model built for one runtime; a context manager that frees it."""

    @property
    def size_bytes(self) -> int:
        """The size of the built engine; 0 where the runtime keeps none, so that the lowered model's size counts."""

    def time_ms(self, feed: Mapping[str, Array], runs: int) -> list[float]:
        """Wall-clock milliseconds of each of `runs` runs."""

    def __enter__(self) -> Engine:
        """The engine itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the engine."""


@runtime_checkable
class RunsInProcess(Protocol):
    """An engine that runs on CPUs within this process, so that the CPU time of the process is that of its runs."""

    runs_in_process: Literal[True]


class Backend(Protocol):
    """One runtime on this machine: everything that the rest of autoprec asks about a runtime is asked here.

    A backend of your own needs no base class. It may bring a `Scheme` of its own: plans, baselines and run directories
    store the scheme's name, so pass the backend again wherever one of them is read.
    """

    name: str
    """The runtime's name, as plans and run directories store it."""
    scheme: Scheme
    """How a plan is written into a model for this runtime."""
    default_space: str
    """The search space that is taken where the user names none: a packaged one's name, or a TOML file."""
    threads: int
    """The number of CPU threads that one run uses."""
    targets: tuple[str, ...]
    """The machines that engines are built for ahead of time, such as "sm89"; none where engines are for this one."""
    runs_here: bool
    """Whether its engines compute on this machine; engines for another only have a clock."""
    uses_gpu: bool
    """Whether its engines run on a GPU of this machine, so that latencies depend on its driver and clock rates."""
    portable: bool
    """Whether its engines compute on any machine what they compute here. A baseline of another runtime also keeps the
    scores of exact arithmetic, which a gate on a machine without that runtime can compare with."""
    builds_quickly: bool
    """Whether an engine is built about as quickly as a plan is simulated: then calibrators are judged by engines."""
    keeps_engines: bool
    """Whether what was built once is opened again without a build: then a search profiles each plan that it times,
    and confirming plans costs no builds."""

    @property
    def clock(self) -> Clock:
        """Where latencies come from."""

    def for_run(self, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> Backend:
        """This backend for one run.

        Args:
            shapes: input name -> the shape of the batch that is timed.
            folder: the folder where it may keep files of its own.
        """

    def describe(self) -> dict[str, str]:
        """Versions and hardware: what a measured number depends on."""

    def support(self) -> dict[Precision, str | None]:
        """For each precision None where this machine runs it natively, else why not."""

    def build(self, model: bytes, *, exact: bool = False, threads: int | None = None) -> Engine:
        """Build an engine from a serialised ONNX model.

        Args:
            model: the model. Of a large one it is an `OnnxMessage`, whose large weights are external data that is
                placed relative to the root of the file system; `autoprec.backends.whole` brings them inside.
            exact: run every node as written, without fusing Q/DQ into 8-bit kernels, so that
                simulated arithmetic is what the graph says.
            threads: the number of threads of one run, where that can be chosen; by default the backend's own number.

        Raises:
            BackendError: the runtime refused; the message quotes it.
        """

    def build_busy(self, model: bytes) -> Engine:
        """An engine whose clock says what a batch takes while several are in flight: the inverse of the throughput.

        Raises:
            BackendError: the runtime refused; the message quotes it.
        """

    def inspect(self, model: bytes, nodes: Sequence[str]) -> dict[str, RanAs]:
        """What each named node of a lowered model became; nodes that the runtime no longer speaks of are left out."""

    def profile(
        self, model: bytes, feed: Mapping[str, Array], home: Mapping[str, str], macs: Mapping[str, int]
    ) -> TimeProfile:
        """Where the time of one run of a lowered model goes, kernel by kernel.

        Args:
            model: the model.
            feed: one batch.
            home: node -> its unit, in topological order; other nodes belong to none.
            macs: unit -> multiply-accumulates, by which a kernel that computes several units is shared out.

        Raises:
            BackendError: the runtime refused the model or the batch, or gives no profile.
        """
