"""One process that takes part in a search: it asks for plans, measures them, and tells what it found."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from autoprec.errors import BackendError, OutOfTimeError
from autoprec.plan import Assignment
from autoprec.study.ledger.ask_tell import Ledger
from autoprec.study.ledger.asked import Asked
from autoprec.study.origin import Origin
from autoprec.study.outcome import rival_of
from autoprec.study.stop import (
    EVERYTHING_MEASURED,
    ONLY_REPEATS,
    OUT_OF_TIME,
    Stop,
    StopReason,
    no_improvement,
    nothing_predicted,
)
from autoprec.study.trial import Measurement, Trial

MOST_REFUSED = 8
"""A runtime that refuses more plans than this will refuse the next one too, and each refusal costs a build."""
MOST_REPEATS = 50
"""A sampler that asks for known plans this often in a row has nothing new."""
_POLL_S = (0.05, 1.0)
"""The shortest and the longest pause while others measure what this process waits for."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be known of a plan.

    Attributes:
        rival: what it must beat to matter, in the figure that is minimised; infinite where any will do.
        everything: whether it is measured in full in any case, because it may be an answer or is there to teach.
    """

    rival: float
    everything: bool


def nothing(plan: Assignment) -> None:
    """Begin nothing."""


def no_plan(plan: Assignment) -> bool:
    """Nothing was begun, so nothing is ready."""
    return False


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is begun of plans before they are measured.

    Attributes:
        plans: the most plans that are under way at once, the one that is measured included.
        begin: begins one, such as its build in another process.
        ready: whether one can be measured without waiting for what was begun.
    """

    plans: int = 1
    begin: Callable[[Assignment], None] = nothing
    ready: Callable[[Assignment], bool] = no_plan


Measure = Callable[[Assignment, Wanted], Measurement]


def measure_asked(
    ledger: Ledger, asked: Asked, measure: Callable[[], Measurement], refused: Callable[[BackendError], None]
) -> Trial | None:
    """Measure a plan that was asked for, and tell the ledger.

    A refusal by the runtime costs this plan and not the run. Where anything else ends the measurement, the plan is
    left to other processes.

    Args:
        ledger: where the plan was asked for.
        asked: the plan.
        measure: measures it.
        refused: called when the runtime refuses it.

    Returns:
        None where the plan was refused, or became another process's because this one was taken for dead.
    """
    try:
        measured = measure()
    except BackendError as error:
        refused(error)
        return None
    except BaseException:
        ledger.leave(asked)
        raise
    return ledger.tell(asked, measured)


