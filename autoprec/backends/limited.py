"""An engine that refuses to run once the time is up, so that a pass over many samples ends within a time limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType

from autoprec.backends.protocol import Computing, Engine
from autoprec.errors import OutOfTimeError
from autoprec.precision import Array

OutOfTime = Callable[[], bool]
"""Says whether the time is up."""


def never() -> bool:
    """Without a limit the time is never up."""
    return False


class LimitedComputing:
    """Runs a batch only while there is time.

    Args:
        engine: computes the batches.
        out_of_time: says whether the time is up; it is asked before each batch.
    """

    def __init__(self, engine: Computing, out_of_time: OutOfTime) -> None:
        self._computing, self._out_of_time = engine, out_of_time

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Output name -> array, for one batch.

        Raises:
            OutOfTimeError: the time is up.
        """
        if self._out_of_time():
            raise OutOfTimeError("the time limit ended a pass over the samples; allow more time, or give fewer samples")
        return self._computing.run(feed)


class LimitedEngine(LimitedComputing):
    """An engine that runs a batch only while there is time.

    Args:
        engine: computes the batches; it is freed with this one.
        out_of_time: says whether the time is up; it is asked before each batch.
    """

    def __init__(self, engine: Engine, out_of_time: OutOfTime) -> None:
        super().__init__(engine, out_of_time)
        self._engine = engine

    @property
    def size_bytes(self) -> int:
        """The size of the built engine."""
        return self._engine.size_bytes

    def time_ms(self, feed: Mapping[str, Array], runs: int) -> list[float]:
        """Milliseconds of each of `runs` runs, which are not cut."""
        return self._engine.time_ms(feed, runs)

    def __enter__(self) -> LimitedEngine:
        """The engine itself."""
        self._engine.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the engine."""
        self._engine.__exit__(kind, error, trace)
