"""Example inputs for an export, taken from the user's own data."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from autoprec.data.items import LABELS, is_array
from autoprec.errors import UsageError

_SAMPLES = 2  # more than one, since an exporter takes an axis of length 1 for one that always has it


def example_of(forward: Callable[..., Any], sources: Iterable[Any]) -> tuple[Any, ...] | dict[str, Any]:
    """Return the arguments of one call, made of the first samples of the first of the data sets that has any in memory.

    Of a tuple with one item more than `forward` must have, the last one is the labels.

    Raises:
        UsageError: none of the data sets can be looked at without reading it up.
    """
    names = [p.name for p in inspect.signature(forward).parameters.values() if p.kind not in (p.VAR_KEYWORD,)]
    required = [
        p.name
        for p in inspect.signature(forward).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    for source in sources:
        item = _first(source)
        if isinstance(item, Mapping):
            return {key: _few(value) for key, value in item.items() if key in names or key != LABELS}
        if is_array(item):
            return (_few(item),)
        if isinstance(item, (tuple, list)):
            if len(item) == 2 and isinstance(item[0], Mapping):
                return {key: _few(value) for key, value in item[0].items()}
            if len(item) == 2 and isinstance(item[0], (tuple, list)):
                item = item[0]
            return tuple(_few(value) for value in item[: max(1, len(required))])
    raise UsageError(
        "a torch module needs example inputs to be exported: give example_inputs, or calib as tensors or a DataLoader; "
        "a function that makes a module may return the module and its example inputs"
    )


def _first(source: Any) -> Any:
    """Return the first item of a data set that gives it again later."""
    if source is None or isinstance(source, (str, bytes, Iterator)):
        return None
    if isinstance(source, Mapping) or is_array(source):
        return source
    if isinstance(source, tuple) and source and all(map(is_array, source)):
        return source
    if isinstance(source, Iterable):
        return next(iter(source), None)
    return None


def _few(value: Any) -> Any:
    """Return the first samples of an array, as a tensor."""
    if not is_array(value):
        return value
    import torch

    tensor = value if torch.is_tensor(value) else torch.as_tensor(value)
    return tensor[:_SAMPLES] if tensor.ndim else tensor
