"""The option --track: who else follows a run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from autoprec.api import SearchResult
    from autoprec.run.progress import Progress
    from autoprec.run.task import Task
    from autoprec.run.tracking.tracker import TrackedProgress


def checked(_ctx: click.Context, _parameter: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names, each of a tracker whose library is installed.

    Raises:
        UsageError: there is none of a name, or its library is missing.
    """
    if names:
        from autoprec.run.tracking.named import tracker_named

        for name in names:
            tracker_named(name)
    return names


def tracked(names: Sequence[str], task: Task, progress: Progress) -> AbstractContextManager[TrackedProgress]:
    """The progress of a tune, which the named trackers follow while the block runs."""
    from autoprec.run.tracking.named import tracked_run

    settings = task.settings
    kept = {
        "metric": task.metric.name,
        "max_drop": settings.max_drop,
        "objective": settings.aim,
        "backend": task.backend.name,
        "batch": settings.batch,
        "trials": settings.trials,
        "sampler": settings.sampler,
        "seed": settings.seed,
    }
    name = Path(task.subject.model.path).stem
    return tracked_run(names, name, {key: str(value) for key, value in kept.items()}, progress)


def figures_of_answer(result: SearchResult) -> dict[str, float | str]:
    """The figures of the answer by name, for trackers."""
    ratio = result.tuned.answer.latency.ratio_to(result.tuned.unit.latency)
    return {
        "chosen": result.tuned.chosen,
        "latency_ratio": ratio.estimate,
        "drop": result.drop.estimate,
        "drop_low": result.drop.low,
        "drop_high": result.drop.high,
        "certified": float(result.certified),
    }
