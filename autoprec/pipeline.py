"""The stages of a tune, each of which leaves a file and is skipped where that file is still valid.

ranges -> sensitivity -> latency -> search -> confirmation -> report
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Protocol

import numpy as np

from autoprec.calibrate import calibrate_model, needed_tensors, range_fingerprint
from autoprec.data.dataset import Dataset
from autoprec.data.splits import balanced
from autoprec.engines import Engines, PlanEngine, timing_feed
from autoprec.errors import BackendError
from autoprec.evaluate import Evaluator, difficulty
from autoprec.measuring import Measuring, Spent
from autoprec.model import to_bytes
from autoprec.precision import Array, Precision
from autoprec.profiler import Profiler
from autoprec.ranges.table import RangeTable, load_ranges
from autoprec.records import fingerprint
from autoprec.rundir import RunDirectory
from autoprec.seeds import FP32_PLAN, seed_plans, uniform_plans
from autoprec.sensitivity import Profile, load_profile, profile_fingerprint
from autoprec.studied import studied
from autoprec.study.latency import Assignment
from autoprec.study.samplers import make_sampler
from autoprec.study.search import FINALISTS, Found, Search
from autoprec.study.solve import Problem
from autoprec.study.trials import Ledger, Trial
from autoprec.task import Task
from autoprec.timing import Deadline, Timing, compare
from autoprec.tuned import Candidate, Tuned

_PROFILE_MACS = 6e10
_PROFILE_SAMPLES = (128, 512)
_PROFILE_SHARE = 0.3
"""Sensitivities may use this share of the time; on fewer samples where they would take more."""
_FEWEST_PROFILED = 16
_LEAST_RESERVE = 0.1
"""Confirming and reporting have this share of the time at least."""
_CONFIRM_ROUNDS = (9, 25)
_CONFIRM_TURN_MS = 60.0


class Progress(Protocol):
    """Who is told how far a run is."""

    def stage(self, name: str, detail: str) -> None:
        """A stage begins, or is taken over from an earlier run."""

    def advance(self, share: float) -> None:
        """The share of the stage that is done, 0 to 1."""

    def trial(self, trial: Trial) -> None:
        """A plan was measured."""


class Silent:
    """Tells nobody."""

    def stage(self, name: str, detail: str) -> None:
        """Nothing."""

    def advance(self, share: float) -> None:
        """Nothing."""

    def trial(self, trial: Trial) -> None:
        """Nothing."""


class Pipeline:
    """Runs the stages of one task.

    Args:
        task: what was asked.
        directory: where the files go; its folder exists.
        progress: told how far it is.
    """

    def __init__(self, task: Task, directory: RunDirectory, progress: Progress | None = None) -> None:
        self.directory = directory
        self.progress: Progress = progress or Silent()
        self.deadline = Deadline(task.settings.timeout_s)
        self.seconds: dict[str, float] = {}
        self.spent = Spent()
        self._began = time.monotonic()
        shapes = {name: array.shape for name, array in timing_feed(task, task.splits.select).items()}
        self.backend = task.backend.for_run(shapes, directory.root)
        self.engines = Engines(task, self.backend)
        self.task = self._balanced(task)

    def run(self) -> Tuned:
        """All stages."""
        ranges = self.ranges()
        profile = self.profile(ranges)
        prior = self.latency(ranges)
        with ExitStack() as stack:
            reference = self.engines.open(uniform_plans(self.task.subject)[FP32_PLAN], ranges, stack)
            found = self.search(reference, ranges, profile, prior)
            return self.report(reference, ranges, profile, found)

    def _balanced(self, task: Task) -> Task:
        """Select and report made equally hard for FP32."""
        union = task.splits.select.merged(task.splits.report)
        self._stage("splits", f"FP32 on {union.count} samples, to make both halves equally hard")
        interface, settings = task.subject.model.interface, task.settings
        with self.backend.build(to_bytes(task.subject.model.original), exact=True) as engine:
            begun = time.monotonic()
            keys = difficulty(engine, union, interface, task.metric, settings.batch)
            self._sample_s = (time.monotonic() - begun) / union.count
        return replace(task, splits=balanced(task.splits, keys, settings.seed))

    def ranges(self) -> RangeTable:
        """Calibrate, unless the stored ranges are of the same model, data and recipe."""
        task, path = self.task, self.directory.ranges
        lowerer, possible = task.subject.lowerer, task.subject.possible
        data = task.splits.calibrate
        cut = data.subset(range(min(data.count, task.recipe.samples)))
        if path.is_file():
            stored = load_ranges(path)
            if stored.fingerprint == range_fingerprint(lowerer, cut, task.recipe):
                self._stage("ranges", f"{len(stored.clipped)} values, from an earlier run")
                return stored
        count = len(needed_tensors(lowerer, possible))
        self._stage("ranges", f"{count} values over {cut.count} samples, calibrator {task.recipe.method}")
        table = calibrate_model(
            lowerer, possible, self.backend, data, task.recipe, lambda what, share: self.progress.advance(share)
        )
        table.save(path)
        return table

    def profile(self, ranges: RangeTable) -> Profile:
        """Measure sensitivities, unless stored ones are of the same graph, weights, data, metric and ranges."""
        task, path = self.task, self.directory.profile
        data = self.profiling_set()
        precisions = tuple(sorted({p for options in task.subject.choices.values() for p in options}))
        if path.is_file():
            stored = load_profile(path)
            marks = [profile_fingerprint(task.subject.lowerer, part, task.metric, ranges) for part in self._parts()]
            if stored.fingerprint in marks and {p for _, p in stored.entries} >= set(precisions) - {Precision.FP32}:
                self._stage("sensitivity", f"{len(stored.entries)} entries, from an earlier run")
                return stored
        units = sum(len(options) > 1 for options in task.subject.choices.values())
        self._stage("sensitivity", f"{units} units on {data.count} samples")
        profiler = Profiler(
            task.subject.lowerer, task.subject.possible, self.backend, data, task.metric, ranges, task.settings.batch,
            self.directory.profile_journal, self.progress.advance,
        )  # fmt: skip
        profile = profiler.run(precisions)
        profile.save(path)
        self.directory.profile_journal.unlink(missing_ok=True)
        return profile

    def latency(self, ranges: RangeTable) -> dict[tuple[str, Precision], float]:
        """(unit, precision) -> share of FP32's profiled time, from one profile of each uniform plan."""
        task = self.task
        plans = uniform_plans(self.task.subject)
        machine = map(str, sorted(self.backend.describe().items()))
        mark = fingerprint([ranges.fingerprint, *machine, str(task.settings.batch), str(plans)])
        rows = self.directory.stored_unit_ms(mark)
        if rows is None:
            self._stage("latency", "profile of each uniform plan")
            feed = timing_feed(task, task.splits.select)
            rows = {name: self._unit_ms(plan, ranges, feed) for name, plan in plans.items()}
            self.directory.store_unit_ms(mark, rows)
        else:
            self._stage("latency", "from an earlier run")
        total = sum(rows["uniform fp32"].values()) or 1.0
        prior: dict[tuple[str, Precision], float] = {}
        for unit in task.subject.partition.units:
            for precision in {*task.subject.choices[unit.name], Precision.FP32}:
                name = next((n for n, plan in plans.items() if plan[unit.name] is precision), "uniform fp32")
                prior[(unit.name, precision)] = rows.get(name, rows["uniform fp32"]).get(unit.name, 0.0) / total
        return prior

    def search(
        self, reference: PlanEngine, ranges: RangeTable, profile: Profile, prior: Mapping[tuple[str, Precision], float]
    ) -> Found:
        """Find the fastest plan whose drop on the selection samples meets the bound."""
        task, settings = self.task, self.task.settings
        select = task.splits.select
        left = "" if settings.timeout_s is None else f", {self.deadline.left_s:.0f} s left of {settings.timeout_s:g} s"
        self._stage("search", f"at most {settings.trials} plans on {select.count} samples, {settings.sampler}{left}")
        measuring = Measuring(task, self.engines, reference, ranges)
        loss = {key: entry.noise for key, entry in profile.entries.items()}
        problem = Problem(task.subject.partition, task.subject.choices, loss, task.subject.space.carrier)
        choices = str(sorted((n, [p.value for p in o]) for n, o in task.subject.choices.items()))
        machine = map(str, sorted(self.backend.describe().items()))
        judged = () if settings.confidence is None else (f"confidence {settings.confidence!r}",)
        mark = fingerprint([profile.fingerprint, select.fingerprint(), choices, *machine, str(settings.batch), *judged])
        self._studied = studied(replace(task, backend=self.backend), ranges, mark)
        self._studied.save(self.directory.studied)
        sampler = make_sampler(settings.sampler, problem, prior, settings.max_drop, settings.seed)
        ledger = Ledger(self.directory.study, mark, task.subject.choices, settings.max_drop, sampler)
        search = Search(
            seed_plans(task.subject), ledger, measuring, limit=settings.trials,
            spent=lambda: self.deadline.left_s < self._reserve_s(measuring.spent), progress=self.progress.trial,
        )  # fmt: skip
        found = search.run()
        self.spent = measuring.spent
        return found

    def _reserve_s(self, spent: Spent) -> float:
        """What confirming and reporting will take: built, timed and judged anew are the finalists and uniform plans."""
        if self.deadline.total_s == float("inf"):
            return 0.0
        uniform = len(uniform_plans(self.task.subject))
        plans, samples = FINALISTS + uniform, (uniform + 3) * self.task.splits.report.count
        needed = plans * _CONFIRM_ROUNDS[0] * _CONFIRM_TURN_MS * 2e-3
        needed += plans * spent.build_s / max(spent.plans, 1) + samples * spent.evaluate_s / max(spent.samples, 1)
        return float(np.clip(1.2 * needed, _LEAST_RESERVE * self.deadline.total_s, 0.5 * self.deadline.total_s))

    def report(self, reference: PlanEngine, ranges: RangeTable, profile: Profile, found: Found) -> Tuned:
        """Measure the finalists again, side by side, choose, and judge on samples that chose nothing."""
        task = self.task
        plans: dict[str, Assignment] = {**uniform_plans(self.task.subject)}
        finalists = found.finalists or (found.best,)
        plans |= {self._name(t.plan, plans) or f"trial {t.number}": t.plan for t in finalists}
        self._stage("confirmation", f"{len(plans)} plans, interleaved; then {task.splits.report.count} fresh samples")
        with ExitStack() as stack:
            engines = self._reopened(plans, reference, ranges, stack)
            timed = {name: engine.timed for name, engine in engines.items()}
            rounds = (_CONFIRM_ROUNDS[0], _CONFIRM_ROUNDS[0] if self.deadline.spent(0.8) else _CONFIRM_ROUNDS[1])
            feed = timing_feed(task, task.splits.report)
            timings = compare(timed, feed, rounds=rounds, turn_ms=_CONFIRM_TURN_MS)
            chosen = self._choose({name: plans[name] for name in engines}, timings, found)
            data = task.splits.report
            evaluator = Evaluator(
                reference.computing, data, task.subject.model.interface, task.metric, task.settings.batch
            )
            kept = [name for name in engines if name.startswith("uniform") or name == chosen]
            candidates = {}
            for number, name in enumerate(kept):
                outcome = evaluator.evaluate(engines[name].computing)
                drop = evaluator.estimated_drop(outcome, task.settings.confidence or 0.95)
                candidates[name] = Candidate(name, plans[name], outcome, drop, timings[name])
                self.progress.advance((number + 1) / len(kept))
            simulated = None
            if chosen != FP32_PLAN and self.backend.runs_here:
                simulated = evaluator.evaluate(self.engines.simulated(plans[chosen], ranges, stack))
        verification = self.engines.verified(plans[chosen], ranges)
        self._studied.answered(candidates[chosen], candidates[FP32_PLAN]).save(self.directory.studied)
        self._stage("", "")
        return Tuned(
            replace(task, backend=self.backend), ranges, profile, found, chosen, candidates,
            evaluator.reference_scores, verification, simulated, dict(self.seconds), asdict(self.spent),
        )  # fmt: skip

    def _reopened(
        self, plans: Mapping[str, Assignment], reference: PlanEngine, ranges: RangeTable, stack: ExitStack
    ) -> dict[str, PlanEngine]:
        """The engines of these plans; one that the runtime refuses is left out, as it was in the search."""
        engines = {}
        for name, plan in plans.items():
            try:
                engines[name] = reference if name == FP32_PLAN else self.engines.open(plan, ranges, stack)
            except BackendError:
                if not name.startswith("uniform"):
                    raise
        return engines

    def profiling_set(self) -> Dataset:
        """The first selection samples; they may decide between plans anyway. Fewer where time is short."""
        entries = sum(len(options) - 1 for options in self.task.subject.choices.values())
        *larger, least = self._parts()
        # An entry costs about half a pass: what lies before the unit is not computed again.
        seconds = 0.5 * entries * self._sample_s
        return next((d for d in larger if seconds * d.count <= _PROFILE_SHARE * self.deadline.left_s), least)

    def _parts(self) -> list[Dataset]:
        """What sensitivities may be measured on, largest first: more samples for a cheap network."""
        select = self.task.splits.select
        macs = sum(unit.macs for unit in self.task.subject.partition.units)
        wanted = min(select.count, int(np.clip(_PROFILE_MACS / max(macs, 1), *_PROFILE_SAMPLES)))
        counts = [wanted, *(wanted >> step for step in range(1, 4) if wanted >> step >= _FEWEST_PROFILED)]
        return [select.subset(range(count)) for count in counts]

    def _unit_ms(self, plan: Assignment, ranges: RangeTable, feed: dict[str, Array]) -> dict[str, float]:
        try:
            return self.engines.unit_ms(plan, ranges, feed)
        except BackendError:  # only a prior: the search measures whole plans
            return {unit.name: 0.0 for unit in self.task.subject.partition.units}

    def _name(self, plan: Assignment, plans: Mapping[str, Assignment]) -> str | None:
        return next((name for name, other in plans.items() if dict(other) == dict(plan)), None)

    def _choose(self, plans: Mapping[str, Assignment], timings: Mapping[str, Timing], found: Found) -> str:
        """The fastest accepted plan by the shared rounds, if it is faster than the fastest uniform one for certain."""
        if not found.feasible:
            return self._name(found.best.plan, plans) or f"trial {found.best.number}"
        accepted = [name for t in found.finalists if (name := self._name(t.plan, plans)) is not None]
        fastest = min(accepted, key=lambda name: timings[name].median_ms)
        uniform = min((n for n in accepted if n in uniform_plans(self.task.subject)),
                      key=lambda name: timings[name].median_ms, default=fastest)  # fmt: skip
        if fastest == uniform or timings[fastest].ratio_to(timings[uniform]).high < 1.0:
            return fastest
        return uniform

    def _stage(self, name: str, detail: str) -> None:
        now = time.monotonic()
        self.seconds = {**self.seconds}
        if self.seconds:
            last = next(reversed(self.seconds))
            self.seconds[last] = now - self._began
        self._began = now
        if name:
            self.seconds[name] = 0.0
            self.progress.stage(name, detail)
