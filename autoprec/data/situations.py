"""Situations that a model is timed in: lengths of the axes that its inputs leave open.

A language model that keeps the keys and values of earlier tokens works in two of them: it reads a prompt ("prefill"),
and it writes one token after many ("decode"). A plan that is best in one need not be best in the other.

    prefill:batch=1,length=128,past=0
    decode:batch=8,length=1,past=128

`batch` is the samples. Any other key is the name of an axis in the model, or INPUT.AXIS for one without a name. An axis
whose name is a sum or product of others, such as "past + length", follows from them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autoprec.data.dataset import Dataset
from autoprec.data.feeds import batch_feed
from autoprec.errors import UsageError
from autoprec.graph.interface import Interface, TensorSpec
from autoprec.precision import Array

SAMPLES = "batch"
"""The key for the number of samples, whatever the model calls their axis."""
_FORM = "--situation must be NAME:AXIS=LENGTH,..., such as decode:batch=1,length=1,past=128"


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """The lengths of axes in one situation.

    Attributes:
        name: the name that people gave it.
        sizes: key -> length: "batch", the name of an axis, or "INPUT.AXIS".
    """

    name: str
    sizes: Mapping[str, int]

    @property
    def text(self) -> str:
        """The situation as it is written on the command line."""
        return f"{self.name}:{','.join(f'{key}={size}' for key, size in self.sizes.items())}"

    @property
    def batch(self) -> int | None:
        """The number of samples, None where the situation does not say it."""
        return self.sizes.get(SAMPLES)


def parse_situations(texts: Sequence[str]) -> tuple[Situation, ...]:
    """Return the situations that texts describe.

    Raises:
        UsageError: a text is of another form, or two have one name.
    """
    found = tuple(map(_parsed, texts))
    names = [situation.name for situation in found]
    if len(set(names)) < len(names):
        raise UsageError(f"each --situation must have a name of its own, got {', '.join(names)}")
    return found


def _parsed(text: str) -> Situation:
    name, colon, rest = text.partition(":")
    pairs = [pair.rpartition("=") for pair in rest.split(",")]
    sizes = {key.strip(): size.strip() for key, _, size in pairs}
    if not colon or not name.strip() or len(sizes) < len(pairs) or "" in sizes:
        raise UsageError(f"{_FORM}, each axis once; got {text!r}")
    if not all(size.isascii() and size.isdigit() and len(size) < 10 for size in sizes.values()):
        raise UsageError(f"{_FORM}, with whole numbers; got {text!r}")
    if sizes.get(SAMPLES, "1").strip("0") == "":
        raise UsageError(f"the batch of a situation must be at least 1, got {text!r}")
    return Situation(name=name.strip(), sizes={key: int(size) for key, size in sizes.items()})


def situated_feed(interface: Interface, data: Dataset, situation: Situation, batch: int) -> dict[str, Array]:
    """Return the inputs of one run in a situation: samples, whose axes are cut or repeated to their lengths.

    Args:
        interface: the interface of the model.
        data: the samples.
        situation: the situation.
        batch: the number of samples where the situation does not say it.

    Raises:
        UsageError: the model has no such axis, one has a fixed length or none in this situation.
    """
    _refuse_unknown(interface, situation)
    wanted = situation.batch or batch
    if interface.batch_size not in (None, wanted) and situation.batch is not None:
        raise UsageError(
            f"the model takes {interface.batch_size} samples at a time, but the situation {situation.name!r} asks for "
            f"{wanted}; leave {SAMPLES} out of it"
        )
    feed = batch_feed(interface, data, wanted)
    return {spec.name: _fitted(feed[spec.name], spec, situation) for spec in interface.inputs}


def _refuse_unknown(interface: Interface, situation: Situation) -> None:
    open_axes = [
        (spec.name, axis, dim)
        for spec in interface.inputs
        for axis, dim in enumerate(spec.shape)
        if not isinstance(dim, int) and axis != spec.sample_axis
    ]
    numbered = {f"{name}.{axis}" for name, axis, _ in open_axes}
    named = {word for _, _, dim in open_axes for word in (dim, *_names_in(dim or ""))}
    unknown = [key for key in situation.sizes if key != SAMPLES and key not in numbered | named]
    if unknown:
        offered = ", ".join(dict.fromkeys(dim or f"{name}.{axis}" for name, axis, dim in open_axes))
        raise UsageError(
            f"the situation {situation.name!r} gives a length to {unknown[0]!r}, but the axes that the model leaves "
            f"open are {', '.join(filter(None, [SAMPLES, offered]))}; name one of these"
        )


def _fitted(array: Array, spec: TensorSpec, situation: Situation) -> Array:
    """Return an input with the lengths of the situation; an axis that the situation does not tell stays as it is."""
    for axis, dim in enumerate(spec.shape):
        if isinstance(dim, int) or axis == spec.sample_axis:
            continue
        length = situation.sizes.get(f"{spec.name}.{axis}", _length(dim, situation.sizes))
        if length is None or length == array.shape[axis]:
            continue
        if array.shape[axis] == 0:
            shape = (*array.shape[:axis], length, *array.shape[axis + 1 :])
            array = np.zeros(shape, array.dtype)
        array = np.take(array, np.arange(length) % max(array.shape[axis], 1), axis=axis)
    return np.ascontiguousarray(array) if array.ndim else array


def _length(dim: int | str | None, sizes: Mapping[str, int]) -> int | None:
    """Return the length of an axis by its name, or by the names in it: a sum of products."""
    if not isinstance(dim, str):
        return None
    if dim in sizes:
        return sizes[dim]
    terms = [[_factor(factor, sizes) for factor in term.split("*")] for term in dim.split("+")]
    if any(factor is None for term in terms for factor in term):
        return None
    return sum(math.prod(factor for factor in term if factor is not None) for term in terms)


def _factor(text: str, sizes: Mapping[str, int]) -> int | None:
    word = text.strip(" ()")
    return int(word) if word.isascii() and word.isdigit() else sizes.get(word)


def _names_in(dim: str) -> list[str]:
    return [word.strip(" ()") for term in dim.split("+") for word in term.split("*")]
