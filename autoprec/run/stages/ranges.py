"""Second stage: the ranges of all values that a plan may quantise. It leaves ranges.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from autoprec.calibrate.choose import calibrate_model, range_fingerprint
from autoprec.calibrate.job import CalibrationJob
from autoprec.calibrate.moments import moments_fingerprint, values_with_moments, with_moments
from autoprec.calibrate.observe import needed_tensors
from autoprec.errors import OutOfTimeError
from autoprec.files.computed_by import computed_by
from autoprec.files.json import fingerprint
from autoprec.ranges.table import SCHEMA, RangeTable, load_ranges
from autoprec.run.budget import RangesTime
from autoprec.run.context import Run


def find_ranges(run: Run) -> RangeTable:
    """Calibrate, unless the stored ranges are of the same model, data and recipe, and of all values that are needed.

    Raises:
        DataError: a value of the model is NaN or infinite on the calibration samples.
        RunDirectoryError: the stored ranges are damaged.
    """
    task = run.task
    data = task.splits.calibrate
    used = data.subset(range(min(data.count, task.recipe.samples)))
    needed = needed_tensors(task.subject.lowerer, task.subject.possible)
    read = values_with_moments(task.subject.lowerer, task.subject.possible) if task.recipe.rounding == "gptq" else {}
    stored = _stored(run, range_fingerprint(task.subject.lowerer, used, task.recipe))
    if stored is not None and stored.clipped.keys() >= set(needed) and stored.moments.keys() >= set(read):
        run.clock.begin(
            "ranges", f"{len(stored.clipped)} values, from an earlier run{computed_by(run.directory.ranges, SCHEMA)}"
        )
        return stored
    run.clock.begin("ranges", f"{len(needed)} values over {used.count} samples, calibrator {task.recipe.method}")
    time = RangesTime(run.budget.deadline)

    def progress(step: str, share: float) -> bool:
        run.progress.advance(share, step)
        return time.is_up(step, share)

    job = CalibrationJob(
        lowerer=task.subject.lowerer,
        possible=task.subject.possible,
        backend=run.backend,
        dataset=data,
        recipe=task.recipe,
        progress=progress,
        out_of_time=time.is_over,
        most_samples=run.budget.run_samples,
    )
    table = calibrate_model(job)
    if time.cut_short:
        table = replace(table, fingerprint=_hurried(table, table.fingerprint))
        run.budget.leave_out(f"ranges are of {table.samples} samples, by {table.method}, without all refinement")
    if stored is not None and stored.clipped:
        # Calibrators are chosen for all values together, so that others beside them may change what is chosen.
        table = replace(table, fingerprint=_widened(table, table.fingerprint))
    table = _with_moments(run, job, table, read)
    table.save(run.directory.ranges)
    return table


def _with_moments(run: Run, job: CalibrationJob, table: RangeTable, widths: Mapping[str, int]) -> RangeTable:
    """The table with the moments of these values, where there are any and as far as there is time."""
    try:
        return with_moments(job, table, widths) if widths else table
    except OutOfTimeError:
        run.budget.leave_out("weights of 4 bits are rounded to the nearest code")
        return table


def _stored(run: Run, wanted: str) -> RangeTable | None:
    """The ranges of an earlier run, None where there are none with the wanted fingerprint."""
    if not run.directory.ranges.is_file():
        return None
    stored = load_ranges(run.directory.ranges)
    hurried = _hurried(stored, wanted)
    good = [wanted, _widened(stored, wanted)]
    if run.budget.limited:
        good += [hurried, _widened(stored, hurried)]
    good = [moments_fingerprint(each, list(stored.moments)) for each in good]
    return stored if stored.fingerprint in good else None


def _widened(table: RangeTable, wanted: str) -> str:
    """The fingerprint of ranges of more values than those that an earlier run in the same folder had needed."""
    return fingerprint([wanted, "of these values", *sorted(table.clipped)])


def _hurried(table: RangeTable, wanted: str) -> str:
    """The fingerprint of ranges that were cut short, by which a run that has more time makes them again."""
    return fingerprint([wanted, "hurried", str(table.samples), table.method])
