"""A gate's report as JUnit XML, which most CI systems show: one test case for each check."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autoprec.gate.text import WORDS, headline, plain, plain_lines
from autoprec.gate.verdict import Check, GateReport, Status

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_CLASS = "autoprec.gate"
# What JUnit calls a failure was judged and found wrong; an error could not be judged. Both are shown red.
_OUTCOMES = {
    Status.WORSE: "failure",
    Status.NOT_HONOURED: "failure",
    Status.CANNOT_JUDGE: "error",
    Status.SKIPPED: "skipped",
}


def to_junit(report: GateReport) -> str:
    """An XML document; a report that judged nothing has one test case more, an error, so that none shows it green."""
    from xml.etree.ElementTree import Element, SubElement, indent, tostring

    suite = Element("testsuite", name="autoprec gate", time=f"{report.seconds:.3f}")
    properties = SubElement(suite, "properties")
    for name, value in _properties(report):
        SubElement(properties, "property", name=name, value=plain(value))
    outcomes = [_OUTCOMES.get(check.status, "") for check in report.checks]
    for check, outcome in zip(report.checks, outcomes, strict=True):
        _add_case(suite, report, check, outcome)
    if report.status is Status.CANNOT_JUDGE and "error" not in outcomes:
        nothing = Check(
            name="verdict",
            status=Status.CANNOT_JUDGE,
            baseline="",
            now="",
            change="",
            allowed="",
            sentence=headline(report),
        )
        _add_case(suite, report, nothing, "error")
        outcomes.append("error")
    suite.set("tests", str(len(outcomes)))
    for outcome, count in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
        suite.set(count, str(outcomes.count(outcome)))
    suites = Element("testsuites")
    suites.append(suite)
    indent(suites)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{tostring(suites, encoding="unicode")}\n'


def _properties(report: GateReport) -> list[tuple[str, str]]:
    pairs = [("model", report.model), ("baseline", report.baseline), ("status", str(report.status))]
    return pairs + [("changed", change) for change in report.changes]


def _add_case(suite: Element, report: GateReport, check: Check, outcome: str) -> None:
    from xml.etree.ElementTree import SubElement

    # With the model in the name, gates of several models stay apart where their reports are joined.
    case = SubElement(suite, "testcase", classname=_CLASS, name=plain(f"{check.name} of {report.model}"))
    figures = (("baseline", check.baseline), ("now", check.now), ("change", check.change), ("allowed", check.allowed))
    lines = [plain(check.sentence), *(f"{name}: {plain(value)}" for name, value in figures if value)]
    body = "\n".join([*lines, *plain_lines(check.details)])
    if outcome:
        message = f"{WORDS[check.status]}: {plain(check.sentence)}"
        SubElement(case, outcome, message=message, type=str(check.status)).text = body
    else:
        SubElement(case, "system-out").text = body
