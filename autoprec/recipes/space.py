"""Search spaces: which precisions may be chosen, and which units are pinned."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from autoprec.errors import UsageError
from autoprec.files.toml import Table
from autoprec.precision import FLOATS, Precision, parse_precision
from autoprec.recipes.packaged import packaged_names, read_recipe

_SPACES = "autoprec.search_spaces"
_SPACE_KEYS = ("description", "precisions", "carrier", "backend", "pins")
_PIN_KEYS = ("pattern", "precision")


@dataclass(frozen=True, slots=True)
class Pin:
    """A precision that the user fixes for every unit whose name the regular expression finds."""

    pattern: str
    precision: Precision

    def matches(self, name: str) -> bool:
        """Whether the pattern occurs anywhere in `name`; anchor it with ^ and $ to match the whole."""
        return re.search(self.pattern, name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """Which precisions a search may choose from.

    Attributes:
        name: the recipe's name.
        description: one sentence for people.
        precisions: the candidates of every unit.
        carrier: the float precision of tensors between units, and of all that no unit covers.
        backend: the backend that the space is made for, or None for any.
        pins: precisions fixed in the recipe.
    """

    name: str
    description: str
    precisions: tuple[Precision, ...]
    carrier: Precision
    backend: str | None = None
    pins: tuple[Pin, ...] = ()


def parse_pin(text: str) -> Pin:
    """The pin written as "REGEX=PRECISION"; the last equals sign divides.

    Raises:
        UsageError: there is no equals sign, the expression is broken, or the precision is unknown.
    """
    pattern, divider, precision = text.rpartition("=")
    if not divider or not pattern:
        raise UsageError(f"a pin must have the form REGEX=PRECISION, such as '^/head/=fp32', got {text!r}")
    try:
        re.compile(pattern)
    except re.error as error:
        raise UsageError(
            f"a pin must start with a valid regular expression, got {pattern!r}: {error}; "
            f"put a backslash before characters that stand for themselves"
        ) from error
    return Pin(pattern, parse_precision(precision))


def search_space_names() -> tuple[str, ...]:
    """Names of the search spaces that come with autoprec.

    Raises:
        RecipeError: the data package is not installed.
    """
    return tuple(sorted(packaged_names(_SPACES)))


def load_search_space(source: str | Path) -> SearchSpace:
    """The search space of that name, or in that TOML file.

    Raises:
        RecipeError: no such name or file, no TOML, an unknown key, or a value of the wrong type or range.
    """
    name, table = read_recipe(source, _SPACES, "search space")
    table.allow(_SPACE_KEYS)
    precisions = _precisions(table)
    carrier = Precision(table.choice("carrier", [p.value for p in FLOATS]))
    if carrier not in precisions:
        raise table.refuse("carrier", "one of the float types in 'precisions'")
    return SearchSpace(
        name=name,
        description=table.text("description", ""),
        precisions=precisions,
        carrier=carrier,
        backend=table.text("backend") if "backend" in table else None,
        pins=tuple(map(_pin, table.tables("pins"))),
    )


def _precisions(table: Table) -> tuple[Precision, ...]:
    text = table.items("precisions")
    names = [p.value for p in Precision]
    if not text or any(word not in names for word in text) or len(set(text)) < len(text):
        raise table.refuse("precisions", "a list of different precisions out of " + ", ".join(names))
    return tuple(map(Precision, text))


def _pin(table: Table) -> Pin:
    table.allow(_PIN_KEYS)
    pattern = table.text("pattern")
    try:
        re.compile(pattern)
    except re.error as error:
        raise table.refuse("pattern", f"a valid regular expression ({error})") from error
    return Pin(pattern, Precision(table.choice("precision", [p.value for p in Precision])))
