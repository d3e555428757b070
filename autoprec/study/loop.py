"""The loop round a study: ask for a plan, measure it, tell what was found, until nothing promises to be better.

Several processes may run it on one study. One leads: it says what is measured first and when the search is over, waits
for what others still measure, and takes all of it in. The others follow.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from autoprec.errors import BackendError, RunDirectoryError, StorageError
from autoprec.plan import Assignment
from autoprec.study.goal import Goal, improves
from autoprec.study.guide.told import ModelFits, model_fits
from autoprec.study.ledger.ask_tell import Ledger
from autoprec.study.ledger.asked import Asked
from autoprec.study.trial import Measurement, Trial

FINALISTS = 4
MOST_REFUSED = 8
"""A runtime that refuses more plans than this will refuse the next one too, and each refusal costs a build."""
PATIENCE = 10
"""Among plans of about equal speed more trials only find the luckiest, so the search ends after so many timed ones in
vain, or after twice as many that were not all worth timing."""
_SAFELY = 0.95
"""A plan of this share of the latency limit will meet it again, where those near the limit may not."""
MOST_REPEATS = 50
"""A sampler that asks for known plans this often in a row has nothing new."""
_LEAST_TRIALS = 2  # FP32 and a rival, however little time there is
MOST_VAIN = 3
"""A follower whose runtime refuses its first so many plans is of no use, and must not spoil them for others."""
_POLL_S = (0.05, 1.0)  # least and most, while others measure what this process waits for


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be known of a plan.

    Attributes:
        rival: what it must beat to matter, in the figure that is minimised; infinite where any will do.
        everything: it is measured in full whatever comes out: it may be an answer, or is there to teach.
    """

    rival: float
    everything: bool


Measure = Callable[[Assignment, Wanted], Measurement]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOutcome:
    """What a search came to.

    Attributes:
        trials: all measured plans.
        best: the best accepted trial; where none is accepted, the one that comes nearest to the bounds.
        feasible: whether the bounds are met.
        stopped: why the search ended.
        finalists: the plans worth measuring again, best first.
        models: how well plans were foretold that the models had not seen.
        refused: what the runtime said of plans that it could not build or run.
        by: process -> the plans that it measured since this search began.
    """

    trials: tuple[Trial, ...]
    best: Trial
    feasible: bool
    stopped: str
    finalists: tuple[Trial, ...]
    models: ModelFits
    refused: tuple[str, ...] = ()
    by: Mapping[str, int] = field(default_factory=dict)


