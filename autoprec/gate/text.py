"""A gate's report as plain text: one headline, a table, and what to do."""

from __future__ import annotations

from collections.abc import Iterable

from autoprec.files.columns import fitted, screen_width
from autoprec.gate.verdict import Check, GateReport, Status

HEADER = ("check", "verdict", "baseline", "now", "change", "allowed")
SHOWN_DETAILS = 20

# From the gravest down; "skipped" is last, because it takes no part in the verdict.
WORDS = {
    Status.NOT_HONOURED: "not run as planned",
    Status.WORSE: "worse than allowed",
    Status.CANNOT_JUDGE: "cannot judge",
    Status.FINE: "fine",
    Status.SKIPPED: "not judged here",
}


def plain(text: str) -> str:
    r"""`text` on one line and without characters that steer a terminal or break a document.

    Line breaks and tabs become spaces; what else cannot be printed is written as Python would, such as \x1b.
    """
    joined = " ".join(text.split())
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in joined)


def headline(report: GateReport) -> str:
    """All of it in one line, the gravest first, with figures where something is worse."""
    groups = [
        f"{text}: {', '.join(_named(check) for check in report.checks if check.status is status)}"
        for status, text in WORDS.items()
        if any(check.status is status for check in report.checks)
    ]
    if not report.checks:
        return f"{WORDS[report.status]}: nothing was checked"
    if all(check.status is Status.SKIPPED for check in report.checks):
        groups.insert(0, f"{WORDS[report.status]}: every check was skipped")
    return "; ".join(groups)


def table(report: GateReport) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The header and one row for each check, every cell fit for one line of a terminal."""
    rows = [
        (check.name, WORDS[check.status], check.baseline, check.now, check.change, check.allowed)
        for check in report.checks
    ]
    return HEADER, [tuple(plain(cell) for cell in row) for row in rows]


def explanations(report: GateReport) -> list[tuple[Check, tuple[str, ...]]]:
    """Each check that needs words, with its details: no more of them than people read."""
    return [(check, shown_details(check)) for check in report.checks if check.status is not Status.FINE]


def shown_details(check: Check) -> tuple[str, ...]:
    """The first details of a check on one line each, and how many more there are."""
    lines = plain_lines(check.details)
    left = len(lines) - SHOWN_DETAILS
    return (*lines[:SHOWN_DETAILS], f"and {left} more, all of them in the JSON report") if left > 0 else lines


def plain_lines(texts: Iterable[str]) -> tuple[str, ...]:
    """Those texts that say something, each on one line."""
    return tuple(line for line in map(plain, texts) if line)


def subject(report: GateReport) -> str:
    """The model that was judged, the baseline, and how long that took."""
    return f"{plain(report.model)} against {plain(report.baseline)}, {report.seconds:.1f} s"


def to_text(report: GateReport) -> str:
    """The whole report for a terminal or a log, without a line break at the end."""
    header, rows = table(report)
    lines = [headline(report), subject(report)]
    if rows:
        lines += ["", *fitted(header, rows, screen_width())]
    for check, details in explanations(report):
        lines += ["", f"{plain(check.name)}: {plain(check.sentence)}", *(f"  - {line}" for line in details)]
    if report.changes:
        lines += ["", "changed since the baseline:", *(f"  - {line}" for line in plain_lines(report.changes))]
    return "\n".join(lines)


def _named(check: Check) -> str:
    """The name of a check, with figures if it is what fails the gate."""
    name, change, allowed = plain(check.name), plain(check.change), plain(check.allowed)
    if check.status not in (Status.WORSE, Status.NOT_HONOURED) or not change:
        return name
    return f"{name} ({change}, allowed {allowed})" if allowed else f"{name} ({change})"
