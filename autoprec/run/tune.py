"""A tune: the stages in their order, each of which is skipped where its file still holds.

halves -> repairs -> ranges -> sensitivities -> time profiles -> search -> confirmation
"""

from __future__ import annotations

from contextlib import ExitStack

from autoprec.errors import BackendError
from autoprec.precision import Precision
from autoprec.run.answer.confirm import confirm
from autoprec.run.answer.result import TuneResult
from autoprec.run.causes_description import store_causes
from autoprec.run.context import Run
from autoprec.run.network_description import NetworkDescription
from autoprec.run.stages.builders_choice import begin_free_build, free_build
from autoprec.run.stages.builds import begin_builds, begin_first_plans, keep_time_to_answer, keep_time_to_rebuild
from autoprec.run.stages.halves import deal_halves
from autoprec.run.stages.latency import profile_uniform_plans
from autoprec.run.stages.plan_search import find_blocking_units, plan_measurer, search_plans
from autoprec.run.stages.ranges import find_ranges
from autoprec.run.stages.reference import open_reference, unit_of_run
from autoprec.run.stages.repairs import repair_model
from autoprec.run.stages.sensitivity import measure_sensitivities


def tune(run: Run) -> TuneResult:
    """Run all stages; what an earlier run left in the directory is taken over where it still holds.

    Args:
        run: the context of the run, whose directory this process has claimed.

    Raises:
        BackendError: the runtime cannot run FP32, or refuses plans that it has run before.
        DataError: a value of the model is NaN or infinite on the calibration samples.
        MetricError: the metric does not repeat its scores, see `autoprec.metrics.contract`.
        RunDirectoryError: a file of the directory is damaged, or the folder cannot be written.
        OutOfTimeError: the time limit ended before any plan could be measured.
        StorageError: the study cannot be reached.
    """
    NetworkDescription.of(run.task.subject.partition).save(run.directory.network)
    begin_builds(run)
    run = deal_halves(run)
    keep_time_to_answer(run)
    run = repair_model(run)
    NetworkDescription.of(run.task.subject.partition).save(run.directory.network)
    ranges = find_ranges(run)
    begin_first_plans(run, ranges)
    choice = begin_free_build(run, ranges)
    sensitivities = measure_sensitivities(run, ranges)
    unit = unit_of_run(run, sensitivities)
    prior = profile_uniform_plans(run, ranges, sensitivities, unit)
    with ExitStack() as stack:
        try:
            reference = open_reference(run.engines, run.task, unit, ranges, stack)
        except BackendError:
            if unit is Precision.FP32:
                raise
            unit = Precision.FP32
            prior = profile_uniform_plans(run, ranges, sensitivities, unit)
            reference = open_reference(run.engines, run.task, unit, ranges, stack)
        keep_time_to_answer(run)
        keep_time_to_rebuild(run, unit, ranges)
        measurer = plan_measurer(run, reference, ranges, unit)
        free = free_build(run, measurer, choice)
        found = search_plans(run, measurer, sensitivities, prior, free)
        blocking = find_blocking_units(run, measurer, sensitivities, found)
        measurer.check_metric()  # A score that has changed since the search began makes all of its figures worthless.
        result = confirm(run, measurer, sensitivities, found, blocking)
    store_causes(run, result.plan, ranges)
    return result
