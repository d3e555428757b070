"""What the study is asked for."""

from __future__ import annotations

from dataclasses import dataclass

import optuna

from autoprec.precision import Precision
from autoprec.study.trial import Prediction, Trial


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A plan that is being measured.

    Attributes:
        trial: Optuna's trial, which is running.
        origin: what proposed the plan, as a text.
        plan: unit -> precision.
        known: the trial that measured the same plan before, None where the plan is new.
        predicted: what the models predict of it, None where no model proposed it.
    """

    trial: optuna.Trial
    origin: str
    plan: dict[str, Precision]
    known: Trial | None = None
    predicted: Prediction | None = None


@dataclass(frozen=True, slots=True)
class Queue:
    """What is under way in all processes.

    Attributes:
        waiting: the number of plans that were enqueued and not taken yet.
        running: the number of plans that are being measured.
        begun: the number of these and of the measured plans together.
    """

    waiting: int
    running: int
    begun: int
