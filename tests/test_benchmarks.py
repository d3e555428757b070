"""The benchmarks fit the package: what they import from it is there, although no test runs them."""

from __future__ import annotations

import ast
import re
from importlib import import_module
from importlib.util import find_spec

import pytest

from .helpers.source_tree import ROOT, sources

SCRIPTS = {source.path: source.text for source in sources("tests/benchmarks", "examples")}
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
SCRIPTS |= {f"README.md, snippet {number}": text for number, text in enumerate(SNIPPETS, 1)}


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


def test_every_module_that_the_readme_names_exists() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"`(autoprec(?:\.\w+)+)`", text)

    assert named
    for path in named:
        module, _, name = path.rpartition(".")
        assert hasattr(import_module(module), name), path


def test_every_file_that_the_readme_and_the_contributing_guide_name_exists() -> None:
    for page in ("README.md", ".github/CONTRIBUTING.md", "tests/benchmarks/README.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for path in re.findall(r"`((?:autoprec|tests|examples|calibration|search_spaces)/[\w./*]+)`", text):
            assert list(ROOT.glob(path.rstrip("/"))), f"{page} names {path}"
