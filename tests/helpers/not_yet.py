"""What is still being brought under the rules of the house: rule -> keys. It only shrinks, and is to be empty."""

from __future__ import annotations

NOT_YET: dict[str, set[str]] = {}
