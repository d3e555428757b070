"""The engines of a run's plans: one that is timed, one that computes the outputs, and what the runtime made of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property

from autoprec.backends.protocol import Backend, Computing, Engine, TimeProfile
from autoprec.backends.slow_builds import BuildsAhead
from autoprec.data.dataset import Dataset
from autoprec.data.feeds import batch_feed
from autoprec.data.situations import situated_feed
from autoprec.errors import BackendError, NotHonouredError
from autoprec.files.onnx_message import OnnxMessage, whole_bytes
from autoprec.graph.model import to_bytes
from autoprec.lowering.builders_choice import BuildersChoice, leave_to_builder
from autoprec.metrics.remembered_outputs import RememberedOutputs, RememberingEngine, outputs_worth_keeping
from autoprec.plan import Assignment
from autoprec.precision import Array
from autoprec.proof.as_it_ran import plan_as_it_ran
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
    computing: Computing
    size: int


class Engines:
    """Builds plans of one task.

    Args:
        task: the task whose plans are built.
        backend: the backend of this run.
        busy: whether plans are timed with several batches in flight.
        judging: builds the engines that compute outputs, where those that are timed take other shapes than the data's.
        turns: the engines of large models that are open already; by default there are none.
    """

    def __init__(
        self,
        task: Task,
        backend: Backend,
        *,
        busy: bool = False,
        judging: Backend | None = None,
        turns: Turns | None = None,
    ) -> None:
        self._task, self._backend, self._busy, self._judging = task, backend, busy, judging
        self._lowered: dict[tuple[object, ...], tuple[RangeTable, bytes]] = {}
        self.turns = turns or Turns(int(_AT_ONCE * task.subject.model.weight_bytes))

    def of(self, task: Task) -> Engines:
        """Return the engines of the same run for another task, such as that of the repaired model."""
        return Engines(task, self._backend, busy=self._busy, judging=self._judging, turns=self.turns)

    def open(self, plan: Assignment, ranges: RangeTable, stack: ExitStack) -> PlanEngine:
        """Build a plan; its engines are freed with the stack, or while others need their memory where they are large.

        Raises:
            BackendError: the runtime refused the plan.
        """
        lowered = self.lowered(plan, ranges)
        build = self._backend.build_busy if self._busy else self._backend.build
        timed = self._opened(lowered, lambda: build(lowered), stack)
        size = timed.size_bytes or whole_bytes(lowered)
        if self._judging is not None:
            judging = self._judging
            return PlanEngine(timed, self._opened(lowered, lambda: judging.build(lowered), stack), size)
        if self._backend.runs_here:
            return PlanEngine(timed, timed, size)
        return PlanEngine(timed, self.simulated(plan, ranges, stack), size)

    def ahead(self, plan: Assignment, ranges: RangeTable, *, alone: bool = False) -> None:
        """Begin to build a plan that will be opened, where the runtime builds beside this process; else do nothing.

        Args:
            plan: the plan.
            ranges: the ranges; those of a plan in float types have no effect.
            alone: whether no other build may run beside it, as it has many kernels to time.
        """
        if isinstance(self._backend, BuildsAhead) and self._backend.builders:
            self._backend.build_ahead(self.lowered(plan, ranges), alone=alone)

    def is_built(self, plan: Assignment, ranges: RangeTable) -> bool:
        """Whether a plan that was begun ahead can be opened without waiting."""
        if not isinstance(self._backend, BuildsAhead):
            return False
        return self._backend.kept_build_s(self.lowered(plan, ranges)) is not None

    @property
    def at_once(self) -> int:
        """How many plans are under way at once: one that is measured, and those that are built meanwhile."""
        return 1 + self._backend.builders if isinstance(self._backend, BuildsAhead) else 1

    def settle(self, *, cancel: bool = True) -> None:
        """Give up builds that nobody waits for, so that nothing disturbs the clock; by choice those that run go on."""
        if isinstance(self._backend, BuildsAhead):
            self._backend.forget_ahead(cancel=cancel)

    def builder_s(self, plan: Assignment, ranges: RangeTable) -> float:
        """The seconds that the builder took for a plan that was built; 0 where the runtime does not say."""
        if not isinstance(self._backend, BuildsAhead):
            return 0.0
        return self._backend.kept_build_s(self.lowered(plan, ranges)) or 0.0

    def as_given(self, stack: ExitStack) -> Engine:
        """Build the model as it is in exact arithmetic, which is FP32 for a float model."""
        model = to_bytes(self._task.subject.model.original)
        return self._opened(model, lambda: self._backend.build(model, exact=True), stack)

    def remembering(self, engine: Computing) -> Computing:
        """An engine of the model as it is, whose outputs are kept for whoever needs them again if it costs much."""
        return engine if self._memory is None else RememberingEngine(self._memory, engine)

    @cached_property
    def _memory(self) -> RememberedOutputs | None:
        macs = sum(unit.macs for unit in self._task.subject.partition.units)
        return outputs_worth_keeping(self._task.subject.model.interface, macs)

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
        # Lowering takes time, and a plan is built ahead, opened, and profiled.
        choice = plan if isinstance(plan, BuildersChoice) else None
        key: tuple[object, ...] = (id(ranges), *sorted(plan.items())) if choice is None else (id(choice.ranges),)
        kept = self._lowered.pop(key, None)
        if kept is None:
            lowerer = self._task.subject.lowerer
            free = None if choice is None else leave_to_builder(lowerer, choice.ranges, choice.pinned)
            kept = (ranges if choice is None else choice.ranges, to_bytes((free or lowerer.lower(plan, ranges)).ir))
            while len(self._lowered) >= self.at_once:
                del self._lowered[next(iter(self._lowered))]
        self._lowered[key] = kept
        return kept[1]

    def verified(self, plan: Assignment, ranges: RangeTable) -> Verification:
        """Compare what the runtime made of each unit with what the plan asked for."""
        lowerer, freely = self._task.subject.lowerer, isinstance(plan, BuildersChoice)
        return verified(lowerer, plan, self._backend, self.lowered(plan, ranges), freely=freely)

    def require_honoured(self, plan: Assignment, ranges: RangeTable) -> None:
        """Check that the runtime runs each unit with arithmetic as the plan asks, where there is a choice for the unit.

        Raises:
            NotHonouredError: it does not.
        """
        if isinstance(plan, BuildersChoice):  # nothing was asked
            return
        try:
            verification = self.verified(plan, ranges)
        except BackendError:  # a runtime that tells nothing keeps no plan from being measured
            return
        choices = self._task.subject.choices
        found = [unit for unit in verification.refused if len(choices[unit.unit]) > 1]
        if found:
            text = "; ".join(unit.describe() for unit in found)
            as_it_ran = plan_as_it_ran(verification, plan, choices)
            ran = {unit.unit: as_it_ran[unit.unit] for unit in found if as_it_ran[unit.unit] is not plan[unit.unit]}
            raise NotHonouredError(f"it would not run as asked: {text}", [unit.unit for unit in found], ran)

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
    """One full batch, in which samples are repeated where there are too few, in the situation that counts."""
    interface, settings = task.subject.model.interface, task.settings
    situation = settings.situation
    if situation is not None:
        return situated_feed(interface, data, situation, settings.batch)
    return batch_feed(interface, data, settings.batch)
