"""What the study is asked for."""

from __future__ import annotations

from dataclasses import dataclass

import optuna

from autoprec.precision import Precision
from autoprec.study.trial import Trial


@dataclass(frozen=True, slots=True)
class Asked:
    """A plan that is being measured.

    Attributes:
        trial: Optuna's.
        origin: what proposed it.
        plan: unit -> precision.
        known: the trial that measured it before, None where it is new.
    """

    trial: optuna.Trial
    origin: str
    plan: dict[str, Precision]
    known: Trial | None = None


@dataclass(frozen=True, slots=True)
class Queue:
    """What is under way.

    Attributes:
        waiting: plans that were enqueued.
        running: plans that are being measured.
        begun: these and the measured ones.
    """

    waiting: int
    running: int
    begun: int
