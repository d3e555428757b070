"""Where recipes are found: by name in a data package of autoprec, or by the path of a TOML file.

The data packages are `autoprec.search_spaces` (which precisions may be chosen) and `autoprec.calibration` (how ranges
are found). They are named in strings only, since type checkers do not see them in a development install.
"""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Any

from autoprec.errors import RecipeError
from autoprec.files.toml import Table, parse_table


def packaged_names(package: str) -> dict[str, str]:
    """Return the TOML texts of a data package by name.

    The package may be a folder or lie inside a zipped wheel.

    Raises:
        RecipeError: the data package is not installed.
    """
    try:
        entries = list(_data_folder(package).iterdir())
    except (ModuleNotFoundError, FileNotFoundError, NotADirectoryError) as error:
        raise RecipeError(
            f"the recipes of {package} are not installed; "
            f"install autoprec with pip, or a checkout of it with pip install -e ."
        ) from error
    return {e.name.removesuffix(".toml"): e.read_text("utf-8") for e in entries if e.name.endswith(".toml")}


def _data_folder(package: str) -> Any:
    """Return the folder of the data package, also in a checkout that is on `sys.path` without being installed."""
    try:
        return resources.files(package)
    except ModuleNotFoundError:
        checkout = Path(__file__).resolve().parents[2]
        # In an installation this is site-packages, where a folder of that name would belong to another project.
        if not (checkout / "pyproject.toml").is_file():
            raise
        return checkout / package.rpartition(".")[2]


def read_recipe(source: str | Path, package: str, what: str) -> tuple[str, Table]:
    """Return the name and the table of a recipe.

    Args:
        source: a name without a folder and without ".toml", or the path of a file.
        package: the data package that holds the recipes of this kind.
        what: the name of the kind of recipe in messages, such as "search space".

    Raises:
        RecipeError: there is no such recipe or file, or it is not TOML.
    """
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
