"""Builds that are begun ahead, and the time that all builds leave to what comes after them."""

from __future__ import annotations

from autoprec.backends.slow_builds import BuildsUnderLimit
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable
from autoprec.run.context import Run
from autoprec.run.identity import builds_quickly
from autoprec.run.stages.reference import clock_unit
from autoprec.run.uniform import compared_plans, seed_plans, unit_name


def begin_builds(run: Run) -> None:
    """Put builds under the run's limit, and begin with the clock's unit where that needs no ranges.

    A builder takes many seconds to start, and the first engine has all of its kernels timed: both go on while FP32 runs
    over the samples and ranges are found.
    """
    if isinstance(run.backend, BuildsUnderLimit):
        quickly = builds_quickly(run.backend, run.task.settings.timeout_s)
        run.backend.limit_builds(lambda: run.budget.build_left_s, quickly=quickly)
    unit = clock_unit(run.task)
    if unit is not Precision.FP32 and not unit.is_quantized:
        run.engines.ahead(compared_plans(run.task.subject, unit)[unit_name(unit)], _NO_RANGES, alone=True)


def begin_first_plans(run: Run, ranges: RangeTable) -> None:
    """Begin to build what the search measures first, while sensitivities are measured.

    Uniform plans are built one after the other, as each has kernels to time that no other plan had.
    """
    unit = clock_unit(run.task)
    if unit is Precision.FP32:
        return
    uniform = compared_plans(run.task.subject, unit)
    for name, plan in {**uniform, **seed_plans(run.task.subject, unit)}.items():
        run.engines.ahead(plan, ranges, alone=name in uniform)


def keep_time_to_answer(run: Run) -> None:
    """Have builds cancelled early enough that what was measured can be confirmed and reported."""
    run.budget.ending_reserve_s = run.budget.least_s(run.task.splits.report.count)


def keep_time_to_rebuild(run: Run, unit: Precision, ranges: RangeTable, *, kernels_known: bool = False) -> None:
    """Where the search builds quickly, keep the time to build finalists by the usual settings of the builder.

    Args:
        run: the run.
        unit: the precision of the clock's unit.
        ranges: the calibrated ranges.
        kernels_known: whether an engine was built by usual settings, so that most kernels are timed.
    """
    if builds_quickly(run.backend, run.task.settings.timeout_s):
        plan = compared_plans(run.task.subject, unit)[unit_name(unit)]
        run.budget.keep_rebuilding(run.engines.builder_s(plan, ranges), kernels_known=kernels_known)


_NO_RANGES = RangeTable(method="", clipped={}, extent={}, means={}, samples=0, fingerprint="", evidence={})
