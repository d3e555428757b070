"""The engines of a run's plans: one that is timed, one that computes the outputs, and what the runtime made of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from autoprec.backends.protocol import Backend, Engine, TimeProfile
from autoprec.data.dataset import Dataset
from autoprec.data.feeds import batch_feed
from autoprec.errors import BackendError, NotHonouredError
from autoprec.files.onnx_message import OnnxMessage, whole_bytes
from autoprec.graph.model import to_bytes
from autoprec.plan import Assignment
from autoprec.precision import Array
from autoprec.proof.inspect import time_profile_of, verified
from autoprec.proof.verification import Verification
from autoprec.ranges.table import RangeTable
from autoprec.run.task import Task
from autoprec.run.turns import Turns

_AT_ONCE = 2.2
"""So many times the bytes of the model may be in engines at once: FP32, and a plan with weights in two types."""


@dataclass(frozen=True, slots=True)
class PlanEngine:
    """The engines of one plan.

    Attributes:
        timed: the engine that the runtime built, whose clock is read.
        computing: the engine that computes the outputs: the same one, or the simulation where that cannot run here.
        size: the bytes of the built engine, or of the lowered model where the runtime keeps no engine.
    """

    timed: Engine
    computing: Engine
    size: int


class Engines:
    """Builds plans of one task.

    Args:
        task: the task whose plans are built.
        backend: the backend of this run.
        busy: whether plans are timed with several batches in flight.
        turns: the engines of large models that are open already; by default there are none.
    """

    def __init__(self, task: Task, backend: Backend, *, busy: bool = False, turns: Turns | None = None) -> None:
        self._task, self._backend, self._busy = task, backend, busy
        self._last: tuple[Assignment, RangeTable, bytes] | None = None
        self.turns = turns or Turns(int(_AT_ONCE * task.subject.model.weight_bytes))

    def open(self, plan: Assignment, ranges: RangeTable, stack: ExitStack) -> PlanEngine:
        """Build a plan; its engines are freed with the stack, or while others need their memory where they are large.

        Raises:
            BackendError: the runtime refused the plan.
        """
        lowered = self.lowered(plan, ranges)
        build = self._backend.build_busy if self._busy else self._backend.build
        timed = self._opened(lowered, lambda: build(lowered), stack)
        size = timed.size_bytes or whole_bytes(lowered)
        if self._backend.runs_here:
            return PlanEngine(timed, timed, size)
        return PlanEngine(timed, self.simulated(plan, ranges, stack), size)

    def simulated(self, plan: Assignment, ranges: RangeTable, stack: ExitStack) -> Engine:
        """Build the plan in exact arithmetic, with lower precisions simulated by rounding.

        Its outputs show what the plan itself loses, without what the runtime adds.
        """
        model = to_bytes(self._task.subject.lowerer.lower(plan, ranges, simulate=True).ir)
        return self._opened(model, lambda: self._backend.build(model, exact=True), stack)

    def _opened(self, model: bytes, build: Callable[[], Engine], stack: ExitStack) -> Engine:
        """An engine, which takes turns with others if its model is large."""
        if not isinstance(model, OnnxMessage):
            return stack.enter_context(build())
        return stack.enter_context(self.turns.engine(build, whole_bytes(model)))

    def lowered(self, plan: Assignment, ranges: RangeTable) -> bytes:
        """The serialised model under a plan."""
        last = self._last  # A plan is often profiled right after it was built, and lowering takes time.
        if last is None or last[1] is not ranges or dict(last[0]) != dict(plan):
            last = self._last = (plan, ranges, to_bytes(self._task.subject.lowerer.lower(plan, ranges).ir))
        return last[2]

    def verified(self, plan: Assignment, ranges: RangeTable) -> Verification:
        """Compare what the runtime made of each unit with what the plan asked for."""
        return verified(self._task.subject.lowerer, plan, self._backend, self.lowered(plan, ranges))

    def require_honoured(self, plan: Assignment, ranges: RangeTable) -> None:
        """Check that the runtime runs each unit with arithmetic as the plan asks, where there is a choice for the unit.

        Raises:
            NotHonouredError: it does not.
        """
        try:
            refused = self.verified(plan, ranges).refused
        except BackendError:  # a runtime that tells nothing keeps no plan from being measured
            return
        found = [unit for unit in refused if len(self._task.subject.choices[unit.unit]) > 1]
        if found:
            text = "; ".join(unit.describe() for unit in found)
            raise NotHonouredError(f"it would not run as asked: {text}", [unit.unit for unit in found])

    def unit_ms(self, plan: Assignment, ranges: RangeTable, feed: dict[str, Array]) -> dict[str, float]:
        """Unit -> milliseconds in the runtime's own profile.

        Raises:
            BackendError: the runtime refused the plan, or gives no profile.
        """
        found = self._attributed(plan, ranges, feed)
        return {unit.name: found.unit_ms.get(unit.name, 0.0) for unit in self._task.subject.partition.units}

    def layers_ms(self, plan: Assignment, ranges: RangeTable, feed: dict[str, Array]) -> dict[str, float] | None:
        """Unit -> milliseconds of its kernels and conversions; None where the runtime gives no profile."""
        if not self._backend.keeps_engines:
            return None
        try:
            return self._attributed(plan, ranges, feed).layers_ms
        except BackendError:  # a profile only helps to predict other plans, so the run goes on without it
            return None

    def _attributed(self, plan: Assignment, ranges: RangeTable, feed: dict[str, Array]) -> TimeProfile:
        return time_profile_of(self._task.subject.partition, self._backend, self.lowered(plan, ranges), feed)


def timing_feed(task: Task, data: Dataset) -> dict[str, Array]:
    """One full batch, in which samples are repeated where there are too few."""
    return batch_feed(task.subject.model.interface, data, task.settings.batch)
