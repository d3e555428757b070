"""What the package promises by name exists, is documented and stays what it is."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path
from types import GenericAlias

import pytest

import autoprec

PACKAGE = Path(autoprec.__file__).parent


def declaring() -> list[str]:
    """The modules with an `__all__`, found without importing anything."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        assigned = {t.id for n in tree.body if isinstance(n, ast.Assign) for t in n.targets if isinstance(t, ast.Name)}
        if "__all__" in assigned:
            found.append(".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"))
    return found


def order(name: str) -> tuple[int, str]:
    """Constants, classes, the rest, each by name: the order that ruff's RUF022 keeps."""
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


@pytest.mark.parametrize("module", declaring())
def test_all_is_sorted_without_doubles(module: str) -> None:
    names = list(importlib.import_module(module).__all__)

    assert sorted(set(names), key=order) == names


@pytest.mark.parametrize("module", declaring())
def test_every_exported_name_resolves_and_is_documented(module: str) -> None:
    loaded = importlib.import_module(module)
    for name in loaded.__all__:
        value = getattr(loaded, name)
        alias = isinstance(value, GenericAlias)  # a class by the inspect of Python 3.10
        if not alias and (inspect.isclass(value) or inspect.isroutine(value)):
            assert (value.__doc__ or "").strip(), f"{module}.{name} has no docstring"
            assert not (value.__doc__ or "").startswith(f"{name}("), f"{module}.{name} has only the generated one"


def test_the_lazy_table_serves_exactly_the_public_names() -> None:
    assert {*autoprec._HOMES, "__version__"} == set(autoprec.__all__)
    assert set(autoprec.__all__) <= set(dir(autoprec))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'autoprec' has no attribute 'serach'"):
        autoprec.serach  # noqa: B018


@pytest.mark.parametrize("before", ["autoprec.api", "autoprec.run.tune", "autoprec.study.loop"])
def test_search_is_the_function_whatever_was_imported_before(before: str) -> None:
    """The import system would otherwise put the subpackage of the same name in its place."""
    code = f"import autoprec, {before}; assert callable(autoprec.search), autoprec.search"

    subprocess.run([sys.executable, "-c", code], check=True, timeout=600)


def test_the_version_is_the_one_installed() -> None:
    from importlib.metadata import version

    assert version("autoprec") == autoprec.__version__
