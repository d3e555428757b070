"""The loop round a study: ask for a plan, measure it, tell what was found, until nothing promises to be better."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from autoprec.errors import BackendError
from autoprec.study.goals import improves
from autoprec.study.latency import Assignment
from autoprec.study.told import Fidelities, fidelities
from autoprec.study.trials import Asked, Ledger, Measurement, Trial

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


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to.

    Attributes:
        trials: all measured plans.
        best: the best accepted trial; where none is accepted, the one that comes nearest to the bounds.
        feasible: whether the bounds are met.
        stopped: why the search ended.
        finalists: the plans worth measuring again, best first.
        models: how well plans were foretold that the models had not seen.
        refused: what the runtime said of plans that it could not build or run.
    """

    trials: tuple[Trial, ...]
    best: Trial
    feasible: bool
    stopped: str
    finalists: tuple[Trial, ...]
    models: Fidelities
    refused: tuple[str, ...] = ()


class Search:
    """The search for one bound.

    Args:
        seeds: name -> plan: measured first, whatever the models say.
        ledger: the study, with the sampler.
        measure: runs a plan on the machine.
        limit: the most trials.
        spent: whether the time is used up.
        progress: called after each trial.
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
    ) -> None:
        self.seeds, self.ledger, self.measure = seeds, ledger, measure
        self.limit, self.spent, self.progress = limit, spent, progress
        self.trials: list[Trial] = ledger.trials()
        self.refused: list[tuple[Assignment, str]] = []

    def run(self) -> Found:
        """Measure the seeds, then what the sampler asks for, until nothing promises to be better."""
        uniform = {name: plan for name, plan in self.seeds.items() if name.startswith("uniform")}
        self._measure_all(uniform)
        self._measure_all(self.seeds)
        stopped, repeats = self._stopped(), 0
        while stopped is None:
            asked = self.ledger.ask()
            known = self._known(asked.plan)
            if known is not None:
                self.ledger.repeat(asked, known.measured)
                repeats += 1
            elif any(dict(asked.plan) == dict(plan) for plan, _ in self.refused):
                self.ledger.fail(asked)
                repeats += 1
            else:
                self._measure(asked)
                repeats = 0
            stopped = self._stopped() if repeats < MOST_REPEATS else "the sampler asks only for plans that are known"
        return self._result(stopped)

    def _measure_all(self, seeds: Mapping[str, Assignment]) -> None:
        refused = [dict(plan) for plan, _ in self.refused]
        self.ledger.enqueue({name: plan for name, plan in seeds.items() if dict(plan) not in refused})
        while self.ledger.waiting() and not (len(self.trials) >= _LEAST_TRIALS and self.spent()):
            self._measure(self.ledger.ask())

    def _stopped(self) -> str | None:
        """Why to stop now, None to go on."""
        if len(self.trials) >= self.limit:
            return f"all {self.limit} trials were used"
        if self.spent():
            return "the time was used up"
        if len(self.refused) > MOST_REFUSED:
            return f"the runtime refused {len(self.refused)} plans"
        stale = self._stale()
        if stale is not None:
            return stale
        if not self.ledger.guided:
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
            self.ledger.fail(asked, str(error))
            self.ledger.refuse(asked.plan)
            self.refused.append((asked.plan, f"{asked.origin}: {error}"))
            if not self.trials:  # not even FP32: there is nothing to compare with
                raise
            return
        except BaseException:
            self.ledger.fail(asked)
            raise
        trial = self.ledger.tell(asked, measured)
        self.trials.append(trial)
        self.progress(trial)

    def _wanted(self, asked: Asked) -> Wanted:
        """Finalists are measured in full, and so is every plan that was asked for by name."""
        accepted = sorted(self._cost(t)[0] for t in self.trials if t.feasible)
        rival = accepted[FINALISTS - 1] if len(accepted) >= FINALISTS else math.inf
        return Wanted(rival, asked.origin in self.seeds or asked.origin == "explore")

    def _stale(self) -> str | None:
        """Whether the last plans, each proposed after one was accepted, all failed to be surely better than it."""
        best, since, goal = (math.inf, math.inf), 0, self.ledger.goal
        for place, trial in enumerate(self.trials):
            if trial.feasible and improves(self._cost(trial), best):
                best, since = self._cost(trial), place + 1
        recent = self.trials[max(since, len(self.seeds)) :]
        timed = sum(trial.measured.timed for trial in recent)
        vain = timed >= PATIENCE or len(recent) >= 2 * PATIENCE
        words = f"the last {len(recent)} plans were not {goal.better} within {goal.bounds}"
        return words if vain and since > 0 else None

    def _cost(self, trial: Trial) -> tuple[float, float]:
        measured = trial.measured
        return self.ledger.goal.cost(measured.judged_drop, measured.latency_ratio, measured.bytes, measured.noise)

    def _known(self, plan: Assignment) -> Trial | None:
        return next((trial for trial in self.trials if dict(trial.plan) == dict(plan)), None)

    def _result(self, stopped: str) -> Found:
        goal = self.ledger.goal
        accepted = sorted((t for t in self.trials if t.feasible), key=self._cost)
        best = accepted[0] if accepted else min(
            self.trials, key=lambda t: (*goal.short_of(t.measured.judged_drop, t.measured.latency_ratio), t.number)
        )  # fmt: skip
        finalists = accepted[:FINALISTS]
        safe = [t for t in accepted[FINALISTS:] if t.measured.latency_ratio <= _SAFELY * goal.max_latency]
        finalists += safe[:1] if math.isfinite(goal.max_latency) else []
        finalists += [t for t in accepted[FINALISTS:] if t.origin.startswith("uniform") and t not in finalists]
        return Found(
            tuple(self.trials), best, bool(accepted), stopped, tuple(finalists), fidelities(self.ledger.told()),
            tuple(words for _, words in self.refused),
        )  # fmt: skip
