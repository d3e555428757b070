"""The site of the documentation: the README, the guides beside their examples, and the reference from docstrings.

    pip install '.[docs]'
    sphinx-build -W --keep-going -c .github/docs -b html . site

The pages stay where they are, so that their links work on the site, in a checkout and on GitHub alike.
"""

from __future__ import annotations

from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "autoprec"
author = "the contributors of autoprec"
release = version = version_of("autoprec")
language = "en"

ROOT = Path(__file__).resolve().parents[2]
FIRST = ["digits", "report", "metrics", "front", "tracking", "ci", "workers", "tensorrt", "backend", "repair"]
GUIDES = FIRST + sorted({page.parent.name for page in ROOT.glob("examples/*/README.md")} - set(FIRST))
ABOUT = ["METHOD", "CHANGELOG", "MAP", "CONTRIBUTING", "SECURITY", "LICENCES"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
root_doc = "README"
include_patterns = [
    "README.md",
    "examples/*/README.md",
    ".github/*.md",
    ".github/docs/*.md",
    "tests/benchmarks/README.md",
]
myst_heading_anchors = 4
default_role = "literal"  # docstrings write names between single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # a record's fields are described by its docstring, and need no entries of their own
html_theme = "furo"
html_title = f"autoprec {release}"
html_extra_path = ["index.html"]


def setup(app: Sphinx) -> None:
    """Give the site a table of contents, which the README does without."""
    app.connect("source-read", _add_contents)


def _add_contents(_app: Sphinx, page: str, source: list[str]) -> None:
    if page != root_doc:
        return
    chapters = {
        "Guides": [f"examples/{name}/README" for name in GUIDES],
        "Reference": [".github/docs/reference", ".github/docs/commands"],
        "About": [*(f".github/{name}" for name in ABOUT), "tests/benchmarks/README"],
    }
    for caption, pages in chapters.items():
        entries = "\n".join(pages)
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{entries}\n```\n"
