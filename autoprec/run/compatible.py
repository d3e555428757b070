"""Whether a model, data and machine are those of a run."""

from __future__ import annotations

from pathlib import Path

from autoprec.errors import BackendError, DataError, MetricError, ModelError, RunDirectoryError
from autoprec.ranges.table import RangeTable
from autoprec.run.identity import plan_fingerprints
from autoprec.run.search_description import SearchDescription
from autoprec.run.study_description import StudyDescription
from autoprec.run.task import Task
from autoprec.sensitivity.table import Sensitivities

_NOT_LATENCY = ("platform",)
"""Differs between hosts of one kind, such as by the kernel's release."""


def check_machine(wanted: dict[str, str] | object, found: dict[str, str], root: Path) -> None:
    """Latencies of another kind of machine would be mixed with the run's.

    Raises:
        BackendError: it is another kind.
    """
    rows = dict(wanted) if isinstance(wanted, dict) else {}
    names = [name for name in (*rows, *(n for n in found if n not in rows)) if name not in _NOT_LATENCY]
    other = [f"{n} {found.get(n, 'none')}, not {rows.get(n, 'none')}" for n in names if rows.get(n) != found.get(n)]
    if other:
        raise BackendError(
            f"a worker must run on the same kind of machine as the run in {root}, or its latencies would not compare; "
            f"here is {'; '.join(other)}. Use a machine like it, or tune here in another --out"
        )


def check_model(studied: StudyDescription, task: Task) -> None:
    """Refuse a model that is not the one that the run tunes."""
    model = task.subject.model
    for what, fingerprint in (("graph", model.graph_fingerprint), ("weights", model.weights_fingerprint)):
        if studied.fingerprints.get(what) != fingerprint:
            raise ModelError(
                f"{model.path} is not the model that the run was begun with: the fingerprint of its {what} is "
                f"{fingerprint}, not {studied.fingerprints.get(what)}; give that file by --model, or tune this one"
            )


def check_data(
    studied: StudyDescription, shared: SearchDescription, task: Task, ranges: RangeTable, profile: Sensitivities
) -> None:
    """Refuse data, settings or stored figures that are not those of the run."""
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
            f"the metric {task.metric.name!r} is not the one that the run was begun with; use the same code for all "
            f"workers, or begin the run again"
        )
    choices = {name: tuple(options) for name, options in task.subject.choices.items()}
    old = studied.fingerprints.get("ranges") != ranges.fingerprint or shared.profile != profile.fingerprint
    if old or choices != studied.choices:
        raise RunDirectoryError(
            "the run directory's ranges, sensitivities or choices are not those that the search began with; copy the "
            "run directory anew, use the same version of autoprec for all workers, or begin the run again"
        )
