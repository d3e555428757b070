"""One item of data, such as a batch of a DataLoader, as arrays by the names of the model's inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from autoprec.errors import DataError
from autoprec.graph.interface import Interface
from autoprec.precision import Array

LABELS = "labels"
"""The name of the array that holds labels; if the model has an input of this name, the array is that input."""


@runtime_checkable
class Tensor(Protocol):
    """What a tensor of torch has; so it is known without an import of torch."""

    def detach(self) -> Any:
        """The tensor without its gradient."""

    def cpu(self) -> Any:
        """The tensor in the memory of the CPU."""

    def numpy(self) -> Any:
        """The tensor as an array."""


def array_of(value: Any, name: str, origin: str) -> Array:
    """Return a tensor, an array or a list of numbers as an array.

    Raises:
        DataError: it is none of these.
    """
    try:
        if isinstance(value, Tensor):
            value = value.detach().cpu()
            try:
                return np.asarray(value.numpy())
            except TypeError:  # NumPy itself has no BF16
                return np.asarray(value.float().numpy())
        array: Array = np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:  # lists of unequal lengths, tensors of another library
        raise DataError(f"{name!r} of {origin} must be an array: {error}") from error
    if array.dtype.hasobject:
        raise DataError(f"{name!r} of {origin} must be an array of numbers, got Python objects")
    return array


def is_array(value: Any) -> bool:
    """Return whether a value is a tensor or an array."""
    return isinstance(value, (Tensor, np.ndarray, np.generic))


def named_arrays(item: Any, interface: Interface, origin: str) -> dict[str, Array]:
    """Return an item as arrays by name.

    An item is a mapping of arrays by the names of the inputs and "labels"; the array of the only input; a tuple or list
    of one array for each input in the order of the model, and perhaps the labels last; or a pair of a mapping, tuple or
    list for the inputs, and the labels.

    Raises:
        DataError: it is none of these.
    """
    names = [spec.name for spec in interface.inputs]
    if isinstance(item, Mapping):
        return {str(name): array_of(value, str(name), origin) for name, value in item.items() if value is not None}
    if is_array(item):
        item = (item,)
    if not isinstance(item, (tuple, list)):
        raise _unfit(item, names, origin)
    if len(item) == 2 and isinstance(item[0], (Mapping, tuple, list)) and _takes_labels(names):
        return named_arrays(item[0], interface, origin) | _labels(item[1], origin)
    values, labels = item, {}
    if len(item) == len(names) + 1 and _takes_labels(names):
        values, labels = item[:-1], _labels(item[-1], origin)
    if len(values) != len(names) or not all(is_array(value) or np.isscalar(value) for value in values):
        raise _unfit(item, names, origin)
    return {name: array_of(value, name, origin) for name, value in zip(names, values, strict=True)} | labels


def _labels(value: Any, origin: str) -> dict[str, Array]:
    return {} if value is None else {LABELS: array_of(value, LABELS, origin)}


def _takes_labels(names: Sequence[str]) -> bool:
    return LABELS not in names


def _unfit(item: Any, names: Sequence[str], origin: str) -> DataError:
    quoted = ", ".join(map(repr, names))
    return DataError(
        f"{origin} must be a mapping of arrays by name, or a tuple of the {len(names)} inputs {quoted} and perhaps the "
        f"labels last, got {_form(item)}"
    )


def _form(item: Any) -> str:
    if is_array(item):
        return f"{type(item).__name__} of shape {tuple(item.shape)}"
    if isinstance(item, (tuple, list)):
        more = ", ..." if len(item) > 6 else ""
        return f"a {type(item).__name__} of {len(item)} ({', '.join(map(_form, item[:6]))}{more})"
    return type(item).__name__


def samples_first(arrays: dict[str, Array], interface: Interface, origin: str) -> dict[str, Array]:
    """Return the arrays with samples on their first axis, which one sample alone may lack.

    Raises:
        DataError: they have different numbers of samples.
    """
    specs = [spec for spec in interface.inputs if spec.name in arrays]
    single = bool(specs) and all(arrays[spec.name].ndim == len(spec.of_sample) for spec in specs)
    found = {name: array[None] for name, array in arrays.items()} if single else arrays
    if len({array.shape[:1] for array in found.values()}) > 1:
        has = ", ".join(f"{name!r} has {list(array.shape)}" for name, array in found.items())
        raise DataError(f"all arrays of {origin} must have the same number of samples on the first axis, but {has}")
    return found
