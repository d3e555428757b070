"""A backend by its name."""

from __future__ import annotations

from collections.abc import Sequence

from autoprec.backends.protocol import Backend
from autoprec.errors import UsageError

BACKENDS = ("ort-cpu", "tensorrt", "tensorrt-rtx")


def make_backend(backend: str | Backend, threads: int | None = None, targets: Sequence[str] = ()) -> Backend:
    """The backend of that name.

    Raises:
        UsageError: no such backend, or one that has no targets.
        BackendError: its runtime is missing, or finds no GPU.
    """
    if not isinstance(backend, str):
        return backend
    if backend in ("tensorrt", "tensorrt-rtx"):
        from autoprec.backends.tensorrt.backend import TensorRtBackend
        from autoprec.backends.tensorrt.records import BuildOptions

        return TensorRtBackend(backend, BuildOptions(targets=tuple(targets)), threads)
    if targets:
        raise UsageError(f"--target is for the backend tensorrt-rtx, got it with {backend!r}; leave it out")
    if backend == "ort-cpu":
        from autoprec.backends.ort import OrtBackend

        return OrtBackend(threads)
    raise UsageError(f"a backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
