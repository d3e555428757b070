"""One engine on several streams at once: how many batches a busy GPU gets through."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from types import TracebackType

from autoprec.backends.tensorrt.engine import TensorRtEngine
from autoprec.precision import Array

STREAMS = 2
"""What one run leaves idle, between kernels and at the end of each, another fills; more than two add little."""


class BusyEngine:
    """The same engine loaded once for each stream, so that their runs overlap.

    Args:
        load: loads it, with a stream of its own.

    Raises:
        BackendError: it cannot be loaded, or there is too little GPU memory for as many as there are streams.
    """

    def __init__(self, load: Callable[[], TensorRtEngine]) -> None:
        with ExitStack() as stack:
            self._engines = [stack.enter_context(load()) for _ in range(STREAMS)]
            self._stack = stack.pop_all()
        self.size_bytes = self._engines[0].size_bytes

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Output name -> array, for one batch, on one stream."""
        return self._engines[0].run(feed)

    def time_ms(self, feed: Mapping[str, Array], runs: int) -> list[float]:
        """Milliseconds for each batch by the host's clock, from the first of `runs` runs on each stream to the last.

        All are enqueued at once, inputs already on the GPU, so it is one figure, given `runs` times.
        """
        for engine in self._engines:
            engine.ready(feed)
            engine.launch()
        for engine in self._engines:
            engine.wait()
        began = time.perf_counter()
        for _ in range(runs):
            for engine in self._engines:
                engine.launch()
        for engine in self._engines:
            engine.wait()
        return [1e3 * (time.perf_counter() - began) / (runs * len(self._engines))] * runs

    def __enter__(self) -> BusyEngine:
        """The engine itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free all of them."""
        self._stack.close()
