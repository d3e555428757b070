"""Ledgers of one study, each of which stands for a process, and what they measure."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution

from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.study.ledger.ask_tell import Ledger
from autoprec.study.ledger.claims import Claims
from autoprec.study.ledger.owners import Watch, own_label
from autoprec.study.loop import SearchFollower
from autoprec.study.participant import Ahead, Wanted
from autoprec.study.trial import Measurement

FP32, INT8 = Precision.FP32, Precision.INT8
CHOICES = {"a": (FP32, INT8), "b": (FP32, INT8), "fixed": (INT8,)}
SPACE = {name: CategoricalDistribution(["fp32", "int8"]) for name in ("a", "b")}
LOW: Assignment = {"a": FP32, "b": INT8, "fixed": INT8}
LOWEST: Assignment = {"a": INT8, "b": INT8, "fixed": INT8}
DEAD = {**own_label(), "pid": 2**22 + 1}
ELSEWHERE = {**own_label(), "host": "elsewhere"}
DONE = Measurement(drop=0.0, judged_drop=0.0, noise=1e-3, kl=None, agreement=None, latency_ratio=0.5)


class Same(optuna.samplers.RandomSampler):
    """Always asks for one plan."""

    def __init__(self, plan: Assignment = LOW) -> None:
        super().__init__()
        self.plan = plan

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        return self.plan[param_name].value


def ledger(
    path: Path,
    mark: dict[str, Any] | None = None,
    sampler: optuna.samplers.BaseSampler | None = None,
    watch: Watch | None = None,
) -> Ledger:
    process = {**own_label(), "pid": 1, "began": None} if mark is None else mark  # process 1 always lives
    sampler = sampler or optuna.samplers.RandomSampler(seed=0)
    return Ledger(path / "log", "run", CHOICES, 0.01, sampler, process=process, watch=watch)


def enqueue_unseen(book: Ledger, name: str) -> None:
    """Enqueue the plan LOW as a process does that has not seen what others enqueued."""
    book.study.enqueue_trial({"a": "fp32", "b": "int8"}, user_attrs={"origin": name})


def before_look(book: Ledger, what: Callable[[], object]) -> None:
    """Have something happen when the next trial of a process has its plan, and before it looks at the others."""
    look = book.claims

    def interrupted() -> Claims:
        book.claims = look  # type: ignore[method-assign]
        what()
        return look()

    book.claims = interrupted  # type: ignore[method-assign]


def states(book: Ledger) -> list[str]:
    return [trial.state.name for trial in book.study.get_trials()]


def measured(plan: Assignment, wanted: Wanted) -> Measurement:
    return DONE


def following(
    book: Ledger,
    how: Callable[[Assignment, Wanted], Measurement] = measured,
    limit: int = 4,
    ahead: Ahead | None = None,
) -> SearchFollower:
    return SearchFollower({"uniform int8": LOWEST}, book, how, limit=limit, ahead=ahead)
