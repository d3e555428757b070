"""Nested values are taken apart and put together again, also from what JSON keeps of them."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest

from autoprec.errors import ModelError
from autoprec.exporting.structure import rebuilt, structure_of, tensor_names, tensors_in


class Leaf:
    """What stands for a tensor."""


class Pair(NamedTuple):
    first: Any
    second: Any


@dataclass
class Record:
    scores: Any
    extra: Any = None


class Outputs(OrderedDict[str, Any]):
    """What a mapping of a class of its own is like."""


A, B = Leaf(), Leaf()


def is_leaf(value: Any) -> bool:
    return isinstance(value, Leaf)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (A, ["v"]),
        ((A, [B, None]), ["v.0", "v.1.0"]),
        ({"a": A, "n": 3, "t": (B,)}, ["v.a", "v.t.0"]),
        (Pair(A, Pair(B, "text")), ["v.first", "v.second.first"]),
        (Record(A), ["v.scores"]),
        (Outputs(a=A, b=B), ["v.a", "v.b"]),
    ],
)
def test_a_value_is_the_same_again(value: Any, names: list[str]) -> None:
    classes: dict[str, type] = {}
    structure = json.loads(json.dumps(structure_of(value, is_leaf, "v", classes)))

    tensors = dict(tensors_in(structure, value, "v"))

    assert list(tensors) == tensor_names(structure) == names
    again = rebuilt(structure, tensors, classes)
    assert again == value
    unknown = rebuilt(structure, tensors, {})
    assert dict(tensors_in(structure, unknown, "v")) == tensors


def test_what_cannot_be_a_tensor_is_named() -> None:
    with pytest.raises(ModelError, match=r"v\.1\.x must be tensors, numbers, .* got set"):
        structure_of((A, {"x": {1}}), is_leaf, "v", {})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((A, 4), "v.1 must be 3, as it was"),
        ((A,), "v must have 2 items"),
        (A, "v must be a container of 2 items, got Leaf"),
    ],
)
def test_a_value_of_another_structure_is_refused(value: Any, message: str) -> None:
    structure = structure_of((A, 3), is_leaf, "v", {})

    with pytest.raises(TypeError, match=message):
        list(tensors_in(structure, value, "v"))
