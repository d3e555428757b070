"""What plans are compared with: FP32's outputs, and the engine whose latency is the clock's unit."""

from __future__ import annotations

import math
from contextlib import ExitStack

from autoprec.backends.slow_builds import BuildsUnderLimit, TimesByCarrier
from autoprec.errors import RunDirectoryError
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable
from autoprec.run.context import Run
from autoprec.run.engines import Engines, PlanEngine
from autoprec.run.identity import builds_quickly, study_name
from autoprec.run.study_description import read_study_description
from autoprec.run.task import Task
from autoprec.run.uniform import uniform_plans, unit_name
from autoprec.sensitivity.table import Sensitivities


def clock_unit(task: Task) -> Precision:
    """The precision of the uniform plan whose latency others are shares of.

    It is FP32, unless its engine would be built for nothing else and takes long. Where the user bounds the latency by a
    share of FP32's, it is FP32 in any case.
    """
    carrier = task.subject.space.carrier
    by_carrier = isinstance(task.backend, TimesByCarrier) and task.backend.times_by_carrier
    if not by_carrier or task.settings.max_latency is not None:
        return Precision.FP32
    return carrier if unit_name(carrier) in uniform_plans(task.subject) else Precision.FP32


def unit_of_run(run: Run, sensitivities: Sensitivities) -> Precision:
    """The clock's unit of a run; a study that an older version began in shares of FP32's latency goes on so."""
    unit = clock_unit(run.task)
    if unit is Precision.FP32 or not run.directory.studied.is_file():
        return unit
    try:
        studied = read_study_description(run.directory.studied)
    except RunDirectoryError:  # the search says so, or makes it anew
        return unit
    older = studied.goal.unit is Precision.FP32 and studied.study == study_name(run.task, sensitivities)
    return Precision.FP32 if older else unit


def build_like_the_run(task: Task, limit_s: float | None) -> None:
    """Have a process that joins a run build as the run does: by the same settings of the builder, without its limit.

    Args:
        task: the task of this process.
        limit_s: the time limit of the run.
    """
    if isinstance(task.backend, BuildsUnderLimit):
        task.backend.limit_builds(lambda: math.inf, quickly=builds_quickly(task.backend, limit_s))


def open_reference(engines: Engines, task: Task, unit: Precision, ranges: RangeTable, stack: ExitStack) -> PlanEngine:
    """The engine of the clock's unit, with the one that computes FP32's outputs.

    Raises:
        BackendError: the runtime refused it.
        OutOfTimeError: it could not be built within the time limit.
    """
    reference = engines.open(uniform_plans(task.subject)[unit_name(unit)], ranges, stack)
    computing = reference.computing if unit is Precision.FP32 else engines.as_given(stack)
    return PlanEngine(reference.timed, engines.remembering(computing), reference.size)
