"""A run that goes on writes its plans by the scheme that it was begun with."""

from __future__ import annotations

from dataclasses import replace

from autoprec.backends.scheme import same_family, scheme_named
from autoprec.lowering.lowerer import Lowerer
from autoprec.run.task import Task


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
