"""What a JSON record is made of, and what it lacks that an earlier one had."""

from __future__ import annotations

from typing import Any


def shape(value: Any) -> Any:
    """What a JSON record is made of; numbers are alike, and lists have the shape of what is in them."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def unit_free(record: dict[str, Any]) -> dict[str, Any]:
    """A record with only the keys of its verification: what is known of each unit is up to the plan and the runtime."""
    return {**record, "verification": dict.fromkeys(record["verification"], 0)}


def lost(old: Any, new: Any, place: str = "") -> list[str]:
    """Where a record lacks what another had, or has something of another kind; null may stand for anything."""
    if isinstance(old, dict) and isinstance(new, dict):
        gone = [f"{place}/{key}" for key in old if key not in new]
        return gone + [row for key in old if key in new for row in lost(old[key], new[key], f"{place}/{key}")]
    if isinstance(old, list) and isinstance(new, list):
        return lost(old[0], new[0], f"{place}[]") if old and new else []
    return [] if old == new or "NoneType" in (old, new) else [f"{place}: {old}, now {new}"]
