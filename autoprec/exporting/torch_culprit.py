"""The module that keeps a network from being exported: found by exporting the modules in it one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

_MOST = 24  # modules that are tried, since each takes a second


def first_line(error: BaseException) -> str:
    """Return what the first of a chain of errors said, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def culprit_of(
    module: torch.nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any]
) -> tuple[str, str, str] | None:
    """Return the path, the class and the error of the smallest module in `module` that cannot be exported.

    None where each of those that were tried can be.
    """
    calls = _calls(module, arguments, named)
    found: tuple[str, str, str] | None = None
    path, tried = "", 0
    converting = _refusal(module, arguments, named, converting=False) is None
    while True:
        for inner in _next(path, calls):
            part, said = module.get_submodule(inner), None
            if tried < _MOST:
                said, tried = _refusal(part, *calls[inner], converting=converting), tried + 1
            if said is not None:
                found, path = (inner, type(part).__name__, said), inner
                break
        else:
            return found


def _calls(
    module: torch.nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any]
) -> dict[str, tuple[tuple[Any, ...], dict[str, Any]]]:
    """Return the path of each module that is called -> the arguments of its first call."""
    calls: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
    hooks = []
    for path, part in module.named_modules():
        if path:

            def note(_part: Any, args: Any, kwargs: Any, path: str = path) -> None:
                calls.setdefault(path, (args, kwargs))

            hooks.append(part.register_forward_pre_hook(note, with_kwargs=True))
    try:
        module(*arguments, **named)
    finally:
        for hook in hooks:
            hook.remove()
    return calls


def _next(path: str, calls: Mapping[str, Any]) -> list[str]:
    """Return the modules below `path` that no other called module lies between."""
    below = [name for name in calls if not path or name.startswith(f"{path}.")]
    return [name for name in below if not any(name.startswith(f"{other}.") for other in below if other != name)]


def _refusal(
    module: torch.nn.Module, arguments: tuple[Any, ...], named: Mapping[str, Any], *, converting: bool
) -> str | None:
    """Return why a module cannot be traced or, as far as that is asked, not be converted; None where it can."""
    try:
        traced = torch.export.export(module, arguments, dict(named), strict=False)
        if converting:
            torch.onnx.export(traced, dynamo=True, verbose=False)
    except Exception as error:  # of many kinds
        return first_line(error)
    return None
