"""The rules of the house, each as a function from one source file to the places that break it.

Which rule holds for which files, and what is excepted, stands in `tests/test_house_rules.py`.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from .source_tree import PACKAGE, ROOT, Source

FILE_LINES = 300
TEST_FILE_LINES = 400
FUNCTION_LINES = 40
POSITIONAL = 5
FIELDS = 4
DOCSTRING_LINES = range(3, 7)

VAGUE = {"base", "common", "core", "helpers", "lib", "manager", "misc", "shared", "util", "utils"}

# Words of which only the replacement is used today. In names: any part between underscores or capitals.
RETIRED_NAMES = {
    "crew": "processes",
    "curse": "bias",
    "foretell": "predict",
    "foretold": "predicted",
    "mark": "fingerprint",
    "marks": "fingerprints",
    "promise": "prediction",
    "promised": "predicted",
    "promises": "predictions",
    "vain": "without improvement",
    "words": "text",
}
# In docstrings, comments and messages.
RETIRED_PHRASES = {
    "borne out": "confirmed",
    "foretell": "predict",
    "foretells": "predicts",
    "foretold": "predicted",
    "in vain": "without improvement",
    "lean on": "rely on",
    "leant on": "relied on",
    "let off": "exempted, or: given another precision",
    "whatever comes out": "in any case",
}
RUNTIMES = {"ort-cpu", "tensorrt", "tensorrt-rtx"}


@dataclass(frozen=True)
class Finding:
    """One place that breaks a rule.

    Attributes:
        key: the file, and where it helps "::" and the name; exceptions are listed by it.
        line: the line in the file, from 1.
        problem: what is wrong there, and what to do about it.
    """

    key: str
    line: int
    problem: str

    def __str__(self) -> str:
        path, _, name = self.key.partition("::")
        return f"{path}:{self.line}: {name + ' ' if name else ''}{self.problem}"


Rule = Callable[[Source], Iterator[Finding]]


def short_file(source: Source) -> Iterator[Finding]:
    """A file has at most 300 lines; a file of tests 400, since tests do not build on each other."""
    lines, limit = len(source.text.splitlines()), TEST_FILE_LINES if source.is_test else FILE_LINES
    if lines > limit:
        yield Finding(source.path, limit, f"{lines} lines, the limit is {limit}: split it by what its parts hold")


def short_functions(source: Source) -> Iterator[Finding]:
    """A function has at most 40 lines from `def` to its end; its docstring does not count."""
    for name, node in source.functions():
        document = node.body[0] if ast.get_docstring(node) is not None else None
        described = (document.end_lineno or 0) - document.lineno + 1 if document else 0
        lines = (node.end_lineno or 0) - node.lineno + 1 - described
        if lines > FUNCTION_LINES:
            problem = (
                f"has {lines} lines without its docstring, the limit is {FUNCTION_LINES}: give a step of it a name"
            )
            yield Finding(f"{source.path}::{name}", node.lineno, problem)


def few_positional_parameters(source: Source) -> Iterator[Finding]:
    """A function can be called with at most five arguments by position; pytest gives tests theirs by name."""
    methods = {
        id(child)
        for kind in source.classes()
        for child in kind.body
        if isinstance(child, ast.FunctionDef) and "staticmethod" not in map(ast.unparse, child.decorator_list)
    }
    for name, node in source.functions():
        decorated = " ".join(map(ast.unparse, node.decorator_list))
        given_by_pytest = source.is_test and (node.name.startswith("test_") or "fixture" in decorated)
        count = len(node.args.posonlyargs) + len(node.args.args) - (id(node) in methods)
        if count > POSITIONAL and not given_by_pytest:
            problem = f"takes {count} arguments by position, the limit is {POSITIONAL}: put a * before the others"
            yield Finding(
                f"{source.path}::{name}", node.lineno, f"{problem}, or make a record of what travels together"
            )


def records_by_keyword(source: Source) -> Iterator[Finding]:
    """A dataclass of more than four fields is `kw_only=True`; a NamedTuple has at most four."""
    for kind in source.classes():
        fields = [child for child in kind.body if isinstance(child, ast.AnnAssign)]
        count = sum("ClassVar" not in ast.unparse(field.annotation) for field in fields)
        decorators = [text for text in map(ast.unparse, kind.decorator_list) if "dataclass" in text]
        if count > FIELDS and decorators and "kw_only=True" not in decorators[0]:
            problem = f"has {count} fields and may be built by position: write @dataclass(..., kw_only=True)"
            yield Finding(f"{source.path}::{kind.name}", kind.lineno, problem)
        if count > FIELDS and "NamedTuple" in map(ast.unparse, kind.bases):
            problem = f"is a NamedTuple of {count} fields: make it a frozen dataclass with kw_only=True"
            yield Finding(f"{source.path}::{kind.name}", kind.lineno, problem)


def formatted(source: Source) -> Iterator[Finding]:
    """No call is kept from the formatter."""
    if "fmt" not in source.text:
        return
    for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
        if token.type == tokenize.COMMENT and re.match(r"#\s*fmt\s*:\s*(skip|off)", token.string):
            yield Finding(source.path, token.start[0], "is kept from the formatter: build the record by keyword")


def package_says_what_it_is(source: Source) -> Iterator[Finding]:
    """A package's docstring has 3 to 6 lines, names the file to read first, and every file it names exists."""
    if not source.path.endswith("/__init__.py"):
        return
    text = ast.get_docstring(source.tree) or ""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) not in DOCSTRING_LINES:
        problem = (
            f"its docstring has {len(lines)} lines: say in 3 to 6 what goes in, what comes out, what to read first"
        )
        yield Finding(source.path, 1, problem)
    named = re.findall(r"`([\w/]+(?:\.py|/))`", text)
    if not any(name.endswith(".py") for name in named) or not re.search(r"\b[Rr]ead\b.*\bfirst\b", text, re.DOTALL):
        yield Finding(source.path, 1, 'its docstring does not say which file to read first: "Read `file.py` first"')
    folders = (ROOT / Path(source.path).parent, PACKAGE, ROOT)
    for name in named:
        if not any((folder / name).exists() for folder in folders):
            yield Finding(source.path, 1, f"its docstring names {name}, which does not exist")


