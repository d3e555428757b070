"""A tune: the stages in their order, each of which is skipped where its file still holds.

halves -> ranges -> sensitivities -> time profiles -> search -> confirmation
"""

from __future__ import annotations

from contextlib import ExitStack

from autoprec.run.answer.confirm import confirm
from autoprec.run.answer.result import TuneResult
from autoprec.run.causes_description import store_causes
from autoprec.run.context import Run
from autoprec.run.network_description import NetworkDescription
from autoprec.run.stages.halves import deal_halves
from autoprec.run.stages.latency import profile_uniform_plans
from autoprec.run.stages.plan_search import find_blocking_units, plan_measurer, search_plans
from autoprec.run.stages.ranges import find_ranges
from autoprec.run.stages.sensitivity import measure_sensitivities
from autoprec.run.uniform import FP32_PLAN, uniform_plans


def tune(run: Run) -> TuneResult:
    """Run all stages; what an earlier run left in the directory is taken over where it still holds.

    Args:
        run: the context of the run, whose directory this process has claimed.

    Raises:
        BackendError: the runtime cannot run FP32, or refuses plans that it has run before.
        DataError: a value of the model is NaN or infinite on the calibration samples.
        MetricError: the metric does not repeat its scores, see `autoprec.metrics.contract`.
        RunDirectoryError: a file of the directory is damaged, or the folder cannot be written.
        StorageError: the study cannot be reached.
    """
    NetworkDescription.of(run.task.subject.partition).save(run.directory.network)
    run = deal_halves(run)
    ranges = find_ranges(run)
    sensitivities = measure_sensitivities(run, ranges)
    prior = profile_uniform_plans(run, ranges, sensitivities)
    with ExitStack() as stack:
        fp32 = run.engines.open(uniform_plans(run.task.subject)[FP32_PLAN], ranges, stack)
        measurer = plan_measurer(run, fp32, ranges)
        found = search_plans(run, measurer, sensitivities, prior)
        blocking = find_blocking_units(run, measurer, sensitivities, found)
        measurer.check_metric()  # A score that has changed since the search began makes all of its figures worthless.
        result = confirm(run, measurer, sensitivities, found, blocking)
    store_causes(run, result.plan, ranges)
    return result
