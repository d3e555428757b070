"""The report of a gate: its checks, and the verdict that follows from them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from autoprec.errors import EXIT_CANNOT_JUDGE, EXIT_NOT_HONOURED, EXIT_OK, EXIT_WORSE


class Status(str, Enum):
    """The result of a check, and of a whole gate."""

    FINE = "fine"
    WORSE = "worse"
    NOT_HONOURED = "not honoured"
    CANNOT_JUDGE = "cannot judge"
    SKIPPED = "skipped"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question and its answer.

    Attributes:
        name: "accuracy", "latency", "size", "precision" or "ranges".
        status: the result.
        baseline: the committed figure as text with its unit.
        now: the fresh figure as text with its unit.
        change: the difference of the two as text with its interval.
        allowed: the bound as text.
        sentence: the sentence that says what was found and, if it is not fine, what to do.
        details: further lines, such as one for each drifted tensor.
    """

    name: str
    status: Status
    baseline: str
    now: str
    change: str
    allowed: str
    sentence: str
    details: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """All checks of one gate.

    Attributes:
        model: the path of what was judged.
        baseline: the path of the baseline.
        checks: the checks in the order in which they are shown.
        changes: what differs from the baseline, for people, such as "driver: 550 -> 580".
        seconds: the number of seconds that the gate took.
    """

    model: str
    baseline: str
    checks: tuple[Check, ...]
    changes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def status(self) -> Status:
        """The most serious result of the checks; if none could judge, the gate cannot either."""
        found = {check.status for check in self.checks}
        for status in (Status.NOT_HONOURED, Status.WORSE, Status.CANNOT_JUDGE, Status.FINE):
            if status in found:
                return status
        return Status.CANNOT_JUDGE

    @property
    def exit_code(self) -> int:
        """The exit status of the command line."""
        return {
            Status.FINE: EXIT_OK,
            Status.WORSE: EXIT_WORSE,
            Status.NOT_HONOURED: EXIT_NOT_HONOURED,
        }.get(self.status, EXIT_CANNOT_JUDGE)
