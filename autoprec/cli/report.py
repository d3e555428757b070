"""autoprec report: what a run found, as one page for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from autoprec.cli import elapsed_s
from autoprec.files.printable import printable

if TYPE_CHECKING:
    from autoprec.report.sections import Report

_PLOTS_S = 6.0
"""A run with a time limit draws the plots of its report only if so many seconds are left, as they take one or two."""


@click.command("report")
@click.argument("run")
@click.argument("other", required=False)
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "md", "json"]),
    default="html",
    show_default=True,
    help="A page of HTML, Markdown, or JSON.",
)
@click.option(
    "-o",
    "--out",
    metavar="FILE",
    help="Where to write.  [default: html of a run to report.html in RUN, all else to standard output]",
)
def command(run: str, other: str | None, *, form: str, out: str | None) -> None:
    """Write what RUN found as one page: the answer first, then the plan, its sensitivities, and where they come from.

    It needs the run directory alone, also of a run that was killed or is at work. With OTHER, the two are compared unit
    by unit: each is a run directory, a plan file, or an engine that `autoprec build` wrote.
    """
    from autoprec.run.refusals import refuse_no_folder

    if other is None:
        refuse_no_folder(Path(run))  # before importing what takes a second
    from autoprec.report.write import ReportFormat, text_of, write_report, write_run_report

    asked = ReportFormat(form)
    if out is None and other is None and asked is ReportFormat.HTML:
        click.echo(printable(f"written: {write_run_report(Path(run))}"))
        return
    report = _report(Path(run), None if other is None else Path(other))
    if out is None:
        click.echo(text_of(report, asked), nl=False)
        return
    write_report(report, asked, Path(out))
    click.echo(printable(f"written: {out}"))


def _report(run: Path, other: Path | None) -> Report:
    """The report of a run, or the comparison of two subjects."""
    from autoprec.report.comparison import comparison_of
    from autoprec.report.content import report_of
    from autoprec.report.read import read_run
    from autoprec.report.subject import read_compared

    return report_of(read_run(run)) if other is None else comparison_of(read_compared(run), read_compared(other))


def write_at_the_end(folder: Path, timeout_s: float | None) -> Path | None:
    """Write the report of a run that has just ended; whatever happens to it, the answer of the run is kept.

    Args:
        folder: the run directory.
        timeout_s: the time limit of the run, None for none.

    Returns:
        The path of the report, None where it could not be written, which is said on standard error.
    """
    try:
        from autoprec.report.write import write_run_report

        return write_run_report(folder, plots=timeout_s is None or timeout_s - elapsed_s() > _PLOTS_S)
    except ImportError as error:
        why, way = f"{error}", "`pip install jinja2`, then "
    except Exception as error:  # a report that fails must not turn a finished run into a failure
        why, way = f"{error}", ""
    click.echo(printable(f"note: no report was written ({why}); {way}`autoprec report {folder}` writes it"), err=True)
    return None
