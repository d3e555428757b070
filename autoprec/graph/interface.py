"""The inputs and outputs of a model, batches of samples, and the check that a batch fits the inputs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autoprec.errors import DataError
from autoprec.precision import FLOATS, Array, Precision, float_dtype

_FLOAT_DTYPES = {float_dtype(precision) for precision in (*FLOATS, Precision.FP8)}


@dataclass(frozen=True, slots=True)
class Batch:
    """Some samples; the first axis of each array is the samples, whichever axis the model has for them.

    Attributes:
        inputs: input name -> array.
        labels: the labels of the samples, or None if they have none.
    """

    inputs: dict[str, Array]
    labels: Array | None

    @property
    def count(self) -> int:
        """The number of samples in the batch."""
        return len(next(iter(self.inputs.values())))


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model.

    Attributes:
        name: its name.
        dtype: its NumPy type.
        shape: its dimensions. Each is a length, a name that stands for a length, or None if nothing is known.
        sample_axis: the axis that holds the samples. None: an input without one, which a run gets for one sample, or
            an output that depends on no input.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str | None, ...]
    sample_axis: int | None = 0

    @property
    def of_sample(self) -> tuple[int | str | None, ...]:
        """The dimensions of one sample."""
        axis = self.sample_axis
        return self.shape if axis is None else (*self.shape[:axis], *self.shape[axis + 1 :])

    def takes_whole(self, array: Array) -> bool:
        """Return whether the samples of an array are whole inputs, so that each of them needs a run of its own."""
        return self.sample_axis is None or array.ndim == len(self.shape) + 1


@dataclass(frozen=True, slots=True)
class Interface:
    """The inputs and outputs of a model, in the order of the model."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def batch_size(self) -> int | None:
        """The number of samples that every run must have, or None if the model takes any number."""
        if any(spec.sample_axis is None for spec in self.inputs):
            return 1
        fixed = (spec.shape[spec.sample_axis] for spec in self.inputs if spec.sample_axis is not None and spec.shape)
        return next((length for length in fixed if isinstance(length, int)), None)


def is_float(dtype: np.dtype[Any]) -> bool:
    """Return whether `dtype` is a floating-point type, including BF16 and FP8, which NumPy itself does not know."""
    return dtype.kind == "f" or dtype in _FLOAT_DTYPES


def check_batch(batch: Batch, interface: Interface, origin: str = "the data") -> Batch:
    """Return the batch as the model takes it: inputs in the model's order, integers widened, floats cast.

    Args:
        batch: the samples to check.
        interface: the interface of the model.
        origin: the name of the data in messages.

    Raises:
        DataError: an input is missing or unknown; it has a wrong type, rank or shape; it holds NaN or infinity; or the
            number of samples differs between inputs or from the number that the model takes.
    """
    checked = check_samples(batch, interface, origin)
    fixed = interface.batch_size
    if fixed is not None and checked.count != fixed:
        raise DataError(
            f"the model takes exactly {fixed} samples at a time, got {checked.count} from {origin}; "
            f"use batches of {fixed} or export the model with a dynamic first axis"
        )
    return checked


def check_samples(
    batch: Batch, interface: Interface, origin: str = "the data", samples: Sequence[int] | None = None
) -> Batch:
    """Check as `check_batch` does, but allow any number of samples even if the model takes a fixed number.

    Args:
        batch: the samples to check.
        interface: the interface of the model.
        origin: the name of the data in messages.
        samples: the number of each sample in messages; by default its index in the batch.

    Raises:
        DataError: the samples do not fit the model, see `check_batch`.
    """
    check_names(batch.inputs, interface, origin)
    _check_counts(batch, origin)
    lengths: dict[str, tuple[int, str]] = {}
    inputs = {}
    for spec in interface.inputs:
        array = batch.inputs[spec.name]
        _check_shape(array, spec, origin, lengths)
        inputs[spec.name] = _conform(array, spec, origin, samples)
    return Batch(inputs, batch.labels)


