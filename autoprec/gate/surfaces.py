"""Everything that a gate's report is shown as; each is a pure function of the report."""

from __future__ import annotations

from typing import Any

from autoprec.gate.annotations import to_annotations
from autoprec.gate.junit import to_junit
from autoprec.gate.markdown import to_markdown
from autoprec.gate.text import headline, table, to_text
from autoprec.gate.verdict import GateReport

__all__ = ["SCHEMA", "headline", "table", "to_annotations", "to_junit", "to_markdown", "to_record", "to_text"]

SCHEMA = 1


def to_record(report: GateReport) -> dict[str, Any]:
    """The report for machines; what is text in it is as it was found, unescaped."""
    return {
        "schema": SCHEMA,
        "status": str(report.status),
        "exit_code": report.exit_code,
        "headline": headline(report),
        "model": report.model,
        "baseline": report.baseline,
        "checks": [
            {
                "name": check.name,
                "status": str(check.status),
                "baseline": check.baseline,
                "now": check.now,
                "change": check.change,
                "allowed": check.allowed,
                "sentence": check.sentence,
                "details": list(check.details),
            }
            for check in report.checks
        ],
        "changes": list(report.changes),
        "seconds": report.seconds,
    }
