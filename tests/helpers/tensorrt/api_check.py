"""Checks the sources that call TensorRT against type stubs of one or several versions, with mypy.

What those sources get from TensorRT is `Any` to them, since its module is chosen when they run. So they are copied,
each `Any` is replaced by the class that a table names for it, and each look-up by name (`getattr`, `Bindings.require`)
by what is looked up. An `Any` that the table lacks is an error: nothing new goes unchecked.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from .api_stubs import Names, stub

PACKAGE = "autoprec.backends.tensorrt"
_BY_NAME = ("getattr", "hasattr")
_OF_ENUMS = ("member", "require")  # methods of autoprec.backends.tensorrt.bindings.Bindings
_MODULES = ("module", "_module")  # what the sources call TensorRT's module
_LIMIT_S = 120
_SELF = ("self", "_self")
_NO_HANDLES = ("Mapping", "Popen", "dict", "dtype")  # dict[str, Any] is JSON, dtype[Any] is NumPy's
_FUTURE = "from __future__ import annotations\n"

Annotations = Mapping[str, str]
"""Where an `Any` or another placeholder stands, such as "Loaded.engine" or "load.return" -> the type to check for."""


Edit = tuple[tuple[int, int], tuple[int, int], str]
"""From (line, column) to (line, column), in UTF-8 bytes -> what stands there instead."""


class Unchecked(Exception):
    """An annotation that the table says nothing about."""


def check(
    sources: Mapping[str, str],
    annotations: Mapping[str, Annotations],
    apis: Mapping[str, Names],
    unused: Mapping[str, Collection[str]],
    folder: Path,
) -> dict[str, list[str]]:
    """Compare sources with what versions of TensorRT offer.

    Args:
        sources: file name -> text, of modules of one package.
        annotations: file name -> its part of the table.
        apis: version -> its names.
        unused: version -> dotted names that the sources do not use with it.
        folder: empty, for the copies.

    Returns:
        Version -> mypy's errors, as "file:line: error: words".
    """
    packages = {version: re.sub(r"\W", "_", f"on_{version}") for version in apis}
    for version, package in packages.items():
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
        (folder / package / "trt.pyi").write_text(stub(apis[version], unused.get(version, ())))
        for name, text in sources.items():
            (folder / package / name).write_text(_rewritten(name, text, annotations.get(name, {}), package))
    # No --strict-optional: most functions of the bindings return None where they fail, which no docstring says.
    options = (
        "--config-file=",
        "--no-site-packages",
        "--ignore-missing-imports",
        "--no-strict-optional",
        "--no-error-summary",
        "--hide-error-context",
        "--no-color-output",
        "--cache-dir=cache",
    )
    command = [sys.executable, "-m", "mypy", *options]
    for package in packages.values():
        command += ["-p", package]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    assert done.returncode in (0, 1), f"mypy cannot read the copies:\n{done.stdout}{done.stderr}"
    lines = [line for line in done.stdout.splitlines() if ": error: " in line and "/trt.pyi:" not in line]
    return {
        version: [line[len(package) + 1 :] for line in lines if line.startswith(f"{package}/")]
        for version, package in packages.items()
    }


def placeholders(text: str) -> set[str]:
    """Where a source says `Any`, without those that hold a whole module or no object of TensorRT's."""
    return {place for place, _ in _placeholders(ast.parse(text), ("Any",))}


def overrides(text: str, method: str) -> list[int]:
    """How many parameters, without self, the functions of this name take that a source gives to TensorRT to call."""
    functions = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef))
    parameters = [[argument.arg for argument in node.args.args] for node in functions if node.name == method]
    return [len(names) - 1 for names in parameters if names and names[0] in _SELF]


def unknown_names(text: str) -> Counter[str]:
    """How often a source looks up what is only known when it runs: by the enum, or by the function that is called."""
    found: Counter[str] = Counter()
    for node in ast.walk(ast.parse(text)):
        called, names = _lookup(node)
        if called and not names[-1]:
            found[names[0] if len(names) == 2 and names[0] else called] += 1
    return found


def capitals(text: str) -> set[str]:
    """Quoted words such as "HALF", which are names of members of TensorRT's enums."""
    constants = (node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant))
    return {value for value in constants if isinstance(value, str) and re.fullmatch(r"[A-Z][A-Z0-9_]+", value)}


