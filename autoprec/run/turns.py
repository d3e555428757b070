"""Engines that take turns in memory, because all of them together would not fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType

from autoprec.backends.protocol import Engine
from autoprec.precision import Array


class Turns:
    """Keeps engines open as long as they fit; those that were used longest ago are closed, and built again when needed.

    Args:
        limit_bytes: the most bytes of engines that are open at once; a single one may be larger.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._open: dict[TurnEngine, Engine] = {}

    def engine(self, build: Callable[[], Engine], model_bytes: int) -> TurnEngine:
        """Make an engine that is open for as long as there is room for it.

        Args:
            build: builds it.
            model_bytes: the bytes that it takes, about those of its model.
        """
        return TurnEngine(self, build, model_bytes)

    def opened(self, engine: TurnEngine) -> Engine:
        """Return the engine that was built, which is the one used last now."""
        built = self._open.pop(engine, None)
        if built is None:
            while self._open and sum(e.model_bytes for e in self._open) + engine.model_bytes > self._limit_bytes:
                self.close(next(iter(self._open)))
            built = engine.build()
        self._open[engine] = built
        return built

    def close(self, engine: TurnEngine) -> None:
        """Free an engine, which can be opened again."""
        built = self._open.pop(engine, None)
        if built is not None:
            built.__exit__(None, None, None)


class TurnEngine:
    """An engine that shares the memory with others, see `Turns`.

    Args:
        turns: says who is open.
        build: builds the engine.
        model_bytes: the bytes that it takes.
    """

    def __init__(self, turns: Turns, build: Callable[[], Engine], model_bytes: int) -> None:
        self._turns, self.build, self.model_bytes = turns, build, model_bytes

    @property
    def size_bytes(self) -> int:
        """The size of the built engine."""
        return self._turns.opened(self).size_bytes

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Output name -> array, for one batch."""
        return self._turns.opened(self).run(feed)

    def time_ms(self, feed: Mapping[str, Array], runs: int) -> list[float]:
        """The milliseconds of each of `runs` runs."""
        return self._turns.opened(self).time_ms(feed, runs)

    def __enter__(self) -> TurnEngine:
        """Build the engine, which may be refused."""
        self._turns.opened(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the engine."""
        self._turns.close(self)
