"""The cost of one entry by a full pass: what sensitivities would cost without sharing any work."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType

from autoprec.backends.protocol import Backend, Engine
from autoprec.data.dataset import Dataset
from autoprec.graph.model import to_bytes
from autoprec.lowering.lowerer import Lowerer
from autoprec.metrics.running import run_dataset
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable


class FullPass:
    """Measures one entry by a full pass: lowering the unit, building the engine, running and scoring.

    Each entry is another model, so whoever ran full passes would lower and build for each. The runs are measured part
    by part among those that are compared with them, so that other work on the machine hits both alike.

    Args:
        lowerer: the lowerer of the model.
        plan: one unit with its precision; the others are FP32.
        ranges: the calibrated ranges.
        backend: the runtime that computes the arithmetic, on one thread, so that the time of a thread is that of its
            runs.
        batch_size: the number of samples of one run.
    """

    def __init__(
        self, lowerer: Lowerer, plan: Mapping[str, Precision], ranges: RangeTable, backend: Backend, batch_size: int
    ) -> None:
        self._lowerer, self._plan, self._ranges, self._backend = lowerer, plan, ranges, backend
        self._interface, self._batch_size = lowerer.model.interface, batch_size
        self._stack = ExitStack()
        self._engine: Engine | None = None
        self._fixed_s, self._run_s, self._score_s, self._scored = 0.0, 0.0, 0.0, 0
        self.samples, self.own_s = 0, 0.0

    def __enter__(self) -> FullPass:
        """Lower the plan and build its engine."""
        begun = time.thread_time()
        model = to_bytes(self._lowerer.lower(self._plan, self._ranges, simulate=True).ir)
        self._engine = self._stack.enter_context(self._backend.build(model, exact=True, threads=1))
        self._fixed_s = time.thread_time() - begun
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the engine."""
        self._stack.close()

    def run(self, data: Dataset) -> None:
        """Measure the pass on these samples; a first run that is slower than the others does not count."""
        begun = time.thread_time()
        if not self.samples:
            self._pass(data.subset(range(min(data.count, self._batch_size))))
        start = time.thread_time()
        self._pass(data)
        end = time.thread_time()
        self._run_s += end - start
        self.own_s += end - begun
        self.samples += data.count

    def scored(self, seconds: float, samples: int) -> None:
        """Note what scoring one entry took on so many samples; whoever ran full passes must score too."""
        self._score_s, self._scored = self._score_s + seconds, self._scored + samples

    def seconds(self, samples: int) -> float:
        """Return the CPU seconds of one entry by a full pass over so many samples."""
        each = self._run_s / max(self.samples, 1) + self._score_s / max(self._scored, 1)
        return self._fixed_s + each * samples

    def _pass(self, data: Dataset) -> None:
        if self._engine is None:
            raise ValueError("a full pass runs within its context")
        for _ in run_dataset(self._engine, data, self._interface, self._batch_size):
            pass
