"""Writes the report of a run directory."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from autoprec.errors import UsageError
from autoprec.files.inventory import Inventory
from autoprec.files.json import as_json, write_bytes
from autoprec.report.content import report_of
from autoprec.report.markdown import markdown
from autoprec.report.page import page
from autoprec.report.read import read_run
from autoprec.report.sections import Report
from autoprec.run.directory import RunDirectory


class ReportFormat(str, Enum):
    """The formats of a report."""

    HTML = "html"
    MARKDOWN = "md"
    JSON = "json"

    def __str__(self) -> str:
        return self.value


def write_run_report(root: Path, *, plots: bool = True) -> Path:
    """Write report.html into a run directory and return its path.

    Args:
        root: the run directory.
        plots: whether it has plots, which take about a second.

    Raises:
        RunDirectoryError: it is no run directory, cannot be written, or has a report.html that autoprec did not write.
    """
    directory = RunDirectory(root)
    directory.inventory.refuse_foreign([directory.report.name])
    text = page(report_of(read_run(root)), plots=plots)
    with directory.inventory.replacing(directory.report.name):
        write_bytes(directory.report, text.encode())
    return directory.report


def write_report(report: Report, form: ReportFormat, path: Path) -> None:
    """Write a report to a file that the user names.

    Raises:
        RunDirectoryError: it cannot be written, or autoprec did not write the file that is there.
    """
    with Inventory(path.parent).replacing(path.name):
        write_bytes(path, text_of(report, form).encode())


def text_of(report: Report, form: ReportFormat) -> str:
    """The report in one of the formats.

    Raises:
        UsageError: the format is none of them.
    """
    if form is ReportFormat.HTML:
        return page(report)
    if form is ReportFormat.MARKDOWN:
        return markdown(report)
    if form is ReportFormat.JSON:
        return as_json(report.to_record(), indent=1) + "\n"
    raise UsageError(f"a report must be {', '.join(map(str, ReportFormat))}, got {form!r}")
