"""Counts in words."""

from __future__ import annotations


def told(count: int, one: str, many: str) -> str:
    """The number with the words for one thing, or for any other number of them."""
    return f"{count:,} {one if count == 1 else many}"
