"""The runtime that a gate measures with: the plan's own, or the one that works everywhere."""

from __future__ import annotations

from dataclasses import dataclass

from autoprec.backends.make import CPU_BACKEND, checked_clock, is_cpu_backend, make_backend
from autoprec.backends.protocol import Backend
from autoprec.backends.scheme import same_family
from autoprec.errors import BackendError, UsageError
from autoprec.plan import Plan


@dataclass(frozen=True, slots=True)
class Runtime:
    """A runtime to measure with.

    Attributes:
        backend: the plan's own backend, or ONNX Runtime's on the CPU where that one cannot work here.
        absent: why the plan's own backend cannot work here, None where it does.
    """

    backend: Backend
    absent: str | None

    @property
    def computes(self) -> bool:
        """Whether the plan's own engines compute their outputs on this machine."""
        return self.absent is None and self.backend.runs_here


def find_runtime(
    plan: Plan, backend: str | Backend | None, threads: int | None, targets: tuple[str, ...] = ()
) -> Runtime:
    """The plan's own runtime where it works here, else ONNX Runtime, which can at least compute the plan exactly.

    Args:
        plan: the plan that is judged.
        backend: the runtime that was asked for, None for the plan's own.
        threads: the number of CPU threads.
        targets: the GPUs that the baseline's engine was built for ahead of time.

    Raises:
        UsageError: the baseline is of a runtime that has to be given as an object.
        BackendError: the runtime that was asked for does not work here.
    """
    try:
        wanted = plan.backend if backend is None else backend
        found = make_backend(wanted, threads, targets if wanted == plan.backend else ())
        checked_clock(found)
    except BackendError as error:
        if backend is not None:
            raise
        return Runtime(make_backend(CPU_BACKEND, threads), str(error))
    except UsageError as error:
        if backend is not None:
            raise
        raise UsageError(f"the baseline is of the runtime {plan.backend!r}: {error}") from error
    if same_family(found.scheme.name, plan.scheme):
        return Runtime(found, None)
    if is_cpu_backend(found):
        return Runtime(found, f"the plan is for {plan.backend}, and {found.name} was asked for")
    raise UsageError(
        f"the plan of the baseline is for {plan.backend}, which {found.name} cannot run; give --backend "
        f"{plan.backend}, or {CPU_BACKEND} to judge everything but latency"
    )
