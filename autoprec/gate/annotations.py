"""A gate's report as GitHub workflow commands, which become annotations of the run and of the pull request."""

from __future__ import annotations

from pathlib import PurePath

from autoprec.gate.text import WORDS, headline, plain, plain_lines, shown_details
from autoprec.gate.verdict import GateReport, Status

_LEVELS = {
    Status.NOT_HONOURED: "error",
    Status.WORSE: "error",
    Status.CANNOT_JUDGE: "warning",
    Status.SKIPPED: "notice",
}


def to_annotations(report: GateReport) -> list[str]:
    """One line for each check that is not fine, and one for what has changed around the model.

    An error is a finding; where nothing could be judged it is a warning, since nothing is known to be worse (the
    exit code fails the job all the same). GitHub shows ten of each level for a step, which these cannot exceed.
    """
    lines = [
        _command(
            _LEVELS[check.status],
            f"{check.name}: {WORDS[check.status]}",
            "\n".join([plain(check.sentence), *shown_details(check)]),
            report.baseline,
        )
        for check in report.checks
        if check.status in _LEVELS
    ]
    if report.status is Status.CANNOT_JUDGE and all(check.status is Status.SKIPPED for check in report.checks):
        lines.insert(0, _command("warning", WORDS[report.status], headline(report), report.baseline))
    if report.changes:
        changes = "\n".join(plain_lines(report.changes))
        lines.append(_command("notice", "changed since the baseline", changes, report.baseline))
    return lines


def _command(level: str, title: str, message: str, file: str) -> str:
    properties = [("title", f"autoprec {plain(title)}")]
    if not PurePath(file).is_absolute():  # GitHub knows paths of the repository only
        properties.append(("file", plain(file)))
    text = ",".join(f"{name}={_property(value)}" for name, value in properties)
    return f"::{level} {text}::{_data(message)}"


def _data(text: str) -> str:
    """As GitHub's own toolkit escapes the message of a command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """As it escapes the value of a property."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")
