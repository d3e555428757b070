"""Third stage: how much each unit alone loses in each precision. It leaves profile.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from autoprec.backends.limited import OutOfTime
from autoprec.data.dataset import Dataset
from autoprec.files.computed_by import computed_by
from autoprec.files.json import fingerprint
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable
from autoprec.run.context import Run
from autoprec.run.uniform import no_sensitivities
from autoprec.sensitivity.job import Entry, SensitivityJob
from autoprec.sensitivity.measure import sensitivities_of
from autoprec.sensitivity.mended import REVISION, mended_entries
from autoprec.sensitivity.table import SCHEMA, Sensitivities, load_sensitivities, sensitivity_fingerprint

_ALL_MACS = 1e12
"""The multiply-accumulates that all entries together may cost."""
_SAMPLES = (128, 512)
_DEAR_MACS, _ENOUGH = 1e13, 0.1
"""Entries that cost more than so many multiply-accumulates take no more samples than this relative standard error of
their noise needs: a sample of 128 tokens is 128 decisions, and says as much as 128 images."""
_FEWEST_SAMPLES = 16
_BRANCH_SHARE = 0.1  # of the time of a build is what one entry adds to the engine that all entries share
_LEAST_PARTS = 4  # a limited measurement can stop after so many parts of its samples


def measure_sensitivities(run: Run, ranges: RangeTable) -> Sensitivities:
    """Measure sensitivities, unless the stored ones are of the same graph, weights, data, metric and ranges.

    Raises:
        BackendError: the runtime cannot run the model in exact arithmetic.
        RunDirectoryError: the stored sensitivities are damaged.
    """
    task, directory = run.task, run.directory
    precisions = tuple(sorted({p for options in task.subject.choices.values() for p in options}))
    stored, wanted = _stored(run, ranges), _entries_of(run, precisions)
    stored, again = _without_mended(run, stored)
    if stored is not None and (stored.entries.keys() >= wanted or _is_cut(run, stored, ranges)):
        by = computed_by(directory.profile, SCHEMA)
        run.clock.begin("sensitivity", f"{len(stored.entries)} entries, from an earlier run{by}")
        return stored
    data = sensitivity_samples(run)
    if data is None:
        run.clock.begin("sensitivity", "left out: there is no time for it")
        run.budget.leave_out("sensitivities were not measured")
        return no_sensitivities(ranges)
    units = sum(len(options) > 1 for options in task.subject.choices.values())
    run.clock.begin("sensitivity", f"{units} units on {data.count} samples{again}")
    known = stored if stored is not None and stored.fingerprint == _fingerprint(run, data, ranges) else None
    job = SensitivityJob(
        lowerer=task.subject.lowerer,
        possible=task.subject.possible,
        backend=run.backend,
        dataset=data,
        metric=task.metric,
        ranges=ranges,
        batch_size=task.settings.batch,
        enough=_ENOUGH if _macs(run) * _entries(run) * data.count > _DEAR_MACS else 0.0,
        journal=directory.profile_journal,
        progress=run.progress.advance,
        known=frozenset() if known is None else frozenset(known.entries),
        out_of_time=_end_of(run),
        most_samples=_most_at_once(run, data),
    )
    sensitivities = sensitivities_of(job, precisions)
    if known is not None:
        sensitivities = sensitivities.joined(known)
    if run.budget.limited and _is_short(sensitivities, job, precisions):
        return _cut(run, sensitivities, ranges, len(wanted), data.count)
    sensitivities.save(directory.profile)
    directory.profile_journal.unlink(missing_ok=True)
    return sensitivities


def _is_short(found: Sensitivities, job: SensitivityJob, precisions: Sequence[Precision]) -> bool:
    """Whether the time limit left entries out, or measured them on fewer samples than would have been enough."""
    few = found.samples < job.dataset.count and not job.enough
    return few or any(entry not in found.entries for entry in job.entries(precisions))


def _end_of(run: Run) -> OutOfTime | None:
    """Says whether the measurement, which begins now, must end with what is known; None where there is no limit."""
    if not run.budget.limited:
        return None
    return run.budget.deadline.within(run.budget.sensitivity_s(run.task.splits.report.count)).spent


def _most_at_once(run: Run, data: Dataset) -> int | None:
    """The most samples of one run: where time is limited so few that there are moments to stop at."""
    if run.budget.run_samples is None:
        return None
    return min(run.budget.run_samples, max(data.count // (_LEAST_PARTS * run.backend.threads), 2))


def _cut(run: Run, found: Sensitivities, ranges: RangeTable, wanted: int, samples: int) -> Sensitivities:
    """What is known of sensitivities whose measurement the time limit ended; the journal stays, to go on from."""
    if not found.entries:
        run.budget.leave_out("sensitivities were not measured")
        return no_sensitivities(ranges)
    some = f"{len(found.entries)} of {wanted} sensitivities were" if len(found.entries) < wanted else "they were"
    run.budget.leave_out(f"sensitivities were cut: {some} measured on {found.samples} of {samples} samples")
    cut = replace(found, fingerprint=_cut_fingerprint(found, found.fingerprint))
    cut.save(run.directory.profile)
    return cut


def _cut_fingerprint(found: Sensitivities, full: str) -> str:
    """The fingerprint of sensitivities that were cut short, by which a run that has more time measures them again."""
    return fingerprint([full, "cut", str(found.samples), str(len(found.entries))])


def sensitivity_samples(run: Run) -> Dataset | None:
    """The samples that sensitivities are measured on: the first of the selection half, which may influence the choice.

    Returns:
        Fewer samples where time is short; None where there is no time for the fewest.
    """
    parts = _parts(run)
    if not run.budget.limited:
        return parts[0]
    counts, judged = [part.count for part in parts], run.task.splits.report.count
    found = run.budget.profiled(counts, _entries(run), _BRANCH_SHARE * run.budget.build_s, judged)
    if found is None:
        return None
    if found < counts[0]:
        run.budget.leave_out(f"sensitivities were measured on {found} of {counts[0]} samples")
    return parts[counts.index(found)]


def _stored(run: Run, ranges: RangeTable) -> Sensitivities | None:
    """The sensitivities of an earlier run, None where there are none that hold for this one."""
    if not run.directory.profile.is_file():
        return None
    stored = load_sensitivities(run.directory.profile)
    # An earlier version may have cut the model into other units, or have called them by other names.
    if not {name for name, _ in stored.entries} <= {unit.name for unit in run.task.subject.partition.units}:
        return None
    # An earlier run may have had time for fewer samples.
    good = stored.fingerprint in [_fingerprint(run, part, ranges) for part in _parts(run)]
    return stored if good or _is_cut(run, stored, ranges) else None


def _is_cut(run: Run, stored: Sensitivities, ranges: RangeTable) -> bool:
    """Whether an earlier run cut these for lack of time, and this one has a limit too: it goes on with its plans."""
    full = [_fingerprint(run, part, ranges) for part in _parts(run)]
    return run.budget.limited and stored.fingerprint in [_cut_fingerprint(stored, one) for one in full]


def _without_mended(run: Run, stored: Sensitivities | None) -> tuple[Sensitivities | None, str]:
    """Leave out what an earlier version measured wrongly; returns what is left, and what is to be said of it."""
    if stored is None or stored.revision >= REVISION:
        return stored, ""
    left = stored.without(mended_entries(run.task.subject.lowerer))
    count = len(stored.entries) - len(left.entries)
    return (
        left,
        f"; {count} of {len(stored.entries)} entries again, which an earlier version computed wrongly" if count else "",
    )


def _fingerprint(run: Run, data: Dataset, ranges: RangeTable) -> str:
    return sensitivity_fingerprint(run.task.subject.lowerer, data, run.task.metric, ranges)


def _entries_of(run: Run, precisions: Sequence[Precision]) -> set[Entry]:
    """The entries that this run needs: another space or pin of the same directory may need others."""
    subject = run.task.subject
    rows = subject.possible.items()
    return {(unit, p) for unit, row in rows for p in precisions if p is not Precision.FP32 and row.get(p, "") is None}


def _parts(run: Run) -> list[Dataset]:
    """The sets of samples that may be used, the largest first: more samples for a cheap network."""
    select = run.task.splits.select
    wanted = min(select.count, int(np.clip(_ALL_MACS / max(_macs(run) * _entries(run), 1), *_SAMPLES)))
    counts = [wanted, *(wanted >> step for step in range(1, 4) if wanted >> step >= _FEWEST_SAMPLES)]
    return [select.subset(range(count)) for count in counts]


def _macs(run: Run) -> int:
    """The multiply-accumulates of one sample."""
    return sum(unit.macs for unit in run.task.subject.partition.units)


def _entries(run: Run) -> int:
    """The number of pairs of a unit and a precision that are measured."""
    return sum(len(options) - 1 for options in run.task.subject.choices.values())
