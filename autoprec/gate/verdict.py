"""The checks of a gate, and the verdict that they come to together."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from autoprec.errors import EXIT_CANNOT_JUDGE, EXIT_NOT_HONOURED, EXIT_OK, EXIT_WORSE


class Status(str, Enum):
    """The result of one check."""

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
        name: "accuracy", "latency", "size", "precision", "ranges".
        status: the answer.
        baseline: the committed figure as text, with its unit.
        now: the fresh figure, likewise.
        change: the difference of the two, with its interval.
        allowed: the bound, as text.
        sentence: one sentence on what was found and, where it is not fine, what to do.
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
        checks: the checks, in the order in which they are shown.
        changes: the fingerprints that differ from the baseline's, as "driver: 550 -> 580", for people.
        seconds: the number of seconds that the gate took.
    """

    model: str
    baseline: str
    checks: tuple[Check, ...]
    changes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def status(self) -> Status:
        """The gravest of the checks; with none judged at all, nothing can be said."""
        found = {check.status for check in self.checks}
        for status in (Status.NOT_HONOURED, Status.WORSE, Status.CANNOT_JUDGE, Status.FINE):
            if status in found:
                return status
        return Status.CANNOT_JUDGE

    @property
    def exit_code(self) -> int:
        """The exit code of the command line."""
        return {
            Status.FINE: EXIT_OK,
            Status.WORSE: EXIT_WORSE,
            Status.NOT_HONOURED: EXIT_NOT_HONOURED,
        }.get(self.status, EXIT_CANNOT_JUDGE)
