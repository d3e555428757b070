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
from autoprec.run.uniform import FP32_PLAN, uniform_plans
from autoprec.sensitivity.table import Sensitivities

Shares = dict[tuple[str, Precision], float]
"""(unit, precision) -> milliseconds of the unit in that precision, over those of the whole network in FP32."""


def profile_uniform_plans(run: Run, ranges: RangeTable, sensitivities: Sensitivities | None = None) -> Shares:
    """Profile each uniform plan once, unless stored profiles are of the same plans, ranges and machine.

    Args:
        run: the run.
        ranges: the calibrated ranges.
        sensitivities: those of the run; where the time is limited and there was none to measure them, there is none
            for profiles either.

    Returns:
        Each unit's share of FP32's profiled time; all are 0 where nothing was profiled.
    """
    plans = uniform_plans(run.task.subject)
    machine = map(str, sorted(run.backend.describe().items()))
    wanted = fingerprint(
        [ranges.fingerprint, *machine, str(run.task.settings.batch), str(plans), *algorithm("time profiles")]
    )
    rows = run.directory.stored_unit_ms(wanted)
    if rows is not None:
        run.clock.begin("latency", f"from an earlier run{computed_by(run.directory.latency, SCHEMA)}")
    elif sensitivities is not None and not sensitivities.entries and run.budget.limited:
        run.clock.begin("latency", "left out: there is no time for it")
        rows = {FP32_PLAN: {}}
    else:
        run.clock.begin("latency", "profile of each uniform plan")
        feed = timing_feed(run.task, run.task.splits.select)
        rows = {name: _unit_ms(run, plan, ranges, feed) for name, plan in plans.items()}
        run.directory.store_unit_ms(wanted, rows)
    return _shares(run, rows, plans)


def _shares(run: Run, rows: Mapping[str, Mapping[str, float]], plans: Mapping[str, Assignment]) -> Shares:
    subject = run.task.subject
    total = sum(rows[FP32_PLAN].values()) or 1.0
    shares: Shares = {}
    for unit in subject.partition.units:
        for precision in sorted({*subject.choices[unit.name], Precision.FP32}):
            name = next((n for n, plan in plans.items() if plan[unit.name] is precision), FP32_PLAN)
            shares[(unit.name, precision)] = rows.get(name, rows[FP32_PLAN]).get(unit.name, 0.0) / total
    return shares


def _unit_ms(run: Run, plan: Assignment, ranges: RangeTable, feed: dict[str, Array]) -> dict[str, float]:
    try:
        return run.engines.unit_ms(plan, ranges, feed)
    except (BackendError, OutOfTimeError):  # Profiles only say where the search starts: it measures whole plans itself.
        return {unit.name: 0.0 for unit in run.task.subject.partition.units}