def check_names(names: Iterable[str], interface: Interface, origin: str) -> None:
    """Check that there is exactly one array for each input of the model.

    Raises:
        DataError: an input has no array, or an array has no input; the message lists the inputs of the model.
    """
    given = list(names)
    wanted = [spec.name for spec in interface.inputs]
    missing = [name for name in wanted if name not in given]
    unknown = [name for name in given if name not in wanted]
    if len(wanted) == 1 and missing and len(unknown) == 1:
        raise DataError(
            f"{origin} names its array {unknown[0]!r}, but the model's only input is {wanted[0]!r}; "
            f"store the array under {wanted[0]!r}"
        )
    if missing:
        raise DataError(
            f"{origin} has no array for {_listed('input', missing)}; it has {_quoted(given)}, and "
            f"the model's inputs are {_quoted(wanted)}: store one array under each of these names"
        )
    if unknown:
        close = difflib.get_close_matches(unknown[0], [*wanted, "labels"], n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise DataError(
            f"{origin} has {_quoted(unknown)}, which the model does not take{hint}; its inputs are "
            f"{_quoted(wanted)}, and 'labels' holds labels: rename or remove the rest"
        )


def _check_counts(batch: Batch, origin: str) -> None:
    counts = {f"{name!r}": array.shape[0] for name, array in batch.inputs.items() if array.ndim}
    if batch.labels is not None:
        counts["'labels'"] = len(batch.labels)
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise DataError(f"every input of {origin} must have the same number of samples on the first axis, but {found}")
    if 0 in counts.values():
        raise DataError(f"{origin} has no samples; give at least one")


def _check_shape(array: Array, spec: TensorSpec, origin: str, lengths: dict[str, tuple[int, str]]) -> None:
    """Check rank and lengths; `lengths` remembers for each named dimension its length and the input that gave it."""
    whole = array.ndim > 0 and spec.takes_whole(array)
    dims = spec.shape if whole else spec.of_sample
    wanted = "(" + ", ".join(["samples", *(str(d) if d is not None else "?" for d in dims)]) + ")"
    advice = f"input {spec.name!r} must have shape {wanted}, got {array.shape} in {origin}"
    if array.ndim != len(dims) + 1:
        raise DataError(f"{advice}; give {len(dims) + 1} axes, the first of them samples")
    for axis, (dimension, length) in enumerate(zip(dims, array.shape[1:], strict=True), start=1):
        if isinstance(dimension, int) and dimension != length:
            raise DataError(f"{advice}; axis {axis} must have length {dimension}, not {length}")
        if isinstance(dimension, str) and dimension and (whole or dimension not in _sample_names(spec)):
            known, where = lengths.setdefault(dimension, (length, spec.name))
            if known != length and where != spec.name:  # an input may call its height and its width by one name
                raise DataError(
                    f"{advice}; the dimension {dimension!r} is {known} in input {where!r}, so it must be {known} here"
                )


def _sample_names(spec: TensorSpec) -> tuple[int | str | None, ...]:
    """Return the name of the axis of the samples, which other axes may have too, as careless exports do."""
    return () if spec.sample_axis is None else spec.shape[spec.sample_axis : spec.sample_axis + 1]


def _conform(array: Array, spec: TensorSpec, origin: str, samples: Sequence[int] | None) -> Array:
    """Return the array in the type of the input; only conversions that surely keep the meaning are made.

    A uint8 image must not become a float silently, for instance: it lacks the preprocessing of the training.
    """
    wanted, found = spec.dtype, array.dtype
    if is_float(wanted) and is_float(found):
        with np.errstate(over="ignore", invalid="ignore"):
            cast = array.astype(wanted, copy=False)
        _check_finite(array, cast, spec, origin, samples)
        return cast
    if wanted == found:
        return array
    if wanted.kind in "OSUT" and found.kind in "OSUT":
        return array
    if wanted.kind in "iu" and found.kind in "iu" and np.can_cast(found, wanted, casting="safe"):
        return array.astype(wanted)
    advice = _dtype_advice(wanted, found)
    raise DataError(f"input {spec.name!r} must be {wanted}, got {found} in {origin}; {advice}")


def _dtype_advice(wanted: np.dtype[Any], found: np.dtype[Any]) -> str:
    if is_float(wanted) and found.kind in "iu":
        return (
            f"apply the preprocessing that the model was trained with, for example "
            f"(x / 255.0).astype('{wanted}'), and store the result"
        )
    if is_float(found) and wanted.kind in "iu":
        return f"store whole numbers: x.astype('{wanted}')"
    return f"convert it first: x.astype('{wanted}')"


def _check_finite(array: Array, cast: Array, spec: TensorSpec, origin: str, samples: Sequence[int] | None) -> None:
    finite = np.isfinite(cast).reshape(len(cast), -1).all(axis=1)
    if finite.all():
        return
    row = int(np.argmin(finite))
    if np.isnan(cast[row]).any():
        what = "NaN"
    elif np.isfinite(array[row]).all():
        what = f"a number too large for {spec.dtype}"
    else:
        what = "infinity"
    number = row if samples is None else samples[row]
    bad = int((~finite).sum())
    more = f" ({bad} samples of {len(cast)} read)" if bad > 1 else ""
    raise DataError(
        f"input {spec.name!r} of {origin} holds {what} in sample {number}{more}, counted from 0; "
        f"remove or repair such samples"
    )


def _listed(noun: str, names: Sequence[str]) -> str:
    return f"{noun} {_quoted(names)}" if len(names) == 1 else f"{noun}s {_quoted(names)}"


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) or "nothing"
