"""The project's own Python files, read and parsed once, for the tests of its structure."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "autoprec"


@dataclass(frozen=True)
class Source:
    """One Python file.

    Attributes:
        path: its path from the root of the checkout, with slashes.
        text: its content.
    """

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def is_test(self) -> bool:
        """Whether pytest calls the functions in it, by the names of their parameters."""
        return self.path.rpartition("/")[2].startswith(("test_", "conftest"))

    @property
    def module(self) -> str:
        """The dotted name without "autoprec.", the package itself as ""."""
        parts = Path(self.path).with_suffix("").parts[1:]
        return ".".join(parts[:-1] if parts and parts[-1] == "__init__" else parts)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """All nodes of the tree, in no order that matters."""
        return tuple(ast.walk(self.tree))

    def classes(self) -> Iterator[ast.ClassDef]:
        return (node for node in self.nodes if isinstance(node, ast.ClassDef))

    def functions(self) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        """Each function with its dotted name within the file: "Class.method", "outer.inner"."""
        return iter(self._functions)

    @cached_property
    def _functions(self) -> tuple[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef], ...]:
        return tuple(_functions(self.tree, ""))


def _functions(parent: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield f"{prefix}{node.name}", node
            yield from _functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")
        elif not isinstance(node, ast.expr):
            yield from _functions(node, prefix)


@cache
def sources(*folders: str) -> tuple[Source, ...]:
    """The Python files below these folders of the checkout, sorted."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return tuple(Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths)


def modules() -> dict[str, Path]:
    """The dotted name of each module without "autoprec.", the package itself as "", and its file."""
    return {source.module: ROOT / source.path for source in sources("autoprec")}
