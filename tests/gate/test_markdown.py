"""What GitHub makes of a report in Markdown, which is posted as a comment."""

from __future__ import annotations

import html
import re

import pytest

from autoprec.gate.markdown import escape

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LINKING = r"@[A-Za-z0-9]|#\d|GH-\d|://|www\.|\b[0-9a-f]{7,40}\b|:\w+:"


@pytest.mark.parametrize(
    "name",
    [
        *("@octocat/stem", "#1", "a#23", "GH-12", "gh-7", "https://x.y", "www.x.y", "me@x.y", "org/repo#4", "0a1b2c3"),
        *(f"conv.{COMMIT}", f"org/repo@{COMMIT}", ":smile:", "@<!-- -->octocat", "`@octocat`", "[x](https://y.z)"),
    ],
)
def test_nothing_in_a_name_becomes_a_mention_a_link_or_an_emoji(name: str) -> None:
    marked = re.sub(r"\\([^\w\s])", r"\1", escape(name))  # as a reader of Markdown takes it
    parts = [html.unescape(part) for part in marked.split("<!-- -->")]  # comments show nothing and part the text

    assert "".join(parts) == name
    assert not [part for part in parts if re.search(LINKING, part, re.IGNORECASE)]
