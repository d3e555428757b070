"""Search spaces: which precisions may be chosen, and which units are pinned."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from autoprec.errors import UsageError
from autoprec.files.toml import Table
from autoprec.precision import CARRIERS, CHOSEN, Precision, parse_precision
from autoprec.recipes.packaged import packaged_names, read_recipe

_SPACES = "autoprec.search_spaces"
_SPACE_KEYS = ("description", "precisions", "carrier", "backend", "pins", "products")
_PIN_KEYS = ("pattern", "precision")


@dataclass(frozen=True, slots=True)
class Pin:
    """A precision that the user fixes for some units.

    Attributes:
        pattern: a regular expression; the pin holds for every unit in whose name it occurs.
        precision: the precision of these units.
    """

    pattern: str
    precision: Precision

    def matches(self, name: str) -> bool:
        """Return whether the pattern occurs anywhere in `name`; write ^ and $ in it to match the whole name."""
        return re.search(self.pattern, name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSpace:
    """The precisions that a search may choose from.

    Attributes:
        name: the name of the recipe.
        description: one sentence that tells people what the recipe is for.
        precisions: the precisions that every unit may have.
        carrier: the float precision of the tensors between units and of everything that is in no unit.
        backend: the name of the backend that the space is made for, or None for any backend.
        pins: the precisions that the recipe fixes.
        products: the name of the space that is taken in its place by default where the work of a model lies in matrix
            products, or None.
    """

    name: str
    description: str
    precisions: tuple[Precision, ...]
    carrier: Precision
    backend: str | None = None
    pins: tuple[Pin, ...] = ()
    products: str | None = None


def parse_pin(text: str) -> Pin:
    """Return the pin that is written as "REGEX=PRECISION"; the expression may contain equals signs itself.

    Raises:
        UsageError: there is no equals sign, the regular expression is invalid, or the precision is unknown.
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
    """Return the names of the search spaces that come with autoprec, sorted.

    Raises:
        RecipeError: the data package is not installed.
    """
    return tuple(sorted(packaged_names(_SPACES)))


def load_search_space(source: str | Path) -> SearchSpace:
    """Load the search space of that name, or the one in that TOML file.

    Raises:
        RecipeError: there is no such recipe, the file is not TOML, a key is unknown, or a value has the wrong type or
            is out of range.
    """
    name, table = read_recipe(source, _SPACES, "search space")
    table.allow(_SPACE_KEYS)
    precisions = _precisions(table)
    carrier = Precision(table.choice("carrier", [p.value for p in CARRIERS]))
    if carrier not in precisions:
        raise table.refuse("carrier", "one of the float types in 'precisions'")
    return SearchSpace(
        name=name,
        description=table.text("description", ""),
        precisions=precisions,
        carrier=carrier,
        backend=table.text("backend") if "backend" in table else None,
        pins=tuple(map(_pin, table.tables("pins"))),
        products=table.text("products") if "products" in table else None,
    )


def _precisions(table: Table) -> tuple[Precision, ...]:
    given = table.items("precisions")
    names = [p.value for p in CHOSEN]
    if not given or any(name not in names for name in given) or len(set(given)) < len(given):
        raise table.refuse("precisions", "a list of different precisions out of " + ", ".join(names))
    return tuple(map(Precision, given))


def _pin(table: Table) -> Pin:
    table.allow(_PIN_KEYS)
    pattern = table.text("pattern")
    try:
        re.compile(pattern)
    except re.error as error:
        raise table.refuse("pattern", f"a valid regular expression ({error})") from error
    return Pin(pattern, Precision(table.choice("precision", [p.value for p in CHOSEN])))
