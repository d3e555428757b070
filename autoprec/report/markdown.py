"""A report as Markdown, for pull requests and wikis."""

from __future__ import annotations

from autoprec.files.printable import printable
from autoprec.report.sections import Report, Section, Table, shown

_MOST_ROWS = 200


def markdown(report: Report) -> str:
    """The report as GitHub-flavoured Markdown; long tables are cut, as JSON and HTML have them whole."""
    lines = [f"# {escaped(report.title)}", "", escaped(report.state), ""]
    lines += [f"- **{escaped(card.title)}: {escaped(card.figure)}.** {escaped(card.text)}" for card in report.cards]
    for section in report.sections:
        lines += ["", f"## {escaped(section.title)}", "", *_body(section)]
    return "\n".join([*lines, "", f"Written by autoprec {escaped(report.written_by)}.", ""])


def _body(section: Section) -> list[str]:
    lines = [line for note in section.notes for line in (escaped(note), "")]
    if section.code:
        lines += [f"    {line}" for line in printable(section.code).splitlines()] + [""]
    return [*lines, *([] if section.table is None else _rows(section.table))]


def _rows(table: Table) -> list[str]:
    titles = [escaped(f"{c.title}, {c.unit}" if c.unit else c.title) for c in table.columns]
    lines = [
        f"| {' | '.join(titles)} |",
        "|" + "|".join("--:" if c.form.numeric else "---" for c in table.columns) + "|",
    ]
    for row in table.rows[:_MOST_ROWS]:
        cells = [escaped(shown(cell, column.form)) for cell, column in zip(row, table.columns, strict=True)]
        lines.append(f"| {' | '.join(cells)} |")
    left = len(table.rows) - _MOST_ROWS
    return [*lines, *([f"\n{left:,} more rows are in the HTML and JSON reports."] if left > 0 else [])]


def escaped(text: str) -> str:
    """A text in which no character means anything to Markdown or HTML."""
    text = printable(" ".join(text.split())).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{c}" if c in "\\`*_[]|~#!" else c for c in text)
