"""Describes the study of a task, so that another process can measure plans for it or choose from it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable
from autoprec.run.identity import plan_fingerprints
from autoprec.run.study_description import StudyDescription, StudyUnit
from autoprec.run.task import Task
from autoprec.run.unit_reasons import fixed_reason
from autoprec.study.goal import Goal
from autoprec.units.sizes import shapes_of_sizes


def describe_study(
    task: Task, ranges: RangeTable, study: str, goal: Goal, prior: Mapping[tuple[str, Precision], float]
) -> StudyDescription:
    """What the study of a task is about.

    Args:
        task: what the user asked for, with the backend and the halves of the run.
        ranges: the calibrated ranges.
        study: the name of the study.
        goal: what is minimised, and the bounds.
        prior: (unit, precision) -> share of FP32's latency in the runtime's own profile.
    """
    subject, settings = task.subject, task.settings
    units = {
        unit.name: StudyUnit(
            unit.key, subject.choices[unit.name], fixed_reason(subject, unit.name), unit.name in subject.pinned
        )
        for unit in subject.partition.units
    }
    return StudyDescription(
        study=study,
        model=os.path.abspath(settings.model),
        backend=task.backend.name,
        scheme=subject.lowerer.scheme.name,
        carrier=subject.space.carrier,
        units=units,
        metric=task.metric.name,
        max_drop=settings.max_drop,
        confidence=settings.confidence,
        splits=task.splits.text,
        samples=task.splits.select.count,
        fingerprints=plan_fingerprints(task, ranges),
        machine=dict(task.backend.describe()),
        answer=None,
        objective=goal.objective,
        max_latency=goal.max_latency,
        unit=goal.unit,
        prior={name: {p: share for (unit, p), share in prior.items() if unit == name} for name in units},
        asked=measuring_settings(task),
        shapes=shapes_of_sizes(subject.partition, subject.model.graph),
    )


def measuring_settings(task: Task) -> dict[str, Any]:
    """The settings that plans are measured by, as JSON; None for data and a metric that only the memory holds."""
    settings = task.settings
    sources = {"calib": settings.calib, "evaluate": settings.evaluate, "metric": settings.metric}
    sources["labels"] = settings.labels
    texts = {
        name: os.path.abspath(source) if os.path.exists(source) else os.fspath(source)
        for name, source in sources.items()
        if isinstance(source, (str, os.PathLike))
    }
    return {
        **dict.fromkeys(sources),
        **texts,
        "memory": [name for name, source in sources.items() if source is not None and name not in texts],
        "direction": settings.direction,
        "decode": settings.decode if isinstance(settings.decode, str) else None,
        "space": _path(settings.space),
        "recipe": _path(settings.recipe),
        "pins": list(settings.pins),
        "batch": settings.batch,
        "seed": settings.seed,
        "threads": task.backend.threads,
        "sampler": settings.sampler,
        "targets": list(task.backend.targets),
        "timeout_s": settings.timeout_s,
        **({"repairs": settings.repairs} if settings.repairs != "none" else {}),
        **({"situations": list(settings.situations), "counted": settings.counted} if settings.situations else {}),
    }


def _path(source: str | Path | None) -> str | None:
    """A file's absolute path; a name stays a name."""
    return None if source is None else os.path.abspath(source) if os.path.isfile(source) else str(source)
