"""Nested values such as the arguments and outputs of a module: where the tensors are, and how to put them back.

A structure is plain JSON, so a run directory can keep it: {"tensor": NAME}, {"value": CONSTANT}, or one of "tuple",
"list", "dict" and "record" with its items. A record is a class with named items: a named tuple, or a mapping such as
the outputs of transformers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from autoprec.errors import ModelError

Structure = Mapping[str, Any]
Classes = Mapping[str, type]
"""The name of a record's class -> the class, for records that are made again in the process that saw them."""

_CONSTANTS = (type(None), bool, int, float, str)


def structure_of(value: Any, is_tensor: Callable[[Any], bool], path: str, classes: dict[str, type]) -> Structure:
    """Return the structure of a value.

    Args:
        value: the value.
        is_tensor: whether an object is a tensor.
        path: the name of the value, which begins the name of each tensor in it.
        classes: is given the class of each record.

    Raises:
        ModelError: an object is in it that is neither a tensor, nor a constant, nor a container of these.
    """
    if is_tensor(value):
        return {"tensor": path}
    if isinstance(value, _CONSTANTS):
        return {"value": value}

    def inner(items: Mapping[Any, Any]) -> list[list[Any]]:
        named = {key: f"{path}.{key}" if path else str(key) for key in items}
        return [[key, structure_of(item, is_tensor, named[key], classes)] for key, item in items.items()]

    names = _record_names(value)
    if names is not None:
        kind = type(value)
        classes[kind.__qualname__] = kind
        items = inner({name: _item(value, name) for name in names if _item(value, name) is not None})
        return {"record": kind.__qualname__, "mapping": isinstance(value, Mapping), "fields": names, "items": items}
    if isinstance(value, (tuple, list)):
        kind_name = "tuple" if isinstance(value, tuple) else "list"
        return {kind_name: [item for _, item in inner(dict(enumerate(value)))]}
    if isinstance(value, Mapping) and all(isinstance(key, (str, int)) for key in value):
        return {"dict": inner(value)}
    raise ModelError(
        f"{path or 'the output'} must be tensors, numbers, or tuples, lists and mappings of these, got "
        f"{type(value).__name__}; wrap the module in one that takes and returns such"
    )


def _record_names(value: Any) -> list[str] | None:
    """Return the names of the items of a record, None where the value is no record."""
    if isinstance(value, tuple):
        fields = getattr(value, "_fields", None)
        return None if fields is None else list(fields)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return [field.name for field in dataclasses.fields(value)]
    return None


def _item(value: Any, name: str) -> Any:
    return getattr(value, name)


def tensor_names(structure: Structure) -> list[str]:
    """Return the names of the tensors in a structure, in their order."""
    if "tensor" in structure:
        return [str(structure["tensor"])]
    return [name for _, item in _items(structure) for name in tensor_names(item)]


def _items(structure: Structure) -> list[tuple[Any, Structure]]:
    if "value" in structure or "tensor" in structure:
        return []
    if "record" in structure or "dict" in structure:
        return [(key, item) for key, item in structure["items" if "record" in structure else "dict"]]
    return list(enumerate(structure["tuple"] if "tuple" in structure else structure["list"]))


def tensors_in(structure: Structure, value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the name and the tensor of each tensor in a value that has this structure.

    Raises:
        TypeError: the value has another structure, or another constant.
    """
    if "tensor" in structure:
        yield str(structure["tensor"]), value
    elif "value" in structure:
        if value != structure["value"]:
            raise TypeError(f"{path} must be {structure['value']!r}, as it was when the module was exported")
    else:
        items = _items(structure)
        if not isinstance(value, (tuple, list, Mapping)) and "record" not in structure:
            raise TypeError(f"{path} must be a container of {len(items)} items, got {type(value).__name__}")
        if "record" not in structure and len(value) != len(items):
            raise TypeError(f"{path} must have {len(items)} items, as when the module was exported, got {len(value)}")
        for key, item in items:
            inner = getattr(value, key) if "record" in structure else value[key]
            yield from tensors_in(item, inner, f"{path}.{key}")


def rebuilt(structure: Structure, tensors: Mapping[str, Any], classes: Classes) -> Any:
    """Return the value of a structure with these tensors in it.

    Args:
        structure: the structure.
        tensors: tensor name -> tensor.
        classes: the classes of records; a class that is not among them is replaced by one with the same names.
    """
    if "tensor" in structure:
        return tensors[str(structure["tensor"])]
    if "value" in structure:
        return structure["value"]
    items = {key: rebuilt(item, tensors, classes) for key, item in _items(structure)}
    if "record" in structure:
        return _record(structure, items, classes)
    if "dict" in structure:
        return items
    return tuple(items.values()) if "tuple" in structure else list(items.values())


def _record(structure: Structure, items: dict[str, Any], classes: Classes) -> Any:
    name, fields = str(structure["record"]), [str(field) for field in structure["fields"]]
    kind = classes.get(name)
    if kind is not None:
        return kind(**{field: items.get(field) for field in fields})
    if structure.get("mapping"):
        return NamedItems(items)
    made: Any = NamedTuple(name.rpartition(".")[2], [(field, Any) for field in fields])  # type: ignore[misc]
    return made(*(items.get(field) for field in fields))


class NamedItems(dict[str, Any]):
    """A mapping whose items are also attributes and, by number, elements, as those of transformers' outputs are."""

    def __getattr__(self, name: str) -> Any:
        if name in self:
            return self[name]
        raise AttributeError(name)

    def __getitem__(self, key: Any) -> Any:
        return list(self.values())[key] if isinstance(key, (int, slice)) else super().__getitem__(key)
