"""Nothing is found by what a name looks like: "x/scale" may be a user's weight, and need not belong to "x"."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "autoprec"
ALLOWED = {
    "backends/ort.py": "a runtime's kernels tell their origin by their names alone",
    "backends/tensorrt/nodes.py": "a runtime's layers tell their origin by their names alone",
}
SEARCHES = frozenset(
    {"removesuffix", "removeprefix", "endswith", "startswith", "split", "rsplit", "partition", "rpartition", "find"}
    | {"rfind", "index", "rindex"}
)


def findings(source: str) -> Iterator[int]:
    """Lines that take a name apart at a slash, or look a composed name up."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            looked_up = node.func.attr == "get" and any(is_composed(argument) for argument in node.args[:1])
            if looked_up or (node.func.attr in SEARCHES and any(has_slash(argument) for argument in node.args)):
                yield node.lineno
        elif isinstance(node, ast.Compare) and any(isinstance(op, ast.In | ast.NotIn) for op in node.ops):
            if has_slash(node.left) or is_composed(node.left):
                yield node.lineno
        elif isinstance(node, ast.Subscript) and is_composed(node.slice):
            yield node.lineno


def has_slash(node: ast.expr) -> bool:
    """Whether a literal holds a slash and something else; the address of a storage is no name."""
    return any(
        isinstance(part, ast.Constant) and isinstance(part.value, str) and "/" in part.value.replace("://", "") != "/"
        for part in ast.walk(node)
    )


def is_composed(node: ast.expr) -> bool:
    """Whether the text is put together from a name and a suffix or prefix with a slash."""
    return isinstance(node, ast.JoinedStr | ast.BinOp) and any(
        isinstance(part, ast.Constant) and isinstance(part.value, str) and "/" in part.value for part in ast.walk(node)
    )


def test_no_module_finds_a_value_by_a_part_of_its_name() -> None:
    modules = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
    found = {name: list(findings(path.read_text(encoding="utf-8"))) for name, path in modules.items()}

    assert {name: lines for name, lines in found.items() if lines and name not in ALLOWED} == {}


@pytest.mark.parametrize(
    "line",
    [
        'str(node.name).removesuffix("/quantize")',
        'name.split("/round_")[0]',
        '"/dequantize" in name',
        'f"{name}/raw" in names',
        'names[f"{name}/exact"]',
        'graph.initializers.get(f"{name}/scale")',
        'names[name + "/behind"]',
    ],
)
def test_what_is_forbidden_is_found(line: str) -> None:
    assert list(findings(line)) == [1]
