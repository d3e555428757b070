"""The loop round a study: ask for a plan, measure it, tell what was found, until no plan is predicted to be better.

Several processes may run it on one study. One leads: it says what is measured first and when the search is over, waits
for what others still measure, and takes all of it in. The others follow.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping

from autoprec.errors import BackendError, NotHonouredError, OutOfTimeError, RunDirectoryError, StorageError
from autoprec.plan import Assignment
from autoprec.study.guide.proposals import model_fits
from autoprec.study.ledger.ask_tell import Ledger
from autoprec.study.ledger.asked import Asked
from autoprec.study.origin import Origin
from autoprec.study.outcome import SearchOutcome, best_and_finalists
from autoprec.study.participant import Ahead, Measure, Participant, pauses
from autoprec.study.stop import INTERRUPTED, Stop, StopReason
from autoprec.study.trial import Trial

MOST_REFUSED_AT_FIRST = 3
"""A follower whose runtime refuses its first so many plans is of no use, and must not spoil them for others."""
_LEAST_TRIALS = 2  # FP32 and a rival, however little time there is


class Search(Participant):
    """The search for one goal, in the process that leads it.

    Args:
        seeds: name -> plan: measured first, whatever the models say.
        ledger: the study, with the sampler.
        measure: measures a plan on this machine.
        limit: the most trials.
        out_of_time: says whether the time is used up.
        progress: called after each trial, also after those of other processes.
        begun: called when workers may join.
        last_resort: name -> plan: measured where no other plan met the bounds.
        ahead: what is begun of plans before they are measured.
        late: name -> plan of plans that turn up while the search goes on; it is told whether to wait for them.

    Attributes:
        stop: why the search ended.
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
        begun: Callable[[], None] = lambda: None,
        last_resort: Mapping[str, Assignment] | None = None,
        ahead: Ahead | None = None,
        late: Callable[[bool], Mapping[str, Assignment]] = lambda wait: {},
    ) -> None:
        super().__init__(seeds, ledger, measure, limit=limit, out_of_time=out_of_time, progress=progress, ahead=ahead)
        self.begun, self.stop, self._last_resort, self._late = begun, INTERRUPTED, last_resort or {}, late

    @property
    def stopped(self) -> str:
        """Why the search ended, as a text."""
        return self.stop.text

    def run(self) -> SearchOutcome:
        """Measure the seeds, then what the sampler asks for, until no other plan is predicted to be better.

        Raises:
            OutOfTimeError: the time limit ended before any plan was measured.
        """
        with self.ledger.present():
            self.ledger.begin()
            try:
                self.ledger.enqueue(self._first())  # before workers may spend the budget on other plans
                self.begun()
                self._measure_waiting()
                self.stop = self.until_stopped()
                self._take_late(wait=not (self.cut or self.out_of_time()))
                self._measure_waiting()
                if not any(trial.feasible for trial in self.trials) and not self.out_of_time():
                    self.ledger.enqueue(self._last_resort)
                    self._measure_waiting()
            finally:
                self.leave_pending()
                with contextlib.suppress(StorageError, RunDirectoryError):  # whatever ended the search is worse
                    self.ledger.end(self.stop.text)
            self._gather()
            self.leave_pending()
        return self._outcome()

    def _first(self) -> dict[str, Assignment]:
        """The seeds that nobody has measured, as many as the limit leaves room for: they count as any other plan."""
        known = [dict(trial.plan) for trial in self.trials]
        new = [(name, plan) for name, plan in self.seeds.items() if dict(plan) not in known]
        return dict(new[: max(self.limit - len(known), 0)])

    def _next(self, limit: int) -> Asked | None:
        self._take_late(wait=False)
        return super()._next(limit)

    def _take_late(self, *, wait: bool) -> None:
        """Have plans measured that turned up meanwhile."""
        try:
            self.add_seeds(self._late(wait))
        except OutOfTimeError:
            self.cut_off()

    def _measure_waiting(self) -> None:
        """Measure what was enqueued, within the limit: an earlier run may have left more than this one may measure."""
        while not self.cut and (self.pending or self.ledger.queue().waiting) and len(self.trials) < self.limit:
            if len(self.trials) >= _LEAST_TRIALS and self.out_of_time():
                break
            asked = self._next(0)  # nothing but what waits
            if asked is not None:
                self.take(asked)
        self.look()

    def _gather(self) -> None:
        """Wait for what others still measure; what they leave behind is measured here."""
        waits = pauses()
        while not (self.cut or self.out_of_time()):
            self.ledger.recover()
            if self.ledger.queue().waiting:
                self._measure_waiting()
            if not self.ledger.queue().running:
                break
            time.sleep(next(waits))
        self.look()

    def _show_other(self, trial: Trial) -> None:
        self.progress(trial)

    def _refuse(self, asked: Asked, error: BackendError) -> None:
        self.ledger.fail(asked, str(error))
        self.ledger.refuse(asked.plan)
        for unit in error.units if isinstance(error, NotHonouredError) else ():
            self.ledger.refuse({unit: asked.plan[unit]})  # it alone is the reason, whatever else a plan asks for
        self.refused.append((asked.plan, f"{asked.origin}: {error}"))
        if isinstance(error, NotHonouredError) and error.ran:
            self.add_seeds({Origin.AS_IT_RAN.value: {**asked.plan, **error.ran}})
        if not self.trials and not self.ledger.queue().waiting:  # there is nothing to compare with
            raise error

    def _outcome(self) -> SearchOutcome:
        if not self.trials:
            raise OutOfTimeError(
                "the time limit ended before the first plan was measured; allow more time: the same command goes on "
                "from what is known by now"
            )
        best, finalists = best_and_finalists(self.trials, self.ledger.goal)
        return SearchOutcome(
            trials=tuple(self.trials),
            best=best,
            feasible=any(t.feasible for t in self.trials),
            stop=self.stop,
            finalists=finalists,
            models=model_fits(self.ledger.trials()),
            refused=tuple(text for _, text in self.refused),
            by=self.ledger.by_process(),
        )


class SearchFollower(Participant):
    """Takes part in a search that another process leads, until that one or the same rules say that it is over."""

    def __init__(
        self,
        seeds: Mapping[str, Assignment],
        ledger: Ledger,
        measure: Measure,
        *,
        limit: int,
        progress: Callable[[Trial], None] = lambda trial: None,
        ahead: Ahead | None = None,
    ) -> None:
        super().__init__(seeds, ledger, measure, limit=limit, progress=progress, ahead=ahead)
        self._refused_at_first = 0

    def follow(self) -> tuple[int, Stop]:
        """Measure what the sampler asks for; returns how many plans this process measured, and why it ended.

        Raises:
            BackendError: the runtime here refused its first plans, one after the other.
        """
        with self.ledger.present():
            self.look()
            try:
                stop = self.until_stopped()
            finally:
                self.leave_pending()
        return self.measured, stop

    def stopping(self) -> Stop | None:
        """Why to stop now, None to go on: as the leader says, or by the same rules."""
        ended = self.ledger.ended()
        return super().stopping() if ended is None else Stop(StopReason.LEADER, ended)

    def _show_other(self, trial: Trial) -> None:
        """Nothing: a worker shows its own plans only."""

    def _refuse(self, asked: Asked, error: BackendError) -> None:
        self._refused_at_first += not self.measured
        self.ledger.fail(asked, str(error))
        self.look()
        if self._refused_at_first >= MOST_REFUSED_AT_FIRST:
            raise BackendError(
                f"a worker must be able to run what the search asks for, but the runtime here refused its first "
                f"{self._refused_at_first} plans, the last one with: {error}"
            ) from error
