"""A backend by its name, and what is known of the named ones before any of their runtimes is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from autoprec.backends.older import OlderBackend, is_older
from autoprec.backends.protocol import Backend, Clock
from autoprec.errors import UsageError

CPU_BACKEND = "ort-cpu"
"""The one that works on every machine; it also computes any plan in exact arithmetic."""
ENGINE_BUILDERS = ("tensorrt", "tensorrt-rtx")
"""Those that build engine files, for a GPU of this machine or ahead of time for another."""
BACKENDS = (CPU_BACKEND, *ENGINE_BUILDERS)


def make_backend(backend: str | Backend, threads: int | None = None, targets: Sequence[str] = ()) -> Backend:
    """The backend of that name; an object is returned as it is, or completed if it is of an earlier Protocol.

    Raises:
        UsageError: there is no such backend, or it has no targets.
        BackendError: its runtime is missing, or finds no GPU.
    """
    if not isinstance(backend, str):
        return OlderBackend(backend) if is_older(backend) else backend
    if backend in ENGINE_BUILDERS:
        from autoprec.backends.tensorrt.backend import TensorRtBackend
        from autoprec.backends.tensorrt.records import BuildOptions

        return TensorRtBackend(backend, BuildOptions(targets=tuple(targets)), threads)
    refuse_targets(backend, targets)
    if backend == CPU_BACKEND:
        from autoprec.backends.ort import OrtBackend

        return OrtBackend(threads)
    raise _unknown(backend)


def refuse_backend(backend: str, targets: Sequence[str]) -> None:
    """Refuse a backend that cannot be made, or not be timed, as far as that shows before its runtime is loaded.

    Raises:
        UsageError: there is no such backend, it has no targets, or there are no figures to model the target's latency.
        BackendError: its runtime is not installed.
    """
    if backend not in BACKENDS:
        raise _unknown(backend)
    if backend not in ENGINE_BUILDERS:
        refuse_targets(backend, targets)
        return
    from autoprec.backends.tensorrt.bindings import MODULES, refuse_missing
    from autoprec.backends.tensorrt.gpus import default_gpu

    refuse_missing(MODULES[backend])
    if targets:
        default_gpu(targets[0])


def _unknown(backend: str) -> UsageError:
    return UsageError(f"a backend must be one of {', '.join(BACKENDS)}, got {backend!r}")


def refuse_targets(backend: str, targets: Sequence[str]) -> None:
    """Refuse targets for a backend that builds nothing ahead of time.

    Raises:
        UsageError: there are targets.
    """
    if targets:
        raise UsageError(f"--target is for the backend tensorrt-rtx, got it with {backend!r}; leave it out")


def wants_gpu(backend: str, targets: str | Sequence[str]) -> bool:
    """Whether a backend of that name, with those targets, runs its engines on a GPU of this machine."""
    return backend in ENGINE_BUILDERS and not targets


def checked_clock(backend: Backend) -> Clock:
    """The clock of a backend that is going to be timed; asked for early, so that a refusal costs no time.

    Raises:
        UsageError: there are no figures to model the latency of its target by.
        BackendError: its runtime does not work here.
    """
    return backend.clock


def is_cpu_backend(backend: Backend) -> bool:
    """Whether it is the backend that computes any plan in exact arithmetic, whatever runtime the plan is for."""
    return backend.name == CPU_BACKEND
