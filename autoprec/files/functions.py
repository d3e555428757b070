"""Import of a function that the user names as `module:function`."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from autoprec.errors import AutoprecError, DataError

_FORM = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")


def is_function_name(text: str) -> bool:
    """Return whether `text` has the form `module:function`."""
    return _FORM.fullmatch(text) is not None


@contextlib.contextmanager
def importable_folder() -> Iterator[None]:
    """Put the current folder first on `sys.path` for as long as the context lasts.

    `python script.py` does the same for the folder of the script, but an installed command does not.
    """
    folder = os.getcwd()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # the user's code may have removed the folder already
            sys.path.remove(folder)


@contextlib.contextmanager
def user_code(
    told: Callable[[BaseException], AutoprecError], passing: tuple[type[BaseException], ...] = ()
) -> Iterator[None]:
    """Run code of the user, which may import modules from the current folder, and tell its errors as one of ours.

    Args:
        told: receives what the code raised, and returns the error that is raised instead.
        passing: errors that are let through, besides the interruption by the keyboard.
    """
    try:
        with importable_folder():
            yield
    except KeyboardInterrupt:
        raise
    except passing:
        raise
    except BaseException as error:  # sys.exit raises SystemExit, which would end the run as if all were well
        raise told(error) from error


def import_function(name: str, raising: type[AutoprecError]) -> Callable[..., Any]:
    """Import the function that `name` names; the current folder is searched first.

    Args:
        name: the module with its packages, a colon, and the function, which may be an attribute such as `Class.method`.
        raising: the class of the error that is raised.

    Raises:
        raising: the module cannot be imported, or it has no such function.
    """
    found = import_named(name, raising)
    if not callable(found):
        raise raising(f"{name!r} must be a function, but is a {type(found).__name__}")
    function: Callable[..., Any] = found
    return function


def import_named(name: str, raising: type[AutoprecError]) -> Any:
    """Import what `name` names, which need not be a function; the arguments are those of `import_function`.

    Raises:
        raising: the module cannot be imported, or it has nothing of that name.
    """
    module_name, _, attribute = name.partition(":")
    importlib.invalidate_caches()  # the file may be younger than Python's listing of the folder
    try:
        with importable_folder():
            found: Any = importlib.import_module(module_name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a script without a __main__ guard may call sys.exit when imported
        raise raising(
            f"cannot import {module_name!r} for {name!r} in {os.getcwd()}: "
            f"{type(error).__name__}: {error}; run from the folder that holds the module, or install it"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise raising(f"module {module_name!r} has no {attribute!r}; name a function that it defines")
        found = getattr(found, part)
    return found


def check_call(function: Callable[..., Any], arguments: Sequence[Any], what: str, raising: type[AutoprecError]) -> None:
    """Check by the signature of a user's function that it can be called with so many arguments, without calling it.

    Args:
        function: the function, or an object that can be called.
        arguments: what it will be called with, by position.
        what: what the function is and how it is called, the beginning of the message.
        raising: the class of the error that is raised.

    Raises:
        raising: it takes fewer or more arguments, or it is a coroutine, whose result would never be waited for.
    """
    called = function if inspect.isroutine(function) else getattr(function, "__call__", function)  # noqa: B004
    if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
        raise raising(f"{what}, but it is asynchronous, and nobody awaits its result; define it without `async`")
    try:
        # What a decorator wraps may take other arguments than the decorated function does.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # some functions that are written in C do not say what they take
        return
    try:
        signature.bind(*arguments)
    except TypeError as error:
        raise raising(f"{what}, but it takes {signature}: {error}") from error


DATA_FORMS = "a .npz file, a folder of .npz or .npy files, a folder of images, or module:function"
"""What may be named as data."""


def check_data_names(*names: str | None) -> None:
    """Check that each of the names is that of a file, a folder or a function, without reading any of them.

    Raises:
        DataError: one of them is none of these.
    """
    for text in names:
        if text is not None and not Path(text).exists() and not is_function_name(text):
            raise DataError(f"no such file or folder: {text!r}; give {DATA_FORMS}")
