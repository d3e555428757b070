"""Recipes in TOML: search spaces (which precisions may be chosen) and calibration (how ranges are found).

A recipe is found by name in the data packages `autoprec.search_spaces` and `autoprec.calibration`, or by the
path of a TOML file.
"""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Any

from autoprec.errors import RecipeError
from autoprec.files.toml import Table, parse_table


def packaged_names(package: str) -> dict[str, str]:
    """The TOML texts of a data package by name; from a folder or from within a zipped wheel."""
    try:
        entries = list(_data_folder(package).iterdir())
    except (ModuleNotFoundError, FileNotFoundError, NotADirectoryError) as error:
        raise RecipeError(
            f"the recipes of {package} are not installed; "
            f"install autoprec with pip, or a checkout of it with pip install -e ."
        ) from error
    return {e.name.removesuffix(".toml"): e.read_text("utf-8") for e in entries if e.name.endswith(".toml")}


def _data_folder(package: str) -> Any:
    """The installed package; or its folder in a checkout that is only on the path, installed by nobody."""
    try:
        return resources.files(package)
    except ModuleNotFoundError:
        checkout = Path(__file__).resolve().parents[2]
        if not (checkout / "pyproject.toml").is_file():  # beside an installed package lies somebody else's folder
            raise
        return checkout / package.rpartition(".")[2]


def read_recipe(source: str | Path, package: str, what: str) -> tuple[str, Table]:
    """Name and table of a recipe: a plain word is a name, anything like a path is a file."""
    path = Path(source)
    if isinstance(source, Path) or path.suffix == ".toml" or path.name != source:
        try:
            return path.stem, parse_table(path.read_text(encoding="utf-8"), str(source))
        except OSError as error:
            raise RecipeError(f"cannot read the {what} {source}: {error.strerror or error}") from error
        except UnicodeDecodeError as error:
            raise RecipeError(f"the {what} {source} must be a TOML file in UTF-8: {error}") from error
    texts = packaged_names(package)
    if source not in texts:
        close = difflib.get_close_matches(source, texts, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise RecipeError(
            f"there is no {what} {source!r}; {hint}Available are {', '.join(sorted(texts))}, "
            f"or give the path of a .toml file"
        )
    return source, parse_table(texts[source], f"{package}/{source}.toml")
