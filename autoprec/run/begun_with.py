"""A run that goes on writes its plans by the scheme, and chooses from the precisions, that it was begun with."""

from __future__ import annotations

from dataclasses import replace

from autoprec.backends.scheme import same_family, scheme_named
from autoprec.lowering.lowerer import Lowerer
from autoprec.precision import Precision
from autoprec.run.study_description import StudyDescription
from autoprec.run.task import Task

_OFFERED_LATER = frozenset({Precision.INT8_DYNAMIC})
"""The precisions that an earlier version offered by no default."""


def as_begun(task: Task, studied: StudyDescription) -> Task:
    """Return the task as a run is to go on with it, that was begun with this study."""
    return chosen_as(written_as(task, studied.scheme), studied)


def chosen_as(task: Task, studied: StudyDescription) -> Task:
    """Return the task without the precisions that the run's default space did not have when it was begun.

    What was measured would belong to another study. A space that the user names is taken as it is.

    Args:
        task: the task.
        studied: the study that the run was begun with.
    """
    subject = task.subject
    if task.settings.space is not None or studied.asked.get("space") is not None:
        return task
    later = _OFFERED_LATER.difference(*studied.choices.values())
    choices = {name: tuple(p for p in row if p not in later) or row for name, row in subject.choices.items()}
    return task if choices == subject.choices else replace(task, subject=replace(subject, choices=choices))


def written_as(task: Task, scheme: str) -> Task:
    """Return the task with plans written by the scheme that a run was begun with.

    A later release or another CPU may choose another variant of it, and what was measured would not compare.

    Args:
        task: the task.
        scheme: the name of the run's scheme; where it is no variant of the runtime's own, the task stays as it is.
    """
    old = task.subject.lowerer
    if scheme == old.scheme.name or not same_family(scheme, old.scheme.name):
        return task
    wanted = scheme_named(scheme)
    lowerer = Lowerer(old.model, old.partition, wanted, old.carrier, unify_concat=old.unify_concat)
    return replace(task, subject=replace(task.subject, lowerer=lowerer))
