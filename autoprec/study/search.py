"""Measure few plans, each the one that the fitted models call best: propose, measure, refit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from autoprec.errors import BackendError
from autoprec.precision import Precision
from autoprec.stats import spearman
from autoprec.study.latency import Assignment, LatencyModel, fit
from autoprec.study.solve import Problem, fastest
from autoprec.study.trials import Ledger, Measurement, Trial

Measure = Callable[[Assignment], Measurement]
EXPLORE_EVERY = 6
"""Each so many trials the study's own sampler proposes one, against blind spots of the models."""
FINALISTS = 4
MOST_REFUSED = 8
"""A runtime that refuses more plans than this will refuse the next one too, and each refusal costs a build."""
PATIENCE = 10
"""Among plans of about equal speed more trials only find the luckiest, so the search ends after so many in vain."""
_GAIN = 0.98  # what counts as an improvement
_WORTH = 0.995  # a proposal must promise at least this share of the incumbent's latency


@dataclass(frozen=True, slots=True)
class Found:
    """What a search came to.

    Attributes:
        trials: all measured plans.
        best: the accepted trial of least latency; where none is accepted, the one of least drop.
        feasible: whether the bound is met.
        stopped: why the search ended.
        finalists: the plans worth measuring again, best first.
        latency_rank: Spearman of predicted against measured latency over plans the model had not seen.
        loss_rank: Spearman of predicted loss against measured noise, None with fewer than four plans.
        refused: what the runtime said of plans that it could not build or run.
    """

    trials: tuple[Trial, ...]
    best: Trial
    feasible: bool
    stopped: str
    finalists: tuple[Trial, ...]
    latency_rank: float | None
    loss_rank: float | None
    refused: tuple[str, ...] = ()


