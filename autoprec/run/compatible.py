"""Whether a model, data, a metric and a machine are those of a run, for whatever measures more of its plans."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from autoprec.errors import BackendError, DataError, MetricError, ModelError, RunDirectoryError
from autoprec.graph.model import Model
from autoprec.ranges.table import RangeTable, load_ranges
from autoprec.run.directory import RunDirectory
from autoprec.run.identity import plan_fingerprints
from autoprec.run.search_description import SearchDescription
from autoprec.run.study_description import StudyDescription
from autoprec.run.task import Task
from autoprec.sensitivity.table import Sensitivities

_NOT_LATENCY = ("platform",)
"""Differs between hosts of one kind, such as by the kernel's release, and does not change latencies."""


def check_machine(wanted: Mapping[str, str], found: Mapping[str, str], root: Path) -> None:
    """Refuse another kind of machine, whose latencies would be mixed with those of the run in `root`.

    Raises:
        BackendError: it is another kind.
    """
    names = [name for name in (*wanted, *(n for n in found if n not in wanted)) if name not in _NOT_LATENCY]
    other = [f"{n} {found.get(n, 'none')}, not {wanted.get(n, 'none')}" for n in names if wanted.get(n) != found.get(n)]
    if other:
        raise BackendError(
            f"plans must be measured on the same kind of machine as the run in {root}, or latencies would not compare; "
            f"here is {'; '.join(other)}. Use a machine like it, or tune here in another --out"
        )


def check_model(studied: StudyDescription, model: Model, root: Path) -> None:
    """Refuse a model that is not the one that the run in `root` tuned.

    Raises:
        ModelError: it is another one, or has changed.
    """
    for what, fingerprint in (("graph", model.graph_fingerprint), ("weights", model.weights_fingerprint)):
        if studied.fingerprints.get(what) != fingerprint:
            raise ModelError(
                f"{model.path} is not the model that the run in {root} was begun with: the fingerprint of its {what} "
                f"is {fingerprint}, not {studied.fingerprints.get(what)}; give the run's model by --model, or tune "
                f"this one"
            )


def check_samples(studied: StudyDescription, task: Task, ranges: RangeTable) -> None:
    """Refuse calibration data, evaluation data or a metric that are not those of the run.

    Raises:
        DataError: the data is other data.
        MetricError: the metric has changed.
    """
    found, splits = plan_fingerprints(task, ranges), task.splits
    for what, origin, option in (
        ("calibration", splits.calibrate.origin, "--calib"),
        ("selection", splits.select.origin, "--eval"),
    ):
        if studied.fingerprints.get(what) != found[what]:
            raise DataError(
                f"{origin} is not the data that the run was begun with: the fingerprint of its {what} samples is "
                f"{found[what]}, not {studied.fingerprints.get(what)}; give the same samples by {option}"
            )
    if studied.fingerprints.get("metric") != found["metric"]:
        raise MetricError(
            f"the metric {task.metric.name!r} is not the one that the run was begun with; use the same code as the "
            f"run, or begin the run again"
        )


def check_search(
    studied: StudyDescription, shared: SearchDescription, task: Task, ranges: RangeTable, profile: Sensitivities
) -> None:
    """Refuse ranges, sensitivities or choices that are not those that the run's search began with.

    Raises:
        RunDirectoryError: one of them is another.
    """
    choices = {name: tuple(options) for name, options in task.subject.choices.items()}
    old = studied.fingerprints.get("ranges") != ranges.fingerprint or shared.profile != profile.fingerprint
    if old or choices != studied.choices:
        raise RunDirectoryError(
            "the run directory's ranges, sensitivities or choices are not those that the search began with; copy the "
            "run directory again, use the same version of autoprec for all workers, or begin the run again"
        )


def stored_ranges(studied: StudyDescription, directory: RunDirectory) -> RangeTable | None:
    """The ranges that the run's plans were measured with, None where no plan needs any.

    Raises:
        RunDirectoryError: they are missing, or other ones.
    """
    if not any(p.is_quantized for options in studied.choices.values() for p in options):
        return None
    ranges = load_ranges(directory.ranges)
    if ranges.fingerprint != studied.fingerprints.get("ranges"):
        raise RunDirectoryError(
            f"{directory.ranges} has other ranges than the plans were measured with; run `autoprec tune` with the "
            f"same options and --out {directory.root} again"
        )
    return ranges
