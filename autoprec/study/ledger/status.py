"""What became of a trial, and the user attributes that say so."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from optuna.trial import FrozenTrial, TrialState

from autoprec.study.optuna_adapter import MEASUREMENT

REFUSED = "refused"
"""User attribute of a trial whose plan the runtime refused: what the runtime said."""
LEFT = "left"
"""User attribute of a failed trial whose plan is still owed: the value of a `TrialStatus` that `is_left`."""


class TrialStatus(Enum):
    """Where a trial is in its life.

    A trial that fails is never run again. Where its plan is still owed, the plan is enqueued as a new trial::

        enqueued by name ----> WAITING                        asked of the sampler
                                  |                                   |
                                  +----------> RUNNING <--------------+
                                                  |
             +-----------+-----------+------------+-----------+-----------+
             v           v           v            v           v           v
          MEASURED    REPEATED    REFUSED      KILLED      STOPPED     YIELDED     DROPPED
                                                  |           |           |
                                                  +-----------+-----------+
                                                              v
                                        the plan is enqueued again as a WAITING trial,
                                        unless MOST_KILLS processes were killed at it

    The values of KILLED, STOPPED and YIELDED are stored in users' studies and must not change.
    """

    WAITING = "waiting"
    """The plan was enqueued, and no process has taken it."""
    RUNNING = "running"
    """A process has taken it; it holds a plan as soon as the sampler has chosen one."""
    MEASURED = "measured"
    """The plan was measured. For Optuna it is complete, or pruned where its objective is not known."""
    REPEATED = "repeated"
    """The sampler asked for a measured plan again, and was told what is known; it does not count as a trial."""
    REFUSED = "refused"
    """The runtime refused the plan."""
    KILLED = "killed"
    """The process that measured it was killed."""
    STOPPED = "stopped"
    """The process that measured it ended in an orderly way, such as by Ctrl-C."""
    YIELDED = "yielded"
    """It was enqueued and gave way to another trial with the same plan, which may yet give the plan up."""
    DROPPED = "dropped"
    """It gave way to another trial, or was beyond the limit; nothing is owed."""

    @property
    def is_left(self) -> bool:
        """Whether the trial has failed and its plan is still owed."""
        return self in (TrialStatus.KILLED, TrialStatus.STOPPED, TrialStatus.YIELDED)

    @property
    def attributes(self) -> Mapping[str, str]:
        """The user attributes of a trial that fails in this way; a refusal's text is stored by `refused_with`."""
        return {LEFT: self.value} if self.is_left else {}


def refused_with(text: str) -> Mapping[str, str]:
    """The user attributes of a trial whose plan the runtime refused."""
    return {REFUSED: text}


def left_as(trial: FrozenTrial) -> TrialStatus | None:
    """How the trial's plan was left, None where it was not; the trial may not have failed yet."""
    stored = trial.user_attrs.get(LEFT)
    return None if stored is None else TrialStatus(stored)


def status_of(trial: FrozenTrial) -> TrialStatus:
    """Where a trial is in its life."""
    if trial.state in (TrialState.WAITING, TrialState.RUNNING):
        return TrialStatus.WAITING if trial.state is TrialState.WAITING else TrialStatus.RUNNING
    if trial.state is TrialState.FAIL:
        return left_as(trial) or (TrialStatus.REFUSED if REFUSED in trial.user_attrs else TrialStatus.DROPPED)
    return TrialStatus.MEASURED if trial.user_attrs.get(MEASUREMENT) is not None else TrialStatus.REPEATED


def is_open(trial: FrozenTrial) -> bool:
    """Whether the trial waits or runs."""
    return status_of(trial) in (TrialStatus.WAITING, TrialStatus.RUNNING)


def is_measured(trial: FrozenTrial) -> bool:
    """Whether the trial says something new of its plan, which a repeated one does not."""
    return status_of(trial) is TrialStatus.MEASURED