class Search:
    """The search for one bound.

    Args:
        problem: units, choices, additive losses.
        prior: (unit, precision) -> profiled share of FP32's latency.
        seeds: name -> plan: measured first, whatever the models say.
        ledger: the study.
        measure: runs a plan on the machine.
        limit: the most trials.
        spent: whether the time is used up.
        progress: called after each trial.
    """

    def __init__(
        self,
        problem: Problem,
        prior: Mapping[tuple[str, Precision], float],
        seeds: Mapping[str, Assignment],
        ledger: Ledger,
        measure: Measure,
        *,
        limit: int,
        spent: Callable[[], bool] = lambda: False,
        progress: Callable[[Trial], None] = lambda trial: None,
    ) -> None:
        self.problem, self.prior, self.seeds, self.ledger = problem, prior, seeds, ledger
        self.measure, self.limit, self.spent, self.progress = measure, limit, spent, progress
        self.trials: list[Trial] = ledger.trials()
        self.refused: list[tuple[Assignment, str]] = []
        self._foretold: list[tuple[float, float]] = []

    def run(self) -> Found:
        """Measure the seeds, then what the models propose, until nothing promises to be better."""
        for name, plan in self.seeds.items():
            self._try(plan, name)
        stopped = f"all {self.limit} trials were used"
        while len(self.trials) < self.limit:
            if self.spent():
                stopped = "the time was used up"
                break
            if len(self.refused) > MOST_REFUSED:
                stopped = f"the runtime refused {len(self.refused)} plans"
                break
            if self._stale():
                stopped = f"the last {PATIENCE} plans were not faster within the bound"
                break
            proposal = self._propose()
            if proposal is None:
                stopped = "no plan promises to be faster within the bound"
                break
            self._try(*proposal)
        return self._result(stopped)

    def _try(self, plan: Assignment, origin: str, foretold: float | None = None) -> None:
        if self._seen(plan):
            return
        try:
            measured = self.measure(plan)
        except BackendError as error:  # costs this plan and not the run
            self.refused.append((dict(plan), f"{origin}: {error}"))
            if not self.trials:  # not even FP32: there is nothing to compare with
                raise
            return
        trial = self.ledger.record(plan, origin, measured)
        self.trials.append(trial)
        if foretold is not None:
            self._foretold.append((foretold, trial.measured.latency_ratio))
        self.progress(trial)

    def _stale(self) -> bool:
        """Whether the last plans, each proposed after one was accepted, all failed to be surely faster than it."""
        done, recent = self.trials[: -PATIENCE or None], self.trials[-PATIENCE:]
        before = min((t.measured.latency_ratio for t in done if t.feasible), default=math.inf)
        after = min((t.measured.latency_ratio for t in recent if t.feasible), default=math.inf)
        return len(done) > len(self.seeds) and math.isfinite(before) and after > _GAIN * before

    def model(self) -> LatencyModel:
        """The latency model fitted to everything measured so far."""
        measured = [(trial.plan, trial.measured.latency_ratio) for trial in self.trials]
        return fit(self.problem.partition, self.prior, self.problem.carrier, measured)

    def _propose(self) -> tuple[Assignment, str, float] | None:
        model = self.model()
        if len(self.trials) % EXPLORE_EVERY == EXPLORE_EVERY - 1:
            plan = self.ledger.suggest()
            if not self._seen(plan):
                return plan, "sampler", self._predict(model, plan)
        for budget, origin in self._budgets():
            found = fastest(self.problem, model, budget, self._known())
            if found is None:
                continue
            predicted = self._predict(model, found)
            if predicted < _WORTH * self._incumbent_latency():
                return found, origin, predicted
        return None

    def _budgets(self) -> list[tuple[float, str]]:
        """Losses worth trying, from what is known to be accepted and what is known not to be."""
        accepted = [self.problem.total_loss(t.plan) for t in self.trials if t.feasible]
        refused = [self.problem.total_loss(t.plan) for t in self.trials if not t.feasible]
        low = max(accepted, default=0.0)
        above = [loss for loss in refused if loss > low]
        if not above:
            return [(math.inf, "model, no budget")]
        high = min(above)
        middle = math.sqrt(low * high) if low > 0 else high / 4
        ladder = [middle, math.sqrt(middle * high), high * (1 - 1e-9)]
        if low <= 0:
            ladder = [high / 4, high / 2, high / 16, high * (1 - 1e-9), high / 64]
        return [(budget, f"model, loss {budget:.2g}") for budget in ladder]

    def _predict(self, model: LatencyModel, plan: Assignment) -> float:
        return model.predict(self.problem.partition, plan, self.problem.carrier)

    def _incumbent_latency(self) -> float:
        return min((t.measured.latency_ratio for t in self.trials if t.feasible), default=math.inf)

    def _seen(self, plan: Assignment) -> bool:
        return any(dict(plan) == dict(known) for known in self._known())

    def _known(self) -> list[Assignment]:
        return [*(trial.plan for trial in self.trials), *(plan for plan, _ in self.refused)]

    def _result(self, stopped: str) -> Found:
        accepted = sorted((t for t in self.trials if t.feasible), key=lambda t: t.measured.latency_ratio)
        best = accepted[0] if accepted else min(self.trials, key=lambda t: (t.measured.judged_drop, t.number))
        finalists = accepted[:FINALISTS]
        finalists += [t for t in accepted[FINALISTS:] if t.origin.startswith("uniform")]
        return Found(
            tuple(self.trials), best, bool(accepted), stopped, tuple(finalists),
            _rank([f for f, _ in self._foretold], [m for _, m in self._foretold]),
            _rank([self.problem.total_loss(t.plan) for t in self.trials], [t.measured.noise for t in self.trials]),
            tuple(words for _, words in self.refused),
        )  # fmt: skip


def _rank(x: Sequence[float], y: Sequence[float]) -> float | None:
    pairs = [(a, b) for a, b in zip(x, y, strict=True) if math.isfinite(a) and math.isfinite(b)]
    if len(pairs) < 4 or len({a for a, _ in pairs}) < 2 or len({b for _, b in pairs}) < 2:
        return None
    return spearman([a for a, _ in pairs], [b for _, b in pairs])
