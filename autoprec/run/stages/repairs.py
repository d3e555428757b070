"""Before the ranges: which exact transformations of the model make its INT8 better. It leaves repairs.json.

Some calibration samples propose repairs, others judge them: a repair is kept where the units that it is made for add
clearly less noise to the outputs, and where uniform INT8 of the whole model does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from autoprec.backends.limited import never
from autoprec.backends.protocol import Engine
from autoprec.calibrate.channels import observe_channels
from autoprec.calibrate.choose import quick_ranges, uniform_noise
from autoprec.calibrate.job import CalibrationJob
from autoprec.calibrate.proposals import candidates, propose
from autoprec.data.dataset import Dataset
from autoprec.errors import OutOfTimeError, RunDirectoryError
from autoprec.files.json import fingerprint
from autoprec.graph.model import Model, to_bytes
from autoprec.graph.topology import Topology
from autoprec.lowering.repaired import RepairedModel, try_repairs
from autoprec.metrics.evaluator import Evaluator
from autoprec.metrics.metric import load_metric
from autoprec.plan import Repair, RepairKind
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable
from autoprec.recipes.ranging import CalibrationRecipe
from autoprec.run.begun_with import as_begun
from autoprec.run.context import Run
from autoprec.run.repairs_record import RepairsFound, read_repairs, with_repairs
from autoprec.run.settings import repair_kinds
from autoprec.run.study_description import read_study_description
from autoprec.run.task import Task
from autoprec.sensitivity.job import SensitivityJob
from autoprec.sensitivity.measure import sensitivities_of

_ALGORITHM = "repairs 1"
_SAMPLES, _MACS = (8, 16), 1.6e11
"""The fewest and the most samples of each part, and the multiply-accumulates that one pass over them may cost."""
_PASSES, _SHARE = 12, 0.1
"""So many passes over a part are what repairs cost at least; a limited run spends this share of its time on them."""
_FREE, _DEAR, _WORTH = 0.8, 0.5, 0.01
"""The share of a unit's noise that a repair may leave; if it adds a node to the graph, it must leave less, and take
away this share of the noise of uniform INT8."""
_CLEAR = 0.9
"""The share of the noise of uniform INT8 that all repairs together may leave."""
_EQUAL = 1e-8
"""The noise-to-signal ratio of the repaired FP32 model that rounding explains."""


def repair_model(run: Run) -> Run:
    """Return the run whose model has the repairs that pay; the same run where none is asked for.

    Raises:
        RunDirectoryError: the stored repairs are damaged.
    """
    kinds = repair_kinds(run.task.settings.repairs)
    if not kinds:
        run.directory.repairs.unlink(missing_ok=True)  # what an earlier run with repairs had kept
        return run
    digest = _fingerprint(run.task, kinds)
    found = _stored(run, digest)
    if found is None:
        found = _choose(run, kinds, digest)
        found.save(run.directory.repairs)
    else:
        run.clock.begin("repairs", f"{len(found.kept)} from an earlier run")
    task = with_repairs(run.task, found.kept)
    with contextlib.suppress(RunDirectoryError):  # there is no run to go on with
        task = as_begun(task, read_study_description(run.directory.studied))
    return replace(run, task=task, engines=run.engines.of(task))


def _fingerprint(task: Task, kinds: Sequence[RepairKind]) -> str:
    model, lowerer = task.subject.model, task.subject.lowerer
    about = [model.graph_fingerprint, model.weights_fingerprint, task.splits.calibrate.fingerprint()]
    choices = [f"{name} {' '.join(p.value for p in row)}" for name, row in task.subject.choices.items()]
    return fingerprint([*about, lowerer.scheme.family, str(lowerer.carrier), *map(str, kinds), *choices, _ALGORITHM])


def _stored(run: Run, digest: str) -> RepairsFound | None:
    if not run.directory.repairs.is_file():
        return None
    found = read_repairs(run.directory.repairs)
    return found if found.fingerprint == digest else None


def _choose(run: Run, kinds: Sequence[RepairKind], digest: str) -> RepairsFound:
    task = run.task
    nothing = RepairsFound(fingerprint=digest)
    parts = _parts(task)
    if parts is None or task.subject.partition.sources or not _has_int8(task):
        run.clock.begin("repairs", "none: they need units that INT8 is offered for, FP32 weights and 4 samples")
        return nothing
    cost_s = _PASSES * parts[0].count * run.budget.sample_s
    if run.budget.limited and cost_s > _SHARE * run.budget.deadline.left_s:
        run.clock.begin("repairs", "left out: there is no time for them")
        run.budget.leave_out("repairs were not tried")
        return replace(nothing, fingerprint="")  # a run that has more time tries them
    run.clock.begin("repairs", f"{', '.join(map(str, kinds))}: proposed and judged on {parts[0].count} samples each")
    try:
        return _Choice(run, *parts).made(kinds, digest)
    except OutOfTimeError:
        run.budget.leave_out("repairs were not tried")
        return replace(nothing, fingerprint="")


def _has_int8(task: Task) -> bool:
    return any(Precision.INT8 in row for row in task.subject.choices.values())


def _parts(task: Task) -> tuple[Dataset, Dataset] | None:
    """The samples that propose and those that judge; None where there are too few."""
    data = task.splits.calibrate
    macs = sum(unit.macs for unit in task.subject.partition.units)
    count = min(int(np.clip(_MACS / max(macs, 1), *_SAMPLES)), data.count // 2)
    return (data.subset(range(count)), data.subset(range(count, 2 * count))) if count >= 2 else None


@dataclass(frozen=True, slots=True)
class _Choice:
    """One choice of repairs: the samples that propose them, and those that judge them."""

    run: Run
    seen: Dataset
    fresh: Dataset

    def made(self, kinds: Sequence[RepairKind], digest: str) -> RepairsFound:
        """Propose, measure each repair, and keep the set that is best for the whole model."""
        task = self.run.task
        topology = Topology(task.subject.model.graph.clone())
        axes = {name: readers.axis for name, readers in candidates(topology).items()}
        proposed = propose(topology, observe_channels(self._job(task, self.seen), axes), kinds)
        model, refused = try_repairs(task.subject.model, proposed)
        if not isinstance(model, RepairedModel):
            return RepairsFound(fingerprint=digest, refused=refused)
        reference = task.subject.model.original
        with self.run.backend.build(to_bytes(reference), exact=True) as fp32:
            evaluator = Evaluator.against(
                fp32, self.fresh, model.interface, load_metric("sqnr"), task.settings.batch, fidelity=()
            )
            with self.run.backend.build(to_bytes(model.ir), exact=True) as same:
                error = evaluator.evaluate(same).noise
            if not error <= _EQUAL:
                why = f"the repaired model differs from FP32 by {error:.1e} of the signal, which is no rounding"
                return RepairsFound(fingerprint=digest, refused=dict.fromkeys((r.value for r in proposed), why))
            plain = quick_ranges(self._job(task, self.seen))
            without = uniform_noise(self._job(task, self.fresh), fp32, plain)
            judged = self._judged(model, plain)
            kept = [r for r in judged if _pays(r, dear=r.value in model.dear, noise=without)]
            best, least = self._best(kept, model.dear, fp32, without)
        values = {repair.value for repair in best}
        poor = {r.value: _too_little(r, good=r in kept) for r in judged if r.value not in values}
        return RepairsFound(
            fingerprint=digest,
            kept=tuple(best),
            refused={**refused, **poor},
            noise_without=without,
            noise_with=least,
            samples=self.fresh.count,
        )

    def _best(
        self, kept: Sequence[Repair], dear: frozenset[str], fp32: Engine, without: float
    ) -> tuple[Sequence[Repair], float]:
        """The repairs that leave uniform INT8 least noise: all, those that cost nothing, or none."""
        best: Sequence[Repair] = ()
        least = without
        free = [repair for repair in kept if repair.value not in dear]
        for tried in [free, kept] if len(free) < len(kept) else [kept]:
            if not tried:
                continue
            task = with_repairs(self.run.task, tuple(tried))
            table = quick_ranges(self._job(task, self.seen))
            noise = uniform_noise(self._job(task, self.fresh), fp32, table)
            if noise < _CLEAR * least:
                best, least = tried, noise
        return best, least

    def _judged(self, model: RepairedModel, plain: RangeTable) -> list[Repair]:
        """The repairs with the noise of their units, each alone in INT8, without and with them."""
        task = self.run.task
        other = with_repairs(task, model.repairs)
        before_of = {r.value: _units(task, _anchors(task.subject.model, r.value)) for r in model.repairs}
        after_of = {r.value: _units(other, model.products[r.value]) for r in model.repairs}
        before = self._noises(task, plain, before_of)
        after = self._noises(other, quick_ranges(self._job(other, self.seen)), after_of)
        judged = []
        for repair in model.repairs:
            old, new = (
                [rows[unit] for unit in units[repair.value] if unit in rows]
                for units, rows in ((before_of, before), (after_of, after))
            )
            if old and new:
                judged.append(replace(repair, noise_before=sum(old), noise_after=sum(new)))
        return judged

    def _noises(self, task: Task, table: RangeTable, units: Mapping[str, Sequence[str]]) -> dict[str, float]:
        wanted = {unit for names in units.values() for unit in names}
        subject = task.subject
        job = SensitivityJob(
            lowerer=subject.lowerer,
            possible=subject.possible,
            backend=self.run.backend,
            dataset=self.fresh,
            metric=load_metric("sqnr"),
            ranges=table,
            batch_size=task.settings.batch,
            known=frozenset((u.name, Precision.INT8) for u in subject.partition.units if u.name not in wanted),
            most_samples=self.run.budget.run_samples,
        )
        found = sensitivities_of(job, [Precision.INT8])
        return {name: entry.noise for (name, _), entry in found.entries.items()}

    def _job(self, task: Task, data: Dataset) -> CalibrationJob:
        recipe = CalibrationRecipe(name="repairs", samples=data.count, batch=task.recipe.batch)
        deadline = self.run.budget.deadline.within(_SHARE * self.run.budget.deadline.left_s)
        return CalibrationJob(
            lowerer=task.subject.lowerer,
            possible=task.subject.possible,
            backend=self.run.backend,
            dataset=data,
            recipe=recipe,
            out_of_time=deadline.spent if self.run.budget.limited else never,
            most_samples=self.run.budget.run_samples,
        )


def _anchors(model: Model, value: str) -> tuple[str, ...]:
    readers = candidates(Topology(model.graph)).get(value)
    return tuple(str(node.name) for node in readers.nodes) if readers is not None else ()


def _units(task: Task, nodes: Sequence[str]) -> list[str]:
    home = task.subject.partition.unit_of()
    return list(dict.fromkeys(home[node].name for node in nodes if node in home))


def _pays(repair: Repair, *, dear: bool, noise: float) -> bool:
    if repair.noise_after > (_DEAR if dear else _FREE) * repair.noise_before:
        return False
    return not dear or repair.noise_before - repair.noise_after >= _WORTH * noise


def _too_little(repair: Repair, *, good: bool) -> str:
    share = repair.noise_after / repair.noise_before if repair.noise_before else 1.0
    if good:
        return f"it leaves {share:.0%} of the noise of its units, but uniform INT8 gains too little by all of them"
    return f"it leaves {share:.0%} of the noise of its units, which does not pay"
