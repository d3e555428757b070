"""TOML tables that are read key by key: an unknown key, a wrong type or a value out of range is an error."""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from autoprec.errors import RecipeError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


_LONGEST = 1 << 20
_LARGEST = 1 << 63


def parse_table(text: str, origin: str) -> Table:
    """Return the top-level table of a TOML document.

    Args:
        text: the document.
        origin: the name of the document in messages, such as its path.

    Raises:
        RecipeError: the text is not TOML, or it is far larger or nested far deeper than any recipe.
    """
    if len(text) > _LONGEST:
        raise RecipeError(f"{origin} must be a TOML file of at most {_LONGEST:,} characters, got {len(text):,}")
    try:
        return Table(tomllib.loads(text), origin)
    except (ValueError, OverflowError) as error:
        raise RecipeError(f"{origin} must be a TOML file: {error}") from error
    except RecursionError as error:
        raise RecipeError(f"{origin} must be a TOML file, but it is nested too deeply") from error


class Table:
    """One TOML table.

    Every getter raises a RecipeError if the value is missing or wrong. The message names the key, what was found and
    what is allowed.
    """

    def __init__(self, values: Mapping[str, Any], origin: str, name: str = "") -> None:
        """Wrap a table.

        Args:
            values: the parsed table.
            origin: the name of the document in messages.
            name: the key of this table in the document, empty for the top level.
        """
        self._values = values
        self._where = f"the table [{name}] of {origin}" if name else origin
        self._origin = origin

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def allow(self, keys: Sequence[str]) -> None:
        """Check that the table has no other keys than `keys`.

        Raises:
            RecipeError: there is another key; the message suggests the one that was probably meant.
        """
        for key in self._values:
            if key not in keys:
                close = difflib.get_close_matches(key, keys, n=1)
                hint = f"did you mean {close[0]!r}? " if close else ""
                raise RecipeError(f"unknown key {key!r} in {self._where}; {hint}The allowed keys are {', '.join(keys)}")

    def refuse(self, key: str, condition: str) -> RecipeError:
        """Return the error for a value that is not `condition`, such as "a number above 0"."""
        if key not in self._values:
            return RecipeError(f"{key!r} is missing in {self._where}; it must be {condition}")
        return RecipeError(f"{key!r} in {self._where} must be {condition}, got {self._values[key]!r}")

    def text(self, key: str, default: str | None = None) -> str:
        """Return a string."""
        value = self._values.get(key, default)
        if not isinstance(value, str):
            raise self.refuse(key, "a string")
        return value

    def choice(self, key: str, allowed: Sequence[str], default: str | None = None) -> str:
        """Return one of the strings `allowed`, spelt as there; the file may use capital letters differently."""
        value = self._values.get(key, default)
        if isinstance(value, str):
            for candidate in allowed:
                if candidate.lower() == value.lower():
                    return candidate
        raise self.refuse(key, "one of " + ", ".join(repr(candidate) for candidate in allowed))

    def integer(self, key: str, default: int, low: int) -> int:
        """Return an integer of at least `low`."""
        value = self._values.get(key, default)
        if not is_integer(value) or value < low:
            raise self.refuse(key, f"an integer of at least {low}")
        return int(value)

    def number(self, key: str, default: float, low: float, high: float = math.inf) -> float:
        """Return a finite number with `low` < number <= `high`."""
        value = self._values.get(key, default)
        if not is_number(value) or not low < value <= high:
            bound = f" and at most {high:g}" if math.isfinite(high) else ""
            raise self.refuse(key, f"a number above {low:g}{bound}")
        return float(value)

    def items(self, key: str, default: Sequence[Any] | None = None) -> list[Any]:
        """Return a list."""
        value = self._values.get(key, default)
        if not isinstance(value, (list, tuple)):
            raise self.refuse(key, "a list")
        return list(value)

    def table(self, key: str) -> Table:
        """Return a table inside this one."""
        value = self._values.get(key)
        if not isinstance(value, dict):
            raise self.refuse(key, "a table")
        return Table(value, self._origin, key)

    def tables(self, key: str) -> list[Table]:
        """Return the list of tables under a key, which is empty if the key is missing."""
        values = self.items(key, ())
        if not all(isinstance(value, dict) for value in values):
            raise self.refuse(key, f"a list of tables, written [[{key}]]")
        return [Table(value, self._origin, f"{key}[{number}]") for number, value in enumerate(values)]

    def value(self, key: str) -> Any:
        """Return the value as it was parsed, or None if the key is missing."""
        return self._values.get(key)


def is_integer(value: object) -> bool:
    """Return whether a TOML value is an integer of 64 bits. A boolean is not, although Python counts it as one."""
    return isinstance(value, int) and not isinstance(value, bool) and -_LARGEST <= value < _LARGEST


def is_number(value: object) -> bool:
    """Return whether a TOML value is a finite integer or float."""
    return is_integer(value) or (isinstance(value, float) and math.isfinite(value))