class Search:
    """The search for one bound.

    Args:
        seeds: name -> plan: measured first, whatever the models say.
        ledger: the study, with the sampler.
        measure: runs a plan on the machine.
        limit: the most trials.
        spent: whether the time is used up.
        progress: called after each trial, other processes' too.
        begun: called when workers may join.
    """

    def __init__(
        self,
        seeds: Mapping[str, Assignment],
        ledger: Ledger,
        measure: Measure,
        *,
        limit: int,
        spent: Callable[[], bool] = lambda: False,
        progress: Callable[[Trial], None] = lambda trial: None,
        begun: Callable[[], None] = lambda: None,
    ) -> None:
        self.seeds, self.ledger, self.measure = seeds, ledger, measure
        self.limit, self.spent, self.progress, self.begun = limit, spent, progress, begun
        self.trials: list[Trial] = ledger.trials()
        self.refused: list[tuple[Assignment, str]] = []
        self.stopped = "the run that leads it was stopped"
        self._shown = {trial.number for trial in self.trials}
        self.measured = 0

    def run(self) -> SearchOutcome:
        """Measure the seeds, then what the sampler asks for, until nothing promises to be better."""
        with self.ledger.present():
            self.ledger.begin()
            try:
                self.ledger.enqueue(self.seeds)  # before workers may spend the budget on other plans
                self.begun()
                self._measure_waiting()
                self.stopped = self._loop()
            finally:
                self._end(self.stopped)
            self._gather()
        return self._result(self.stopped)

    def _loop(self) -> str:
        """Measure until there is a reason to stop."""
        repeats, poll_s = 0, _POLL_S[0]
        while (stopped := self._stopped()) is None:
            asked = None if self._waits() else self.ledger.ask(self.limit)
            if asked is None:
                time.sleep(poll_s)
                poll_s = min(2 * poll_s, _POLL_S[1])
                continue
            poll_s = _POLL_S[0]
            repeats = 0 if self._new(asked) else repeats + 1
            if repeats >= MOST_REPEATS:
                return "the sampler asks only for plans that are known"
        return stopped

    def _new(self, asked: Asked) -> bool:
        """Measure a plan, unless it is known."""
        self._look()  # another process may have been refused it meanwhile
        if asked.known is not None:
            self.ledger.repeat(asked, asked.known.measured)
        elif any(dict(asked.plan) == dict(plan) for plan, _ in self.refused):
            self.ledger.fail(asked)
        else:
            self._measure(asked)
            return True
        return False

    def _measure_waiting(self) -> None:
        """Measure what was enqueued."""
        while self.ledger.waiting() and not (len(self.trials) >= _LEAST_TRIALS and self.spent()):
            asked = self.ledger.ask(0)  # nothing but what waits
            if asked is not None:
                self._new(asked)
        self._look()

    def _gather(self) -> None:
        """Wait for what others still measure; what they leave behind is measured here."""
        poll_s = _POLL_S[0]
        while not self.spent():
            self.ledger.recover()
            if self.ledger.waiting():
                self._measure_waiting()
            if not self.ledger.queue().running:
                break
            time.sleep(poll_s)
            poll_s = min(2 * poll_s, _POLL_S[1])
        self._look()

    def _end(self, why: str) -> None:
        with contextlib.suppress(StorageError, RunDirectoryError):  # whatever ended it is worse
            self.ledger.end(why)

    def _look(self) -> None:
        """Take in what is new in the study."""
        self.trials = self.ledger.trials()
        for trial in self.trials:
            if trial.number not in self._shown:
                self._shown.add(trial.number)
                self._show(trial)
        for plan, text in self.ledger.refusals():
            if all(dict(plan) != dict(other) for other, _ in self.refused):
                self.refused.append((plan, text))
                self.ledger.refuse(plan)

    def _show(self, trial: Trial) -> None:
        """Say what another process measured."""
        self.progress(trial)

    def _waits(self) -> bool:
        """Whether only what others measure can say how to go on."""
        queue = self.ledger.queue()
        if queue.waiting or not (queue.begun >= self.limit or self.ledger.guided):
            return False
        if queue.begun >= self.limit:
            return True
        proposal = self.ledger.proposal()
        return proposal is None or not proposal.promising

    def _stopped(self) -> str | None:
        """Why to stop now, None to go on."""
        self.ledger.recover()
        self._look()
        if len(self.trials) >= self.limit:
            return f"all {self.limit} trials were used"
        if self.spent():
            return "the time was used up"
        if len(self.refused) > MOST_REFUSED:
            return f"the runtime refused {len(self.refused)} plans"
        stale = self._stale()
        if stale is not None or not self.ledger.guided:
            return stale
        queue = self.ledger.queue()  # before the proposal, which may follow from what has just been told
        if queue.waiting or queue.running:
            return None
        proposal = self.ledger.proposal()
        if proposal is None:
            return "every plan was measured"
        if proposal.promising:
            return None
        goal = self.ledger.goal
        if math.isfinite(goal.max_latency) and not any(t.feasible for t in self.trials):
            return f"no plan promises to meet {goal.bounds}"
        return f"no plan promises to be {goal.better} within {goal.bounds}"

    def _measure(self, asked: Asked) -> None:
        try:
            measured = self.measure(asked.plan, self._wanted(asked))
        except BackendError as error:  # costs this plan and not the run
            self._refuse(asked, error)
            return
        except BaseException:
            self.ledger.leave(asked)
            raise
        trial = self.ledger.tell(asked, measured)
        if trial is None:  # this process was taken for dead, and the plan is another's now
            return
        self.measured += 1
        self.trials.append(trial)
        self._shown.add(trial.number)
        self.progress(trial)

    def _refuse(self, asked: Asked, error: BackendError) -> None:
        self.ledger.fail(asked, str(error))
        self.ledger.refuse(asked.plan)
        self.refused.append((asked.plan, f"{asked.origin}: {error}"))
        if not self.trials:  # not even FP32: there is nothing to compare with
            raise error

    def _wanted(self, asked: Asked) -> Wanted:
        """Finalists are measured in full, and so is every plan that was asked for by name."""
        accepted = sorted(self._cost(t)[0] for t in self.trials if t.feasible)
        rival = accepted[FINALISTS - 1] if len(accepted) >= FINALISTS else math.inf
        return Wanted(rival, asked.origin in self.seeds or asked.origin == "explore")

    def _stale(self) -> str | None:
        """Whether the last plans, each proposed after one was accepted, all failed to be surely better than it."""
        best, since, goal = (math.inf, math.inf), 0, self.ledger.goal
        for location, trial in enumerate(self.trials):
            if trial.feasible and improves(self._cost(trial), best):
                best, since = self._cost(trial), location + 1
        recent = self.trials[max(since, len(self.seeds)) :]
        timed = sum(trial.measured.timed for trial in recent)
        vain = timed >= PATIENCE or len(recent) >= 2 * PATIENCE
        text = f"the last {len(recent)} plans were not {goal.better} within {goal.bounds}"
        return text if vain and since > 0 else None

    def _cost(self, trial: Trial) -> tuple[float, float]:
        measured = trial.measured
        return self.ledger.goal.cost(measured.judged_drop, measured.latency_ratio, measured.bytes, measured.noise)

    def _result(self, stopped: str) -> SearchOutcome:
        goal = self.ledger.goal
        accepted = sorted((t for t in self.trials if t.feasible), key=self._cost)
        best = (
            accepted[0]
            if accepted
            else min(
                self.trials, key=lambda t: (*goal.short_of(t.measured.judged_drop, t.measured.latency_ratio), t.number)
            )
        )
        finalists = accepted[:FINALISTS]
        # Of the fastest some may meet the bound by luck alone, so one is there that meets it with room.
        if not any(_with_room(t, goal) for t in finalists):
            finalists += [t for t in accepted if _with_room(t, goal)][:1]
        safe = [t for t in accepted[FINALISTS:] if t.measured.latency_ratio <= _SAFELY * goal.max_latency]
        finalists += safe[:1] if math.isfinite(goal.max_latency) else []
        finalists += [t for t in accepted[FINALISTS:] if t.origin.startswith("uniform") and t not in finalists]
        return SearchOutcome(
            trials=tuple(self.trials),
            best=best,
            feasible=bool(accepted),
            stopped=stopped,
            finalists=tuple(finalists),
            models=model_fits(self.ledger.told()),
            refused=tuple(text for _, text in self.refused),
            by=self.ledger.by_process(),
        )


def _with_room(trial: Trial, goal: Goal) -> bool:
    return trial.measured.judged_drop + (trial.measured.drop_error or 0.0) <= goal.max_drop


class SearchFollower(Search):
    """Takes part in a search that another process leads, until that one or the same rules say that it is over."""

    def follow(self) -> tuple[int, str]:
        """Measure what the sampler asks for; returns how many plans this process measured, and why it ended.

        Raises:
            BackendError: the runtime here refused its first plans, one after the other.
        """
        with self.ledger.present():
            self._look()
            stopped = self._loop()
        return self.measured, stopped

    def _stopped(self) -> str | None:
        return self.ledger.ended() or super()._stopped()

    def _show(self, trial: Trial) -> None:
        """Nothing: a worker speaks of its own plans."""

    def _refuse(self, asked: Asked, error: BackendError) -> None:
        self._vain += not self.measured
        self.ledger.fail(asked, str(error))
        self._look()
        if self._vain >= MOST_VAIN:
            raise BackendError(
                f"a worker must be able to run what the search asks for, but the runtime here refused its first "
                f"{self._vain} plans, the last one with: {error}"
            ) from error

    _vain = 0
