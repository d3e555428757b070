"""Backends of users that were written for an earlier Protocol, which asked less of a backend.

Earlier a scheme was given by its name, what is now said by flags followed from that name, and an engine need not have a
size. Such a backend is completed here once, so that everything else can rely on the Protocol of today.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from autoprec.backends.protocol import Backend, Clock, Engine, RanAs, TimeProfile
from autoprec.backends.scheme import ORT_CPU, scheme_named
from autoprec.backends.whole import with_weights_inside
from autoprec.precision import Array, Precision


def is_older(backend: object) -> bool:
    """Whether a backend names its scheme, as backends did for the earlier Protocol."""
    return isinstance(getattr(backend, "scheme", None), str)


class OlderEngine:
    """An engine of an older backend, with a size.

    Args:
        engine: the engine, which may have its size as `engine_bytes`.
    """

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.size_bytes = int(getattr(engine, "size_bytes", getattr(engine, "engine_bytes", 0)))

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Output name -> array, for one batch."""
        found: dict[str, Array] = self._engine.run(feed)
        return found

    def time_ms(self, feed: Mapping[str, Array], runs: int) -> list[float]:
        """The milliseconds of each of `runs` runs."""
        return list(self._engine.time_ms(feed, runs))

    def __enter__(self) -> OlderEngine:
        """The engine itself."""
        self._engine.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the engine."""
        self._engine.__exit__(kind, error, trace)


class OlderBackend:
    """An older backend with everything that the Protocol asks for.

    Args:
        backend: the backend, whose scheme is one of autoprec's by name.

    Raises:
        UsageError: there is no such scheme.
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        self.name: str = backend.name
        self.threads: int = backend.threads
        self.runs_here: bool = backend.runs_here
        self.keeps_engines: bool = backend.keeps_engines
        self.scheme = scheme_named(backend.scheme)
        on_cpu = self.scheme == ORT_CPU
        self.default_space = "cpu" if on_cpu else "tensorrt"
        self.targets: tuple[str, ...] = tuple(getattr(getattr(backend, "options", None), "targets", ()))
        self.uses_gpu = not on_cpu and self.runs_here
        self.portable = self.builds_quickly = on_cpu

    @property
    def clock(self) -> Clock:
        """The clock that latencies come from."""
        clock: Clock = self._backend.clock
        return clock

    def for_run(self, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> Backend:
        """The backend for one run, completed likewise."""
        return OlderBackend(self._backend.for_run(shapes, folder))

    def describe(self) -> dict[str, str]:
        """Versions and hardware that a latency depends on."""
        return dict(self._backend.describe())

    def support(self) -> dict[Precision, str | None]:
        """For each precision None where this machine runs it natively, else why not."""
        return dict(self._backend.support())

    def build(self, model: bytes, *, exact: bool = False, threads: int | None = None) -> Engine:
        """An engine, with a size."""
        return OlderEngine(self._backend.build(with_weights_inside(model), exact=exact, threads=threads))

    def build_busy(self, model: bytes) -> Engine:
        """An engine that is timed with several batches in flight, with a size."""
        return OlderEngine(self._backend.build_busy(with_weights_inside(model)))

    def inspect(self, model: bytes, nodes: Sequence[str]) -> dict[str, RanAs]:
        """The kernel that each named node became."""
        return dict(self._backend.inspect(with_weights_inside(model), nodes))

    def profile(
        self, model: bytes, feed: Mapping[str, Array], home: Mapping[str, str], macs: Mapping[str, int]
    ) -> TimeProfile:
        """Where the time of one run goes."""
        profile: TimeProfile = self._backend.profile(with_weights_inside(model), feed, home, macs)
        return profile
