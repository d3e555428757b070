"""What a gate found, check by check, and the one word it comes to."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from autoprec.errors import EXIT_CANNOT_JUDGE, EXIT_NOT_HONOURED, EXIT_OK, EXIT_WORSE


class Status(str, Enum):
    """What one check came to."""

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
        status: what it came to.
        baseline: the committed figure, in words with its unit.
        now: the fresh figure.
        change: how far they are apart, with its interval.
        allowed: the bound.
        sentence: what was found and, where it is not fine, what to do.
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
        model: path of what was judged.
        baseline: path of the baseline.
        checks: in the order they are shown.
        changes: fingerprints that differ from the baseline's, as "driver: 550 -> 580", for people.
        seconds: that the gate took.
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
        """What the command line returns."""
        return {
            Status.FINE: EXIT_OK,
            Status.WORSE: EXIT_WORSE,
            Status.NOT_HONOURED: EXIT_NOT_HONOURED,
        }.get(self.status, EXIT_CANNOT_JUDGE)
