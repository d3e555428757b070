"""Turns what `api_dump` found in a TensorRT module into a type stub, which mypy can check calls against."""

from __future__ import annotations

import keyword
import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from typing import Any

Names = Mapping[str, Mapping[str, Any]]

_HEAD = """\
import builtins
from collections.abc import Callable, Sequence
from typing import Any, overload
__version__: builtins.str
"""
_TYPES = {
    "None": "None",
    "bool": "builtins.bool",
    "bytes": "builtins.bytes",
    "dict": "builtins.dict",
    "float": "builtins.float",
    "int": "builtins.int",
    "list": "builtins.list",
    "str": "builtins.str",
    "tuple": "builtins.tuple[Any, ...]",
    "typing.SupportsFloat": "builtins.float",
    "typing.SupportsInt": "builtins.int",
    "collections.abc.Sequence": "Sequence",
    "Dict": "builtins.dict",
    "List": "builtins.list",
}
# pybind11 makes these of other objects on the way in: any sequence becomes a list or Dims, any buffer bytes.
_TAKEN = {
    "Dims": "Dims | Sequence[builtins.int]",
    "List": "Sequence",
    "list": "Sequence",
    "buffer": "builtins.bytes | IHostMemory",
    "typing_extensions.Buffer": "builtins.bytes | IHostMemory",
}
# Protocols of the C API, which no docstring mentions.
_EXTRA = {
    "Dims": ["def __iter__(self) -> Any: ..."],
    "IHostMemory": ["def __buffer__(self, flags: builtins.int) -> memoryview: ..."],
}
_NAME = re.compile(r"[A-Za-z_][\w.]*")
_PARAMETER = re.compile(r"(\*{0,2}\w+)(?:: (.*?))?(?: = (.*))?", re.DOTALL)


def stub(names: Names, absent: Collection[str] = ()) -> str:
    """Write a stub module.

    Args:
        names: dotted name -> what it is, as in `bindings_wheels.Api`.
        absent: dotted names that are taken to exist although they do not, as Any.
    """
    inside: defaultdict[str, list[str]] = defaultdict(list)
    for dotted in names:
        owner, _, name = dotted.rpartition(".")
        if not keyword.iskeyword(name):
            inside[owner].append(dotted)
    for dotted in absent:
        if dotted not in names:
            inside[dotted.rpartition(".")[0]].append(dotted)
    return _HEAD + "".join(f"{line}\n" for dotted in inside[""] for line in _lines(dotted, names, inside))


def split_parameters(text: str) -> list[str]:
    """Split "self: T, a: Tuple[int, int] = (1, 2)" at the commas between parameters."""
    parts, depth, start = [], 0, 0
    for index, sign in enumerate(text):
        if sign in "([{<":
            depth += 1
        elif sign in ")]}" or (sign == ">" and text[index - 1] != "-"):
            depth -= 1
        elif sign == "," and depth == 0:
            parts.append(text[start:index].strip())
            start = index + 1
    return [part for part in (*parts, text[start:].strip()) if part]


def _lines(dotted: str, names: Names, inside: Mapping[str, list[str]]) -> list[str]:
    name = dotted.rpartition(".")[2]
    described = names.get(dotted)
    if described is None:
        return [f"{name}: Any"]
    if described["kind"] == "class":
        return _class(dotted, described, names, inside)
    if described["kind"] == "value":
        return [f"{name}: {_type(described['type'], names)}"]
    if described["kind"] == "property":
        returns = _type(described["signatures"][0].rpartition(" -> ")[2], names) if described["signatures"] else "Any"
        taken = "Any" if returns == "Any" else _TAKEN.get(returns, returns)
        setter = [f"@{name}.setter", f"def {name}(self, value: {taken}) -> None: ..."] if described["writable"] else []
        return ["@property", f"def {name}(self) -> {returns}: ...", *setter]
    return _functions(name, described["signatures"], names, in_class="." in dotted)


def _class(dotted: str, described: Mapping[str, Any], names: Names, inside: Mapping[str, list[str]]) -> list[str]:
    name = dotted.rpartition(".")[2]
    if described["name"] != dotted:  # another name for a class, such as Logger.Severity
        return [f"{name} = {described['name']}" if described["name"] in names else f"{name}: Any"]
    base = next((base for base in described["bases"] if base in names), None)
    own = [member for member in inside[dotted] if not _inherited(member, base, names)]
    body = [line for member in own for line in _lines(member, names, inside)] + _EXTRA.get(dotted, [])
    return [f"class {name}({base}):" if base else f"class {name}:", *(f"    {line}" for line in body or ["..."])]


def _inherited(member: str, base: str | None, names: Names) -> bool:
    return base is not None and names.get(f"{base}.{member.rpartition('.')[2]}") == names.get(member)


def _functions(name: str, signatures: list[str], names: Names, *, in_class: bool) -> list[str]:
    if not signatures:  # a constructor that always fails, or plain Python
        return [] if name == "__init__" else [f"{name}: Any"]
    lines = [_function(name, signature, names, in_class=in_class) for signature in signatures]
    if len(lines) == 1:
        return lines[0]
    return [line for function in lines for line in ("@overload", *function)]


def _function(name: str, signature: str, names: Names, *, in_class: bool) -> list[str]:
    parameters, _, returns = signature.partition("(")[2].rpartition(") -> ")
    written = []
    split = split_parameters(parameters)
    bound = bool(split) and split[0].partition(":")[0] == "self"
    for index, text in enumerate(split):
        match = _PARAMETER.fullmatch(text)
        if bound and index == 0:
            written.append("self")
        elif text in ("/", "*"):
            written.append(text)
        elif match is None:
            return [f"{name}: Any"]
        else:
            # pybind11 calls a parameter without a name arg0, arg1, ...; it cannot be passed by that name.
            called = f"__{match[1]}" if re.fullmatch(r"arg\d+", match[1]) else match[1]
            called += "_" if keyword.iskeyword(called) else ""
            # A default before a parameter without one counts for nothing.
            optional = match[3] and all(" = " in later for later in split[index:] if ": " in later)
            written.append(f"{called}: {_type(match[2] or 'Any', names, taken=True)}" + (" = ..." if optional else ""))
    static = ["@staticmethod"] if in_class and not bound else []
    return [*static, f"def {name}({', '.join(written)}) -> {_type(returns, names)}: ..."]


def _type(text: str, names: Names, *, taken: bool = False) -> str:
    """Translate a type as pybind11 writes it; what is not TensorRT's or Python's own becomes Any."""
    if not re.fullmatch(r"[\w., \[\]|]+", text):
        return "Any"
    known = _TYPES | (_TAKEN if taken else {})
    found = {name: known.get(name) or _class_name(name, names) for name in _NAME.findall(text)}
    return _NAME.sub(lambda match: str(found[match[0]]), text) if all(found.values()) else "Any"


def _class_name(written: str, names: Names) -> str | None:
    """Find a class by the name in a signature: of C++ ("nvonnxparser.IParserError") where that was written first."""
    last = written.rpartition(".")[2]
    return next((name for name in (written, last, last.removeprefix("I")) if name in names), None)