def telling_name(source: Source) -> Iterator[Finding]:
    """A module is not named utils, common, core or manager, which say nothing of what it holds."""
    vague = VAGUE & set(re.split(r"[._]", source.module))
    if vague:
        yield Finding(
            source.path, 1, f"{vague.pop()!r} says nothing of what it holds: name it by what it holds or does"
        )


def _names(source: Source) -> Iterator[tuple[str, int]]:
    """The names that a file gives to something, each with its line."""
    for node in source.nodes:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


def one_word_for_one_thing(source: Source) -> Iterator[Finding]:
    """No name contains a word that was replaced by another one everywhere."""
    yield from (
        Finding(f"{source.path}::{name}", line, f"contains {part!r}: say {RETIRED_NAMES[part]!r}")
        for name, line in [*_names(source), *((part, 1) for part in source.module.split("."))]
        for part in re.findall(r"[a-z]+", re.sub(r"([A-Z])", r"_\1", name).lower())
        if part in RETIRED_NAMES
    )


def _prose(source: Source) -> Iterator[tuple[str, int]]:
    """Docstrings, comments and messages; a string without a blank is a key of some file and no prose."""
    for number, line in enumerate(source.text.splitlines(), 1):
        if "#" in line:
            yield line.partition("#")[2], number
    for node in source.nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield node.value, node.lineno


def plain_english(source: Source) -> Iterator[Finding]:
    """No docstring, comment or message contains a literary phrase that has a plain equivalent."""
    for text, line in _prose(source):
        flat = " ".join(text.split()).lower()
        for phrase, plain in RETIRED_PHRASES.items():
            if re.search(rf"\b{phrase}\b", flat):
                yield Finding(source.path, line, f"says {phrase!r} in {flat[:60]!r}: say {plain!r}")


def _given_to_self(function: ast.AST) -> Iterator[ast.Attribute]:
    for node in ast.walk(function):
        stored = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)
        if stored and ast.unparse(node.value) == "self":
            yield node


def attributes_are_born_in_the_constructor(source: Source) -> Iterator[Finding]:
    """What a method sets exists since the constructor, so that no order of calls is an AttributeError."""
    for kind in source.classes():
        methods = [child for child in kind.body if isinstance(child, ast.FunctionDef)]
        known = {name.id for child in kind.body for name in ast.walk(child) if isinstance(name, ast.Name)}
        known -= {name.id for method in methods for name in ast.walk(method) if isinstance(name, ast.Name)}
        for method in methods:
            if method.name in ("__init__", "__new__", "__post_init__"):
                known |= {node.attr for node in _given_to_self(method)}
        for method in methods:
            for node in _given_to_self(method):
                if node.attr not in known:
                    key = f"{source.path}::{kind.name}.{node.attr}"
                    yield Finding(key, node.lineno, f"is first set in {method.name}: set it in __init__")


def no_private_names_of_others(source: Source) -> Iterator[Finding]:
    """An attribute that begins with an underscore is used in the file that sets it only."""
    used = [node for node in source.nodes if isinstance(node, ast.Attribute)]
    own = {name for name, _ in _names(source)}
    for node in used:
        if not re.match(r"_[^_]", node.attr) or node.attr in own:
            continue
        if ast.unparse(node.value) not in ("self", "cls", "super()"):
            problem = "is private to another file: give it a public name there, or put one adapter in between"
            yield Finding(f"{source.path}::{node.attr}", node.lineno, problem)


def no_question_by_a_runtimes_name(source: Source) -> Iterator[Finding]:
    """Only the package `backends` compares anything with the name of a runtime or a scheme."""
    if source.module.split(".")[0] == "backends":
        return
    for node in source.nodes:
        if isinstance(node, ast.Compare):
            texts = {leaf.value for leaf in ast.walk(node) if isinstance(leaf, ast.Constant)}
            for name in sorted(texts & RUNTIMES):
                problem = f"asks for {name!r} by name: let Backend or Scheme have a property that says it"
                yield Finding(f"{source.path}", node.lineno, problem)
