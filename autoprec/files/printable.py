"""Text for a terminal: names come from files of other people, and a character in one may steer the terminal."""

from __future__ import annotations


def printable(text: str) -> str:
    r"""The same text, in which what cannot be printed is written as Python would, such as \x1b; line breaks stay."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode("ascii") for c in text)
