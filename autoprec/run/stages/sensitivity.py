"""Third stage: how much each unit alone loses in each precision. It leaves profile.json."""

from __future__ import annotations

import numpy as np

from autoprec.data.dataset import Dataset
from autoprec.files.computed_by import computed_by
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable
from autoprec.run.context import Run
from autoprec.run.uniform import no_sensitivities
from autoprec.sensitivity.job import SensitivityJob
from autoprec.sensitivity.measure import sensitivities_of
from autoprec.sensitivity.table import SCHEMA, Sensitivities, load_sensitivities, sensitivity_fingerprint

_ALL_MACS = 1e12
"""The multiply-accumulates that all entries together may cost."""
_SAMPLES = (128, 512)
_FEWEST_SAMPLES = 16


def measure_sensitivities(run: Run, ranges: RangeTable) -> Sensitivities:
    """Measure sensitivities, unless the stored ones are of the same graph, weights, data, metric and ranges.

    Raises:
        BackendError: the runtime cannot run the model in exact arithmetic.
        RunDirectoryError: the stored sensitivities are damaged.
    """
    task, directory = run.task, run.directory
    precisions = tuple(sorted({p for options in task.subject.choices.values() for p in options}))
    stored = _stored(run, ranges, precisions)
    if stored is not None:
        by = computed_by(directory.profile, SCHEMA)
        run.clock.begin("sensitivity", f"{len(stored.entries)} entries, from an earlier run{by}")
        return stored
    data = sensitivity_samples(run)
    if data is None:
        run.clock.begin("sensitivity", "left out: there is no time for it")
        run.budget.leave_out("sensitivities were not measured")
        return no_sensitivities(ranges)
    units = sum(len(options) > 1 for options in task.subject.choices.values())
    run.clock.begin("sensitivity", f"{units} units on {data.count} samples")
    job = SensitivityJob(
        lowerer=task.subject.lowerer,
        possible=task.subject.possible,
        backend=run.backend,
        dataset=data,
        metric=task.metric,
        ranges=ranges,
        batch_size=task.settings.batch,
        journal=directory.profile_journal,
        progress=run.progress.advance,
    )
    sensitivities = sensitivities_of(job, precisions)
    sensitivities.save(directory.profile)
    directory.profile_journal.unlink(missing_ok=True)
    return sensitivities


def sensitivity_samples(run: Run) -> Dataset | None:
    """The samples that sensitivities are measured on: the first of the selection half, which may influence the choice.

    Returns:
        Fewer samples where time is short; None where there is no time for the fewest.
    """
    parts = _parts(run)
    if not run.budget.limited:
        return parts[0]
    counts, judged = [part.count for part in parts], run.task.splits.report.count
    found = run.budget.profiled(counts, _entries(run), 0.5 * run.budget.build_s, judged)
    if found is None:
        return None
    if found < counts[0]:
        run.budget.leave_out(f"sensitivities were measured on {found} of {counts[0]} samples")
    return parts[counts.index(found)]


def _stored(run: Run, ranges: RangeTable, precisions: tuple[Precision, ...]) -> Sensitivities | None:
    """The sensitivities of an earlier run, None where there are none that hold for this one."""
    if not run.directory.profile.is_file():
        return None
    task, stored = run.task, load_sensitivities(run.directory.profile)
    # An earlier run may have had time for fewer samples.
    wanted = [sensitivity_fingerprint(task.subject.lowerer, part, task.metric, ranges) for part in _parts(run)]
    complete = {p for _, p in stored.entries} >= set(precisions) - {Precision.FP32}
    return stored if stored.fingerprint in wanted and complete else None


def _parts(run: Run) -> list[Dataset]:
    """The sets of samples that may be used, the largest first: more samples for a cheap network."""
    select = run.task.splits.select
    macs = sum(unit.macs for unit in run.task.subject.partition.units)
    wanted = min(select.count, int(np.clip(_ALL_MACS / max(macs * _entries(run), 1), *_SAMPLES)))
    counts = [wanted, *(wanted >> step for step in range(1, 4) if wanted >> step >= _FEWEST_SAMPLES)]
    return [select.subset(range(count)) for count in counts]


def _entries(run: Run) -> int:
    """The number of pairs of a unit and a precision that are measured."""
    return sum(len(options) - 1 for options in run.task.subject.choices.values())
