"""Import of a user's function given as `module:function`."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from autoprec.errors import AutoprecError

_FORM = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_function_name(text: str) -> bool:
    """Whether `text` has the form `module:function`."""
    return _FORM.fullmatch(text) is not None


@contextlib.contextmanager
def importable_folder() -> Iterator[None]:
    """Make modules of the current folder importable, first of all, for as long as the context lasts."""
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the user's code may have tidied sys.path itself
            sys.path.remove(folder)


def import_function(name: str, raising: type[AutoprecError]) -> Callable[..., Any]:
    """The function that `module:function` names, looked for in the current folder first.

    Args:
        name: dotted module, colon, (dotted) attribute.
        raising: the error class for whatever goes wrong.

    Raises:
        raising: the module cannot be imported, or has no such function.
    """
    module_name, _, attribute = name.partition(":")
    importlib.invalidate_caches()
    try:
        with importable_folder():
            found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise raising(
            f"cannot import {module_name!r} for {name!r} in {os.getcwd()}: "
            f"{type(error).__name__}: {error}; run from the folder that holds the module, or install it"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise raising(f"module {module_name!r} has no {attribute!r}; name a function that it defines")
        found = getattr(found, part)
    if not callable(found):
        raise raising(f"{name!r} must be a function, but is a {type(found).__name__}")
    function: Callable[..., Any] = found
    return function
