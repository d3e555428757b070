"""Fourth stage: the time profile of each uniform plan, from which the search starts. It leaves latency.json."""

from __future__ import annotations

from collections.abc import Mapping

from autoprec.errors import BackendError, OutOfTimeError
from autoprec.files.computed_by import algorithm, computed_by
from autoprec.files.json import fingerprint
from autoprec.plan import Assignment
from autoprec.precision import Array, Precision
from autoprec.ranges.table import RangeTable
from autoprec.run.context import Run
from autoprec.run.directory import SCHEMA
from autoprec.run.engines import timing_feed
from autoprec.run.uniform import compared_plans, unit_name
from autoprec.sensitivity.table import Sensitivities

Shares = dict[tuple[str, Precision], float]
"""(unit, precision) -> milliseconds of the unit in that precision, as a share of those of the network in the clock's
unit."""
_FP32_FACTOR = 2.0
"""FP32 is taken to be so many times as slow as the clock's unit where no plan of it is built: it moves twice the bytes.
On an H100, TensorRT's FP32 took 1.5 (ResNet-20) and 1.8 times (MobileNet v1) as long as FP16."""


def profile_uniform_plans(
    run: Run, ranges: RangeTable, sensitivities: Sensitivities | None = None, unit: Precision = Precision.FP32
) -> Shares:
    """Profile each uniform plan once, unless stored profiles are of the same plans, ranges and machine.

    Args:
        run: the run.
        ranges: the calibrated ranges.
        sensitivities: those of the run; where the time is limited and there was none to measure them, there is none
            for profiles either.
        unit: the precision of the clock's unit.

    Returns:
        Each unit's share of the profiled time of the clock's unit; all are 0 where nothing was profiled.
    """
    plans = compared_plans(run.task.subject, unit)
    machine = map(str, sorted(run.backend.describe().items()))
    wanted = fingerprint(
        [ranges.fingerprint, *machine, str(run.task.settings.batch), str(plans), *algorithm("time profiles")]
    )
    rows = run.directory.stored_unit_ms(wanted)
    if rows is not None:
        run.clock.begin("latency", f"from an earlier run{computed_by(run.directory.latency, SCHEMA)}")
    elif sensitivities is not None and not sensitivities.entries and run.budget.limited:
        run.clock.begin("latency", "left out: there is no time for it")
        rows = {unit_name(unit): {}}
    else:
        run.clock.begin("latency", "profile of each uniform plan")
        feed = timing_feed(run.task, run.task.splits.select)
        rows = {name: _unit_ms(run, plan, ranges, feed) for name, plan in plans.items()}
        run.directory.store_unit_ms(wanted, rows)
    return _shares(run, rows, plans, unit)


def _shares(
    run: Run, rows: Mapping[str, Mapping[str, float]], plans: Mapping[str, Assignment], unit_precision: Precision
) -> Shares:
    subject, usual = run.task.subject, unit_name(unit_precision)
    total = sum(rows[usual].values()) or 1.0
    shares: Shares = {}
    for unit in subject.partition.units:
        for precision in sorted({*subject.choices[unit.name], Precision.FP32}):
            name = next((n for n, plan in plans.items() if plan[unit.name] is precision), usual)
            share = rows.get(name, rows[usual]).get(unit.name, 0.0) / total
            unseen = precision is Precision.FP32 is not plans[name][unit.name]
            shares[(unit.name, precision)] = _FP32_FACTOR * share if unseen else share
    return shares


def _unit_ms(run: Run, plan: Assignment, ranges: RangeTable, feed: dict[str, Array]) -> dict[str, float]:
    try:
        return run.engines.unit_ms(plan, ranges, feed)
    except (BackendError, OutOfTimeError):  # Profiles only say where the search starts: it measures whole plans itself.
        return {unit.name: 0.0 for unit in run.task.subject.partition.units}
