"""A gate's report in Markdown, for a job summary or a comment (CommonMark with GitHub's tables)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from autoprec.gate.text import WORDS, explanations, headline, plain, plain_lines, subject, table
from autoprec.gate.verdict import GateReport

_BREAK = "<!-- -->"
"""A comment shows nothing, and parts a text so that GitHub sees no mention, reference, link or emoji in it."""
_LINKING = re.compile(
    r"@(?=[A-Za-z0-9])"  # a mention, or an address
    r"|(?<!&)#(?=\d)|\bGH-(?=\d)"  # an issue
    r"|:(?=//)|\bwww(?=\.)"  # a link
    r"|:(?=[\w+\\-]+:)",  # an emoji
    re.IGNORECASE,
)
_COMMIT = re.compile(r"\b(?=\d*[a-f])[0-9a-f]{7,40}\b", re.IGNORECASE)
_SPECIAL = re.compile(r"[\\`*_\[~$]")
_BLOCK_START, _ESCAPED_START = re.compile(r"^(\d*)([-+#.)])"), r"\1\\\2"
# A backslash would do for most readers, but not before a pipe that follows a backslash.
_ENTITIES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"})


def to_markdown(report: GateReport) -> str:
    """A heading with the verdict, the table, what to do, and what has changed; ends with a line break."""
    header, rows = table(report)
    blocks = [f"### Precision gate: {WORDS[report.status]}", escape(f"{headline(report)}.")]
    if rows:
        blocks.append("\n".join([_row(header), _row(["---"] * len(header)), *(_row(map(escape, row)) for row in rows)]))
    points = [
        line
        for check, details in explanations(report)
        for line in (f"- **{escape(check.name)}**: {escape(check.sentence)}", *map(_point, details))
    ]
    if report.changes:
        points += ["- Changed since the baseline:", *map(_point, plain_lines(report.changes))]
    if points:
        blocks.append("\n".join(points))
    blocks.append(f"Judged {escape(subject(report))}.")
    return "\n\n".join(blocks) + "\n"


def escape(text: str) -> str:
    """`text` on one line, such that a reader of Markdown shows exactly it, in a table too, and links nothing."""
    marked = _SPECIAL.sub(r"\\\g<0>", plain(text).translate(_ENTITIES))
    parted = _COMMIT.sub(lambda found: _BREAK.join(re.findall(".{1,4}", found[0])), marked)
    return _LINKING.sub(rf"\g<0>{_BREAK}", parted)


def _point(text: str) -> str:
    """A nested point of a list; what would begin a heading or a list of its own is kept from it."""
    return f"  - {_BLOCK_START.sub(_ESCAPED_START, escape(text))}"


def _row(cells: Sequence[str] | map[str]) -> str:
    return f"| {' | '.join(cells)} |"
