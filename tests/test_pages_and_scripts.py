"""What the benchmarks, examples and pages say of the package is true: the modules, names and files exist."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from importlib.util import find_spec

import pytest

from .helpers.source_tree import PACKAGE, ROOT, sources

SCRIPTS = {source.path: source.text for source in sources("tests/benchmarks", "examples")}
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for folder in ("*.md", ".github/*.md", "examples/**/*.md", "tests/**/*.md")
    for path in sorted(ROOT.glob(folder))
}
SCRIPTS |= {
    f"{page}, snippet {number}": text
    for page, content in PAGES.items()
    for number, text in enumerate(re.findall(r"```python\n(.*?)```", content, re.DOTALL), 1)
}


def imported(text: str) -> list[tuple[str, str]]:
    """Each module of autoprec or its test helpers that a script imports, anywhere in it, with each name from it."""
    found = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found += [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
    return [(module, name) for module, name in found if module.split(".")[0] == "autoprec"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_a_script_imports_exists(script: str) -> None:
    for module, name in imported(SCRIPTS[script]):
        loaded = import_module(module)
        assert not name or hasattr(loaded, name) or find_spec(f"{module}.{name}"), f"{module} has no {name}"


@pytest.mark.parametrize("page", PAGES)
def test_every_name_in_the_package_that_a_page_mentions_exists(page: str) -> None:
    for path in re.findall(r"`(autoprec(?:\.\w+)+)`", PAGES[page]):
        module, _, name = path.rpartition(".")
        assert hasattr(import_module(module), name) or find_spec(path), path


@pytest.mark.parametrize("page", PAGES)
def test_every_file_of_the_checkout_that_a_page_names_exists(page: str) -> None:
    for path in re.findall(r"(?<![\w/])((?:autoprec|tests|calibration|search_spaces)/[\w./*-]*[\w*/])", PAGES[page]):
        assert list(ROOT.glob(path.rstrip("/"))), path


def test_the_map_shows_every_package_and_module_at_the_top() -> None:
    told = PAGES[".github/MAP.md"]
    things = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}

    assert things
    assert [name for name in sorted(things) if f" {name}/" not in told] == []


def test_the_readme_can_be_read_in_a_few_minutes() -> None:
    assert len(PAGES["README.md"].encode()) <= 8192
