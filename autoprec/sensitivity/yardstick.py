"""The yardstick of a profile: what one entry costs whoever computes the whole model for it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType

from autoprec.backends.protocol import Backend
from autoprec.data.dataset import Dataset
from autoprec.graph.model import to_bytes
from autoprec.lowering.lowerer import Lowerer
from autoprec.metrics.running import run_dataset
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable


class FullPass:
    """CPU seconds of one entry by a full pass: lowering the unit, building the engine, running and scoring.

    Each entry is another model, so whoever ran full passes would lower and build for each. The runs are measured part
    by part among those that are compared with them, so that other work on the machine hits both alike.

    Args:
        lowerer: of the model.
        plan: one unit lowered.
        ranges: calibrated.
        backend: runs the arithmetic, on one thread, so that the time of a thread is that of its runs.
        batch_size: samples for each run.
    """

    def __init__(
        self, lowerer: Lowerer, plan: Mapping[str, Precision], ranges: RangeTable, backend: Backend, batch_size: int
    ) -> None:
        self._interface, self._batch_size = lowerer.model.interface, batch_size
        begun = time.thread_time()
        model = to_bytes(lowerer.lower(plan, ranges, simulate=True).ir)
        self._stack = ExitStack()
        self._engine = self._stack.enter_context(backend.build(model, exact=True, threads=1))
        self._fixed_s = time.thread_time() - begun
        self._run_s, self._score_s, self._scored, self.samples = 0.0, 0.0, 0, 0
        self.own_s = 0.0

    def __enter__(self) -> FullPass:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free the engine."""
        self._stack.close()

    def run(self, data: Dataset) -> None:
        """Measure it on these samples; what the first run in a process takes longer does not count."""
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
        """Scoring one entry took so long on so many samples; whoever ran full passes must score too."""
        self._score_s, self._scored = self._score_s + seconds, self._scored + samples

    def seconds(self, samples: int) -> float:
        """Of one entry on so many samples."""
        each = self._run_s / max(self.samples, 1) + self._score_s / max(self._scored, 1)
        return self._fixed_s + each * samples

    def _pass(self, data: Dataset) -> None:
        for _ in run_dataset(self._engine, data, self._interface, self._batch_size):
            pass
