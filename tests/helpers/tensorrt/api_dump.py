"""Writes down what a TensorRT module offers, as JSON: a program of its own, since importing two versions clashes.

    python api_dump.py FOLDER MODULE      FOLDER: where MODULE lies, "" for an installed one

The answer maps dotted names ("IBuilderConfig.set_flag") to what they are, all names of classes and enums included;
signatures are those that pybind11 writes into docstrings.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
import sys
from typing import Any

_SIGNATURE = re.compile(r"^(?:\d+\. )?(\w+\(.*\) -> .+)$", re.MULTILINE)


def dump(module: Any) -> dict[str, dict[str, Any]]:
    """Describe every public name of a module, and those of its classes, by dotted name."""
    return dict(_members(module, ""))


def _members(owner: Any, prefix: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for name in dir(owner):
        if name.startswith("_") and name not in ("__init__", "__len__", "__getitem__", "__int__"):
            continue
        value = inspect.getattr_static(owner, name) if inspect.isclass(owner) else getattr(owner, name)
        described = _describe(getattr(owner, name), value)
        if described is None:
            continue
        found.append((prefix + name, described))
        if described["kind"] == "class":
            found += _members(value, f"{prefix}{name}.")
    return found


def _describe(value: Any, static: Any) -> dict[str, Any] | None:
    """Say what a name is: a class, a property, something to call, or an object such as an enum's member."""
    if inspect.isclass(value):
        bases = [_plain(f"{base.__module__}.{base.__qualname__}") for base in value.__mro__[1:-1]]
        return {"kind": "class", "name": _plain(f"{value.__module__}.{value.__qualname__}"), "bases": bases}
    if inspect.ismodule(value):
        return None
    if isinstance(static, property):
        read = _signatures(static.fget)
        return {"kind": "property", "signatures": read, "writable": static.fset is not None}
    if callable(value):
        return {"kind": "callable", "signatures": _signatures(value)}
    described = {"kind": "value", "type": _plain(f"{type(value).__module__}.{type(value).__qualname__}")}
    return described | ({"number": int(value)} if hasattr(type(value), "__members__") else {})


def _signatures(function: Any) -> list[str]:
    found = [_plain(text) for text in _SIGNATURE.findall(getattr(function, "__doc__", None) or "")]
    if found:
        return [text for text in found if "(*args, **kwargs)" not in text] or found
    first = (getattr(function, "__doc__", None) or "").strip().partition("\n")[0]
    return [_plain(first)] if first.startswith("(") else []


def _plain(text: str) -> str:
    """Leave out the names of the modules that TensorRT's classes are defined in."""
    return re.sub(r"\btensorrt(?:_rtx)?_bindings\.tensorrt(?:_rtx)?\.|\bnvinfer1::", "", text).replace("::", ".")


if __name__ == "__main__":
    folder, name = sys.argv[1:]
    if folder:
        sys.path.insert(0, folder)
    imported = importlib.import_module(name)
    json.dump({"version": imported.__version__, "names": dump(imported)}, sys.stdout)
