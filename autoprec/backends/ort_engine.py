"""ONNX Runtime's sessions as engines."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Literal

import numpy as np
import onnxruntime as ort

from autoprec.backends.host import return_memory
from autoprec.errors import BackendError
from autoprec.precision import Array


class OrtEngine:
    """An ONNX Runtime session.

    Args:
        session: the session.
        large: whether it holds so much memory that it must be given back to the system when the session ends.
    """

    size_bytes = 0
    runs_in_process: Literal[True] = True

    def __init__(self, session: ort.InferenceSession, *, large: bool = False) -> None:
        self._session: Any = session
        self._large = large
        self._outputs = [output.name for output in session.get_outputs()]

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Output name -> array, for one batch.

        Raises:
            BackendError: the runtime failed on this batch.
        """
        try:
            results = self._session.run(None, fed(self._session, feed))
        except Exception as error:  # ONNX Runtime raises plain RuntimeErrors of its C++ part
            raise BackendError(f"ONNX Runtime failed while running the model: {first_line(error)}") from error
        return dict(zip(self._outputs, results, strict=True))

    def time_ms(self, feed: Mapping[str, Array], runs: int) -> list[float]:
        """Wall-clock milliseconds of each of `runs` runs."""
        arrays, times = fed(self._session, feed), []
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
        if self._large:
            return_memory()


class BusyOrtEngine(OrtEngine):
    """A session of one thread a run, called by several threads at once, each with its next batch as soon as it can.

    Args:
        session: the session that the callers share.
        callers: the number of threads that call it.
    """

    def __init__(self, session: ort.InferenceSession, callers: int, *, large: bool = False) -> None:
        super().__init__(session, large=large)
        self._callers = callers

    def time_ms(self, feed: Mapping[str, Array], runs: int) -> list[float]:
        """Milliseconds for each batch, `runs` times: as many batches as callers, over the time until all were done."""
        arrays, ready = fed(self._session, feed), threading.Barrier(self._callers + 1)

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


def fed(session: Any, feed: Mapping[str, Array]) -> dict[str, Array]:
    """The feed as a session takes it, which may compute in FP32 what the model has in BF16 or FP64."""
    wide = {value.name for value in session.get_inputs() if value.type == "tensor(float)"}
    return {
        name: array.astype(np.float32) if name in wide and array.dtype != np.float32 else array
        for name, array in feed.items()
    }


def first_line(error: Exception) -> str:
    """The first line of what ONNX Runtime says, which is the one for people."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
