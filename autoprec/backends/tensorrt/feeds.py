"""Make a batch fit an engine's inputs, and its outputs fit the batch; pure NumPy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np

from autoprec.backends.tensorrt.records import Shape, ShapeProfile
from autoprec.errors import DataError
from autoprec.precision import Array

_FLOATS = tuple(np.dtype(t) for t in (np.float16, np.float32, np.float64, ml_dtypes.bfloat16))
_NARROW = tuple(np.dtype(t) for t in (np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn))


@dataclass(frozen=True, slots=True)
class InputSlot:
    """An input of an engine: its name, its type and the shapes that it takes."""

    name: str
    dtype: np.dtype
    shapes: ShapeProfile


@dataclass(frozen=True, slots=True)
class OutputSlot:
    """An output of an engine; its shape follows from those of the inputs."""

    name: str
    dtype: np.dtype


@dataclass(frozen=True, slots=True)
class Fitted:
    """A batch as the engine takes it.

    Attributes:
        arrays: contiguous, of the engine's types.
        samples: those of the batch.
        padded: samples that the engine computes; more than `samples` where its least batch is larger.
    """

    arrays: dict[str, Array]
    samples: int
    padded: int


def fit(slots: Sequence[InputSlot], feed: Mapping[str, Array]) -> Fitted:
    """Cast and pad one batch.

    A batch below the engine's least is filled up with copies of its last sample, whose results are cut off again:
    real values, since zeros could make NaNs. Only the first axis, that of samples, is ever padded.

    Raises:
        DataError: inputs are missing or unknown, of a type or shape that the engine does not take, or too large.
    """
    _check_names(slots, feed)
    cast_ones = {slot.name: cast(np.asarray(feed[slot.name]), slot) for slot in slots}
    for slot in slots:
        _check_rank(cast_ones[slot.name].shape, slot)
    samples, padded = _counts(slots, cast_ones)
    arrays = {slot.name: _pad(cast_ones[slot.name], slot, samples, padded) for slot in slots}
    for slot in slots:
        _check_shape(arrays[slot.name].shape, slot)
    return Fitted({name: np.require(array, requirements=["C", "A"]) for name, array in arrays.items()}, samples, padded)


def cut(outputs: Mapping[str, Array], fitted: Fitted) -> dict[str, Array]:
    """The outputs of the batch itself, without those of the padding.

    Raises:
        DataError: an output of a padded batch does not have one row for each sample.
    """
    if fitted.padded == fitted.samples:
        return dict(outputs)
    for name, array in outputs.items():
        if not array.ndim or array.shape[0] != fitted.padded:
            raise DataError(
                f"a batch of {fitted.samples} was padded to the engine's least, {fitted.padded}, but the output "
                f"{name!r} of shape {list(array.shape)} does not have one row for each sample, so the padding cannot "
                f"be cut off; feed at least {fitted.padded} samples at once"
            )
    return {name: array[: fitted.samples] for name, array in outputs.items()}


def cast(array: Array, slot: InputSlot) -> Array:
    """An array in the engine's type; integers are checked for range, floats for overflow.

    Raises:
        DataError: the types are of different kinds, or values do not fit.
    """
    wanted, found = slot.dtype, array.dtype
    if found == wanted:
        return array
    if wanted in _FLOATS and found in _FLOATS:
        with np.errstate(over="ignore", invalid="ignore"):
            narrowed = array.astype(wanted)
        if not np.array_equal(np.isinf(narrowed), np.isinf(array)):
            raise DataError(f"the input {slot.name!r} is {wanted} in the engine and holds values beyond its range")
        return narrowed
    if wanted.kind in "iu" and found.kind in "iu":
        limits = np.iinfo(wanted)
        if array.size and not limits.min <= int(array.min()) <= int(array.max()) <= limits.max:
            raise DataError(
                f"the input {slot.name!r} is {wanted} in the engine, which holds {limits.min} to {limits.max}, "
                f"but the data goes from {array.min()} to {array.max()}"
            )
        return array.astype(wanted)
    raise DataError(f"the input {slot.name!r} must be {wanted}, got {found}; convert the data as the model expects it")


def widen(array: Array) -> Array:
    """float16, bfloat16 and float8 as float32, which holds each of their values; other types as they are."""
    return array.astype(np.float32) if array.dtype in _NARROW else array


def sample_feed(
    slots: Sequence[InputSlot], *, batch: int | None = None, shapes: Mapping[str, Shape] | None = None, seed: int = 0
) -> dict[str, Array]:
    """Random inputs to time an engine with: floats uniform in [-1, 1) as trtexec's, others 0, which is a valid index.

    Args:
        slots: the engine's inputs.
        batch: samples, for inputs of which no shape is given; by default what the engine was tuned for.
        shapes: input name -> shape; others as the engine was tuned for.
        seed: the seed of the random values.

    Raises:
        DataError: a shape is given for an input that the engine does not have, or is one that it does not take.
    """
    given = dict(shapes or {})
    for name in given:
        if name not in {slot.name for slot in slots}:
            raise DataError(f"there is no input {name!r} to shape; the engine has {_names(slots)}")
    generator = np.random.default_rng(seed)
    bound = {slot.name for slot in slots if slot.shapes.least[:1] == slot.shapes.largest[:1]}
    batched = {slot.name for slot in slots} - (bound if len(bound) < len(slots) else set())
    feed: dict[str, Array] = {}
    for slot in slots:
        shape = given.get(slot.name, slot.shapes.best)
        if batch is not None and slot.name in batched and slot.name not in given and shape:
            shape = (batch, *shape[1:])
        _check_rank(shape, slot)
        _check_shape(shape, slot)
        if slot.dtype in _FLOATS:
            feed[slot.name] = generator.uniform(-1, 1, shape).astype(slot.dtype)
        else:
            feed[slot.name] = np.zeros(shape, slot.dtype)
    return feed


def _counts(slots: Sequence[InputSlot], arrays: Mapping[str, Array]) -> tuple[int, int]:
    """Samples of the batch, and those that the engine must compute."""
    short = [slot for slot in slots if slot.shapes.least and arrays[slot.name].shape[0] < slot.shapes.least[0]]
    if not short:
        samples = next((array.shape[0] for array in arrays.values() if array.ndim), 1)
        return samples, samples
    counts = {slot.name: arrays[slot.name].shape[0] for slot in short}
    if len(set(counts.values())) > 1:
        raise DataError(f"all inputs must have the same number of samples, got {counts}")
    return next(iter(counts.values())), max(slot.shapes.least[0] for slot in short)


def _pad(array: Array, slot: InputSlot, samples: int, padded: int) -> Array:
    if not array.ndim or array.shape[0] != samples or padded > slot.shapes.largest[0]:
        return array
    return np.concatenate([array, np.repeat(array[-1:], padded - samples, axis=0)]) if padded > samples else array


def _check_names(slots: Sequence[InputSlot], feed: Mapping[str, Array]) -> None:
    missing = [slot.name for slot in slots if slot.name not in feed]
    unknown = [name for name in feed if name not in {slot.name for slot in slots}]
    if missing or unknown:
        lacks = f"lacks {', '.join(map(repr, missing))}" if missing else ""
        extra = f"has {', '.join(map(repr, unknown))} besides" if unknown else ""
        found = " and ".join(filter(None, (lacks, extra)))
        raise DataError(f"the engine's inputs are {_names(slots)}; the batch {found}")


def _check_rank(shape: Shape, slot: InputSlot) -> None:
    if len(shape) != len(slot.shapes.best):
        raise DataError(
            f"the input {slot.name!r} must have {len(slot.shapes.best)} axes, like {list(slot.shapes.best)}, "
            f"got shape {list(shape)}"
        )
    if 0 in shape:
        raise DataError(f"the input {slot.name!r} is empty: its shape is {list(shape)}; feed at least one sample")


def _check_shape(shape: Shape, slot: InputSlot) -> None:
    least, largest = slot.shapes.least, slot.shapes.largest
    fits = [low <= size <= high for low, size, high in zip(least, shape, largest, strict=True)]
    if all(fits):
        return
    axis = fits.index(False)
    takes = str(least[axis]) if least[axis] == largest[axis] else f"{least[axis]} to {largest[axis]}"
    if axis == 0 and shape[0] > largest[0]:
        mend = f"feed at most {largest[0]} samples at once, or build the engine for larger batches"
    else:
        mend = "feed data of that shape, or build the engine for this one"
    raise DataError(
        f"the input {slot.name!r} takes {takes} on axis {axis}, got {shape[axis]} (shape {list(shape)}); {mend}"
    )


def _names(slots: Sequence[InputSlot]) -> str:
    return ", ".join(repr(slot.name) for slot in slots) or "none"