class Participant:
    """What the process that leads a search and those that follow have in common.

    Args:
        seeds: name -> plan: what the leader has measured first.
        ledger: the study, with the sampler.
        measure: measures a plan on this machine.
        limit: the most trials.
        out_of_time: says whether the time is used up.
        progress: called after each trial that this process shows.
        ahead: what is begun of plans before they are measured.

    Attributes:
        trials: all measured plans, as far as this process knows.
        refused: plans that the runtime refused, and what it said.
        measured: the number of plans that this process measured.
        cut: whether the time limit ended the measurement of a plan, which is no reason against the plan.
    """

    def __init__(
        self,
        seeds: Mapping[str, Assignment],
        ledger: Ledger,
        measure: Measure,
        *,
        limit: int,
        out_of_time: Callable[[], bool] = lambda: False,
        progress: Callable[[Trial], None] = lambda trial: None,
        ahead: Ahead | None = None,
    ) -> None:
        self._ahead, self._pending = ahead or Ahead(), deque[Asked]()
        self.seeds, self.ledger, self.measure = seeds, ledger, measure
        self.limit, self.out_of_time, self.progress = limit, out_of_time, progress
        self.trials: list[Trial] = ledger.trials()
        self.refused: list[tuple[Assignment, str]] = []
        self.measured, self.cut = 0, False
        self._known = {trial.number for trial in self.trials}

    def until_stopped(self) -> Stop:
        """Measure until there is a reason to stop."""
        repeats, waits = 0, pauses()
        while (stop := self.stopping()) is None:
            asked = self._next(self.limit)
            if asked is None:
                time.sleep(next(waits))
                continue
            waits = pauses()
            repeats = 0 if self.take(asked) else repeats + 1
            if repeats >= MOST_REPEATS:
                return ONLY_REPEATS
        self.take_ready()
        return stop

    def _next(self, limit: int) -> Asked | None:
        """The next plan to measure; what is begun ahead of it is asked for too. None where there is nothing to do now.

        Args:
            limit: the most plans; 0 for nothing but what was enqueued.
        """
        while len(self._pending) < self._ahead.plans:
            if len(self.trials) + len(self._pending) >= self.limit or (limit and self._waits()):
                break
            if not limit and self._pending and not self.ledger.queue().waiting:
                break
            asked = self.ledger.ask(limit)
            if asked is None:
                break
            if asked.known is None:
                self._ahead.begin(asked.plan)
            self._pending.append(asked)
        if not self._pending:
            return None
        asked = self._ready() or self._pending[0]
        self._pending.remove(asked)
        return asked

    def take_ready(self) -> None:
        """Measure what was begun ahead and is ready, so that no work that was done is lost."""
        while (asked := self._ready()) is not None:
            self._pending.remove(asked)
            self.take(asked)

    def _ready(self) -> Asked | None:
        return next((asked for asked in self._pending if self._ahead.ready(asked.plan)), None)

    @property
    def pending(self) -> int:
        """How many plans were asked for ahead of their measurement."""
        return len(self._pending)

    def leave_pending(self) -> None:
        """Leave what was asked for ahead to whoever goes on."""
        while self._pending:
            self.ledger.leave(self._pending.popleft())

    def take(self, asked: Asked) -> bool:
        """Measure a plan, unless it is known; returns whether it was new."""
        self.look()  # another process may have been refused it meanwhile
        if asked.known is not None:
            self.ledger.repeat(asked, asked.known.measured)
            return False
        if any(dict(asked.plan) == dict(plan) for plan, _ in self.refused):
            self.ledger.fail(asked)
            return False
        try:
            trial = measure_asked(
                self.ledger,
                asked,
                lambda: self.measure(asked.plan, self._wanted(asked)),
                lambda error: self._refuse(asked, error),
            )
        except OutOfTimeError:
            self.cut = True
            return True
        if trial is not None:
            self.measured += 1
            self.trials.append(trial)
            self._known.add(trial.number)
            self.progress(trial)
        return True

    def add_seeds(self, plans: Mapping[str, Assignment]) -> None:
        """Have more plans measured, as if they had been there from the beginning."""
        if plans:
            self.seeds = {**self.seeds, **plans}
            self.ledger.enqueue(plans)

    def cut_off(self) -> None:
        """Note that the time limit ended something in its midst."""
        self.cut = True

    def look(self) -> None:
        """Take in what is new in the study."""
        self.trials = self.ledger.trials()
        for trial in self.trials:
            if trial.number not in self._known:
                self._known.add(trial.number)
                self._show_other(trial)
        for plan, text in self.ledger.refusals():
            if all(dict(plan) != dict(other) for other, _ in self.refused):
                self.refused.append((plan, text))
                self.ledger.refuse(plan)

    def stopping(self) -> Stop | None:
        """Why to stop now, None to go on."""
        self.ledger.recover()
        self.look()
        if len(self.trials) >= self.limit:
            return Stop(StopReason.TRIALS, f"all {self.limit} trials were used")
        if self.cut or self.out_of_time():
            return OUT_OF_TIME
        if len(self.refused) > MOST_REFUSED:
            return Stop(StopReason.REFUSALS, f"the runtime refused {len(self.refused)} plans")
        stale = no_improvement(self.trials, self.ledger.goal, len(self.seeds))
        if stale is not None or not self.ledger.guided:
            return stale
        queue = self.ledger.queue()  # before the proposal, which may follow from what has just been told
        if queue.waiting or queue.running:
            return None
        proposal = self.ledger.proposal()
        if proposal is None:
            return EVERYTHING_MEASURED
        return None if proposal.promising else nothing_predicted(self.trials, self.ledger.goal)

    def _waits(self) -> bool:
        """Whether only what others measure can say how to go on."""
        queue = self.ledger.queue()
        if queue.waiting or not (queue.begun >= self.limit or self.ledger.guided):
            return False
        if queue.begun >= self.limit:
            return True
        proposal = self.ledger.proposal()
        return proposal is None or not proposal.promising

    def _wanted(self, asked: Asked) -> Wanted:
        """Finalists are measured in full, and so is every plan that was asked for by name."""
        everything = asked.origin in self.seeds or Origin.of(asked.origin).explores
        return Wanted(rival_of(self.trials, self.ledger.goal), everything)

    def _show_other(self, trial: Trial) -> None:
        """Say what another process measured."""
        raise NotImplementedError

    def _refuse(self, asked: Asked, error: BackendError) -> None:
        """Note that the runtime refused a plan."""
        raise NotImplementedError


def pauses() -> Iterator[float]:
    """Pauses in seconds, each twice as long as the one before, up to the longest."""
    pause_s, longest_s = _POLL_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, longest_s)
