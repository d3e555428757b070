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
from autoprec.lowering.reading import Reading
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
    read = _read_by_rounded(run)
    stored = _stored(run, range_fingerprint(task.subject.lowerer, used, task.recipe))
    if stored is not None and stored.clipped.keys() >= set(needed) and _rounds_so(stored, run, read):
        run.clock.begin(
            "ranges", f"{len(stored.clipped)} tensors, from an earlier run{computed_by(run.directory.ranges, SCHEMA)}"
        )
        return stored
    run.clock.begin("ranges", f"{len(needed)} tensors on {used.count} samples, calibrator {task.recipe.method}")
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


def _read_by_rounded(run: Run) -> dict[tuple[str, str], Reading]:
    """What the layers read whose weights are rounded by its moments, none where they take the nearest codes."""
    if run.task.recipe.rounding == "nearest":
        return {}
    subject = run.task.subject
    return values_with_moments(subject.lowerer, subject.possible, of_8_bits=run.task.recipe.rounding == "gptq-all")


def _rounds_so(stored: RangeTable, run: Run, read: Mapping[tuple[str, str], Reading]) -> bool:
    """Whether weights are rounded by stored ranges as the recipe wants it."""
    rounding = run.task.recipe.rounding
    if rounding == "nearest":
        return not stored.readings
    return stored.readings.keys() >= set(read) and stored.rounds_8_bits == (rounding == "gptq-all" and bool(read))


def _with_moments(
    run: Run, job: CalibrationJob, table: RangeTable, read: Mapping[tuple[str, str], Reading]
) -> RangeTable:
    """The table with the moments of what is read, where there is any and as far as there is time."""
    try:
        of_8_bits = run.task.recipe.rounding == "gptq-all"
        return with_moments(job, table, read, of_8_bits=of_8_bits) if read else table
    except OutOfTimeError:
        run.budget.leave_out("weights are rounded to the nearest code")
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
    good = [moments_fingerprint(each, stored.readings, of_8_bits=stored.rounds_8_bits) for each in good]
    return stored if stored.fingerprint in good else None


def _widened(table: RangeTable, wanted: str) -> str:
    """The fingerprint of ranges of more values than those that an earlier run in the same folder had needed."""
    return fingerprint([wanted, "of these values", *sorted(table.clipped)])


def _hurried(table: RangeTable, wanted: str) -> str:
    """The fingerprint of ranges that were cut short, by which a run that has more time makes them again."""
    return fingerprint([wanted, "hurried", str(table.samples), table.method])