def _rewritten(name: str, text: str, annotations: Annotations, package: str) -> str:
    """Give a source the types of the table; every line keeps its number."""
    tree = ast.parse(text)
    generic = {place for place in annotations if place[0].isupper() and "." not in place}
    edits: list[Edit] = []
    for place, found in _placeholders(tree, ("Any", *generic)):
        known = annotations.get(place, annotations.get(found.id) if found.id in generic else None)
        if known is None:
            raise Unchecked(f"{name} has an Any at {place}; say in the test which class of TensorRT it is")
        edits.append((_start(found), _end(found), known))
    for node in ast.walk(tree):
        edits += _edits(node)
    lines = [line.encode() for line in text.splitlines(keepends=True)]
    for (line, column), (last, end), new in sorted(edits, reverse=True):
        kept = lines[last - 1][end:]
        lines[line - 1 : last] = [lines[line - 1][:column] + new.encode() + kept, *[b"\n"] * (last - line)]
    written = b"".join(lines).decode().replace(f"from {PACKAGE}.", f"from {package}.").replace("# type: ignore", "#")
    return written.replace(_FUTURE, _FUTURE.rstrip() + f"; from {package} import trt\n", 1)


def _edits(node: ast.AST) -> list[Edit]:
    """Replace what stands for TensorRT's module, and what is looked up by name."""
    edits: list[Edit] = []
    called, names = _lookup(node)
    inner = node.value if isinstance(node, ast.Attribute) else None
    if isinstance(node, ast.Call) and called == "require" and all(names):
        edits.append((_start(node), _end(node), "trt." + ".".join(map(str, names))))
    elif isinstance(node, ast.Call) and called in _BY_NAME and names[0] and not names[0].startswith("__"):
        inner = node.args[0]
        edits += [(_start(node), _start(inner), "("), (_end(inner), _end(node), f").{names[0]}")]
    name = inner.id if isinstance(inner, ast.Name) else inner.attr if isinstance(inner, ast.Attribute) else ""
    if inner and name in _MODULES:
        edits.append((_start(inner), _end(inner), "trt"))
    return edits


def _lookup(node: ast.AST) -> tuple[str, list[str | None]]:
    """The function of a look-up and the names that it is given, None for those in variables; "" for other nodes."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _BY_NAME:
        return node.func.id, [_literal(node.args[1])]
    called = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
    if isinstance(node, ast.Call) and called in _OF_ENUMS and len(node.args) == 2:
        return called, [_literal(argument) for argument in node.args]
    return "", []


def _start(node: ast.expr) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _end(node: ast.expr) -> tuple[int, int]:
    return node.end_lineno or node.lineno, node.end_col_offset or node.col_offset


def _placeholders(node: ast.AST, wanted: tuple[str, ...], scope: str = "") -> Iterator[tuple[str, ast.Name]]:
    """Find names in annotations, with the place that each annotation is for."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            if not any(isinstance(base, ast.Name) and base.id == "Protocol" for base in child.bases):
                yield from _placeholders(child, wanted, f"{scope}{child.name}.")
        elif isinstance(child, ast.FunctionDef):
            arguments = child.args.posonlyargs + child.args.args + child.args.kwonlyargs
            arguments += [rest for rest in (child.args.vararg, child.args.kwarg) if rest]
            named = [(argument.arg, argument.annotation) for argument in arguments]
            for name, annotation in (*named, ("return", child.returns)):
                if name not in (*_SELF, *_MODULES):
                    yield from _names(f"{scope}{child.name}.{name}", annotation, wanted)
            yield from _placeholders(child, wanted, f"{scope}{child.name}.")
        elif isinstance(child, ast.AnnAssign):
            target = child.target.attr if isinstance(child.target, ast.Attribute) else ast.unparse(child.target)
            if target not in _MODULES:
                yield from _names(f"{scope}{target}", child.annotation, wanted)
        else:
            yield from _placeholders(child, wanted, scope)


def _names(place: str, annotation: ast.expr | None, wanted: tuple[str, ...]) -> Iterator[tuple[str, ast.Name]]:
    nodes = [annotation] if annotation else []
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.Name) and node.id in wanted:
            yield place, node
        elif not (isinstance(node, ast.Subscript) and ast.unparse(node.value).rpartition(".")[2] in _NO_HANDLES):
            nodes += [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr)]


def _literal(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
