"""The stages of a tune, each of which leaves a file and is skipped where that file is still valid.

ranges -> sensitivity -> latency -> search -> confirmation -> report
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, replace

import numpy as np

from autoprec.calibrate.choose import calibrate_model, range_fingerprint
from autoprec.calibrate.observe import needed_tensors
from autoprec.data.dataset import Dataset
from autoprec.data.splits import balanced, halves, shortened
from autoprec.errors import BackendError
from autoprec.files.json import fingerprint
from autoprec.graph.model import to_bytes
from autoprec.metrics.evaluator import difficulty
from autoprec.plan import Assignment
from autoprec.precision import Array, Precision
from autoprec.ranges.table import RangeTable, load_ranges
from autoprec.run.answer.blocking import Blocking, find_blocking
from autoprec.run.answer.confirm import Confirmation
from autoprec.run.answer.tuned import TuneResult
from autoprec.run.budget import USUAL_ROUNDS, Budget, Deadline, Hurry
from autoprec.run.directory import RunDirectory
from autoprec.run.engines import Engines, PlanEngine, timing_feed
from autoprec.run.identity import study_name
from autoprec.run.measure import PlanMeasurer, Spent
from autoprec.run.progress import Progress, Silent
from autoprec.run.search_description import SearchDescription, settings_record
from autoprec.run.study_description import studied
from autoprec.run.task import Task
from autoprec.run.uniform import FP32_PLAN, no_sensitivities, problem_of, seed_plans, uniform_plans
from autoprec.sensitivity.measure import SensitivityMeasurer
from autoprec.sensitivity.table import Sensitivities, load_sensitivities, sensitivity_fingerprint
from autoprec.study.goal import Goal
from autoprec.study.ledger.ask_tell import Ledger
from autoprec.study.ledger.samplers import make_sampler
from autoprec.study.ledger.storages import StudyLocation, carry, has_study, journal_location, same
from autoprec.study.loop import FINALISTS, Search, SearchOutcome
from autoprec.timing.compare import compare

_PROFILE_MACS = 1e12
"""Multiply-accumulates of all entries together."""
_PROFILE_SAMPLES = (128, 512)
_FEWEST_PROFILED = 16
_PROBES = 3
_REOPENED = 1.5
"""Opening a kept engine again may take so many times what the quickest took."""


class Pipeline:
    """Runs the stages of one task.

    Args:
        task: what was asked.
        directory: where the files go; its folder exists.
        progress: told how far it is.
        elapsed_s: what of the time was used before: starting up, reading the data.
        economy: whether the search leaves out what it need not know of a plan.
        place: where the study is kept; by default in the directory's journal.
    """

    def __init__(
        self,
        task: Task,
        directory: RunDirectory,
        progress: Progress | None = None,
        *,
        elapsed_s: float = 0.0,
        economy: bool = True,
        location: StudyLocation | None = None,
    ) -> None:
        self.directory, self._economy = directory, economy
        self.journal = journal_location(directory.study)
        self.location = location or self.journal
        self.progress: Progress = progress or Silent()
        self.budget = Budget(deadline=Deadline(task.settings.timeout_s, elapsed_s), threads=task.backend.threads)
        self.seconds: dict[str, float] = {"start": elapsed_s}
        self.spent = Spent()
        self._blocking: Blocking | None = None
        self._began = time.monotonic() - elapsed_s
        shapes = {name: array.shape for name, array in timing_feed(task, task.splits.select).items()}
        self.backend = task.backend.for_run(shapes, directory.root)
        self.engines = Engines(task, self.backend, busy=task.settings.aim == "throughput")
        self.task = self._balanced(task)

    def run(self) -> TuneResult:
        """All stages."""
        ranges = self.ranges()
        profile = self.profile(ranges)
        prior = self.latency(ranges, profile)
        with ExitStack() as stack:
            reference = self.engines.open(uniform_plans(self.task.subject)[FP32_PLAN], ranges, stack)
            found = self.search(reference, ranges, profile, prior)
            return self.report(reference, ranges, profile, found)

    def _balanced(self, task: Task) -> Task:
        """Select and report made equally hard for FP32."""
        union = task.splits.select.merged(task.splits.report)
        self._stage("splits", f"FP32 on {union.count} samples, to make both halves equally hard")
        interface, settings = task.subject.model.interface, task.settings
        batch = interface.batch_size or settings.batch
        begun = time.monotonic()
        with self.backend.build(to_bytes(task.subject.model.original), exact=True) as engine:
            self.budget.build_s = time.monotonic() - begun

            def keys(data: Dataset) -> Array:
                begun = time.monotonic()
                found = difficulty(engine, data, interface, task.metric, settings.batch)
                self.budget.known_sample((time.monotonic() - begun) / data.count, batch)
                return found

            splits = task.splits
            if self.budget.limited:
                probe = union.subset(range(min(union.count, settings.batch)))
                seconds = []
                for _ in range(_PROBES):  # the first pays for allocations, any may be disturbed
                    keys(probe)
                    seconds.append(self.budget.sample_s)
                self.budget.known_sample(min(seconds), batch)
                splits = shortened(splits, self.budget.most_samples())
                if splits is not task.splits:
                    self.budget.leave_out(f"plans were judged on {splits.select.count} samples of each half")
            dealt = balanced(splits, keys(splits.select.merged(splits.report)), settings.seed)
            self._halves = halves(task.splits, dealt)
            return replace(task, splits=dealt)

    def ranges(self) -> RangeTable:
        """Calibrate, unless the stored ranges are of the same model, data and recipe."""
        task, path = self.task, self.directory.ranges
        lowerer, possible = task.subject.lowerer, task.subject.possible
        data = task.splits.calibrate
        cut = data.subset(range(min(data.count, task.recipe.samples)))
        if path.is_file():
            stored = load_ranges(path)
            mark = range_fingerprint(lowerer, cut, task.recipe)
            if stored.fingerprint == mark or (self.budget.limited and stored.fingerprint == _hurried(stored, mark)):
                self._stage("ranges", f"{len(stored.clipped)} values, from an earlier run")
                return stored
        count = len(needed_tensors(lowerer, possible))
        self._stage("ranges", f"{count} values over {cut.count} samples, calibrator {task.recipe.method}")
        hurry = Hurry(self.budget.deadline)

        def told(what: str, share: float) -> bool:
            self.progress.advance(share)
            return hurry(what, share)

        table = calibrate_model(lowerer, possible, self.backend, data, task.recipe, told)
        if hurry.cut:
            table = replace(table, fingerprint=_hurried(table, table.fingerprint))
            self.budget.leave_out(f"ranges are of {table.samples} samples, by {table.method}, without all refinement")
        table.save(path)
        return table

    def profile(self, ranges: RangeTable) -> Sensitivities:
        """Measure sensitivities, unless stored ones are of the same graph, weights, data, metric and ranges."""
        task, path = self.task, self.directory.profile
        precisions = tuple(sorted({p for options in task.subject.choices.values() for p in options}))
        if path.is_file():
            stored = load_sensitivities(path)
            marks = [sensitivity_fingerprint(task.subject.lowerer, part, task.metric, ranges) for part in self._parts()]
            if stored.fingerprint in marks and {p for _, p in stored.entries} >= set(precisions) - {Precision.FP32}:
                self._stage("sensitivity", f"{len(stored.entries)} entries, from an earlier run")
                return stored
        units = sum(len(options) > 1 for options in task.subject.choices.values())
        data = self.sensitivity_samples()
        if data is None:
            self._stage("sensitivity", "left out: there is no time for it")
            self.budget.leave_out("sensitivities were not measured")
            return no_sensitivities(ranges)
        self._stage("sensitivity", f"{units} units on {data.count} samples")
        profiler = SensitivityMeasurer(
            lowerer=task.subject.lowerer,
            possible=task.subject.possible,
            backend=self.backend,
            dataset=data,
            metric=task.metric,
            ranges=ranges,
            batch_size=task.settings.batch,
            journal=self.directory.profile_journal,
            progress=self.progress.advance,
        )
        profile = profiler.run(precisions)
        profile.save(path)
        self.directory.profile_journal.unlink(missing_ok=True)
        return profile

    def latency(self, ranges: RangeTable, profile: Sensitivities | None = None) -> dict[tuple[str, Precision], float]:
        """(unit, precision) -> share of FP32's profiled time, from one profile of each uniform plan."""
        task = self.task
        plans = uniform_plans(self.task.subject)
        machine = map(str, sorted(self.backend.describe().items()))
        mark = fingerprint([ranges.fingerprint, *machine, str(task.settings.batch), str(plans)])
        rows = self.directory.stored_unit_ms(mark)
        if rows is None and profile is not None and not profile.entries and self.budget.limited:
            self._stage("latency", "left out: there is no time for it")
            rows = {FP32_PLAN: {}}
        elif rows is None:
            self._stage("latency", "profile of each uniform plan")
            feed = timing_feed(task, task.splits.select)
            rows = {name: self._unit_ms(plan, ranges, feed) for name, plan in plans.items()}
            self.directory.store_unit_ms(mark, rows)
        else:
            self._stage("latency", "from an earlier run")
        total = sum(rows[FP32_PLAN].values()) or 1.0
        prior: dict[tuple[str, Precision], float] = {}
        for unit in task.subject.partition.units:
            for precision in {*task.subject.choices[unit.name], Precision.FP32}:
                name = next((n for n, plan in plans.items() if plan[unit.name] is precision), FP32_PLAN)
                prior[(unit.name, precision)] = rows.get(name, rows[FP32_PLAN]).get(unit.name, 0.0) / total
        return prior

    def search(
        self,
        reference: PlanEngine,
        ranges: RangeTable,
        profile: Sensitivities,
        prior: Mapping[tuple[str, Precision], float],
    ) -> SearchOutcome:
        """Find the best plan within the bounds, on the selection samples."""
        task, settings = self.task, self.task.settings
        select = task.splits.select
        left = (
            ""
            if settings.timeout_s is None
            else f", {self.budget.deadline.left_s:.0f} s left of {settings.timeout_s:g} s"
        )
        self._stage("search", f"at most {settings.trials} plans on {select.count} samples, {settings.sampler}{left}")
        self.goal = goal = self._goal(reference)
        measuring = PlanMeasurer(task, self.engines, reference, ranges, goal, economy=self._economy, hurry=self._late)
        problem = problem_of(task.subject, profile)
        mark = study_name(replace(task, backend=self.backend), profile)
        self._studied = studied(replace(task, backend=self.backend), ranges, mark, goal, prior)
        self._studied.save(self.directory.studied)
        sampler = make_sampler(settings.sampler, problem, prior, goal, settings.seed)
        if not same(self.location, self.journal) and not has_study(self.location, mark):
            carry(self.journal, self.location, mark)
        ledger = Ledger(self.location, mark, task.subject.choices, goal, sampler)
        shared = self._shared(profile)
        search = Search(
            seed_plans(task.subject),
            ledger,
            measuring,
            limit=settings.trials,
            spent=lambda: self._over(measuring),
            progress=self.progress.trial,
            begun=lambda: shared.save(self.directory.search),
        )
        try:
            found = search.run()
        finally:
            if self.directory.search.is_file():
                shared.over(search.stopped).save(self.directory.search)
        self.spent = measuring.spent
        carry(self.location, self.journal, mark)  # so that the run directory tells all of it
        if not found.feasible and found.best.measured.judged_drop > goal.max_drop:
            self._blocking = self._find_blocking(found.best.plan, profile, measuring)
        return found

    def _shared(self, profile: Sensitivities) -> SearchDescription:
        storage = None if same(self.location, self.journal) else self.location.public
        settings = settings_record(self.task.settings)
        return SearchDescription(
            storage=storage,
            settings=settings,
            threads=self.backend.threads,
            targets=self.task.backend.targets,
            halves=self._halves,
            profile=profile.fingerprint,
        )

    def _goal(self, reference: PlanEngine) -> Goal:
        """What is minimised, and the bounds, in shares of FP32's latency."""
        settings = self.task.settings
        share = settings.max_latency
        if settings.max_latency_ms is not None:
            feed = timing_feed(self.task, self.task.splits.select)
            timing = compare({"fp32": reference.timed}, feed, rounds=(USUAL_ROUNDS, USUAL_ROUNDS))
            share = settings.max_latency_ms / timing["fp32"].median_ms
        return Goal(settings.aim, settings.max_drop, math.inf if share is None else share)

    def _find_blocking(self, best: Assignment, profile: Sensitivities, measuring: PlanMeasurer) -> Blocking:
        """Which units keep even the best plan over the bound."""
        bound = self.goal.max_drop
        self._stage("blocking", f"which units keep the drop above {bound:g}")
        losses = {unit: profile.entries.get((unit, precision)) for unit, precision in best.items()}
        noises = {unit: entry.noise for unit, entry in losses.items() if entry is not None}
        return find_blocking(best, noises, measuring.drop_of, bound, lambda: self._over(measuring))

    def _late(self) -> bool:
        """Whether the least of confirming and reporting needs the time that is left."""
        return self.budget.search_over(self.budget.least_s(self.task.splits.report.count))

    def _over(self, measuring: PlanMeasurer) -> bool:
        """Whether one more plan would take the time of confirming and reporting."""
        spent, budget, uniform = measuring.spent, self.budget, len(uniform_plans(self.task.subject))
        if spent.plans:
            # The uniform plans were built for their profiles, so the search has opened some kept engines already.
            kept = self.task.backend.keeps_engines
            budget.build_s = _REOPENED * spent.least_build_s if kept else spent.build_s / spent.plans
            budget.plan_s = (spent.build_s + spent.evaluate_s + spent.clock_s) / spent.plans
            budget.sample_s = max(budget.sample_s, spent.evaluate_s / max(spent.samples, 1))
        budget.batch_ms = max(budget.batch_ms, spent.batch_ms)
        return budget.search_over(budget.reserve_s(FINALISTS + uniform, uniform + 1, self.task.splits.report.count))

    def report(
        self, reference: PlanEngine, ranges: RangeTable, profile: Sensitivities, found: SearchOutcome
    ) -> TuneResult:
        """Measure the finalists again, side by side, choose, and judge on samples that chose nothing."""
        task = replace(self.task, backend=self.backend)
        confirming = Confirmation(task, self.engines, reference, ranges, self.goal, self.budget, self.progress.advance)
        plans = confirming.plans(found)
        self._stage("confirmation", f"{len(plans)} plans, interleaved; then {task.splits.report.count} fresh samples")
        confirmed = confirming.run(plans, found)
        candidates = confirmed.candidates
        self._studied.answered(candidates[confirmed.chosen], candidates[FP32_PLAN]).save(self.directory.studied)
        self._stage("", "")
        return TuneResult(
            task=task,
            ranges=ranges,
            profile=profile,
            found=confirmed.found,
            chosen=confirmed.chosen,
            candidates=candidates,
            reference_scores=confirmed.reference_scores,
            verification=confirmed.verification,
            simulated=confirmed.simulated,
            seconds=dict(self.seconds),
            spent=asdict(self.spent),
            left_out=tuple(self.budget.left_out),
            left_s=self.budget.ending_s,
            blocking=self._blocking,
            curse=confirmed.curse,
            goal=self.goal,
            limit_ms=task.settings.max_latency_ms,
            set_aside=confirmed.set_aside,
        )

    def sensitivity_samples(self) -> Dataset | None:
        """The first selection samples; they may decide between plans anyway. Fewer where time is short, or none."""
        parts = self._parts()
        if not self.budget.limited:
            return parts[0]
        entries = sum(len(options) - 1 for options in self.task.subject.choices.values())
        counts = [part.count for part in parts]
        found = self.budget.profiled(counts, entries, 0.5 * self.budget.build_s, self.task.splits.report.count)
        if found is None:
            return None
        if found < counts[0]:
            self.budget.leave_out(f"sensitivities were measured on {found} of {counts[0]} samples")
        return parts[counts.index(found)]

    def _parts(self) -> list[Dataset]:
        """What sensitivities may be measured on, largest first: more samples for a cheap network."""
        select = self.task.splits.select
        macs = sum(unit.macs for unit in self.task.subject.partition.units)
        entries = sum(len(options) - 1 for options in self.task.subject.choices.values())
        wanted = min(select.count, int(np.clip(_PROFILE_MACS / max(macs * entries, 1), *_PROFILE_SAMPLES)))
        counts = [wanted, *(wanted >> step for step in range(1, 4) if wanted >> step >= _FEWEST_PROFILED)]
        return [select.subset(range(count)) for count in counts]

    def _unit_ms(self, plan: Assignment, ranges: RangeTable, feed: dict[str, Array]) -> dict[str, float]:
        try:
            return self.engines.unit_ms(plan, ranges, feed)
        except BackendError:  # only a prior: the search measures whole plans
            return {unit.name: 0.0 for unit in self.task.subject.partition.units}

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


def _hurried(table: RangeTable, mark: str) -> str:
    """The mark of ranges that were made in less time than they should have had; a run with more makes them again."""
    return fingerprint([mark, "hurried", str(table.samples), table.method])
