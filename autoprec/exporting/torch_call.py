"""A call of a torch module in evaluation mode, with example inputs on its device; the module stays as it is."""

from __future__ import annotations

import contextlib
import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from autoprec.errors import ModelError, UsageError
from autoprec.exporting.torch_culprit import first_line

_HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a module: its arguments in the order of the parameters of `forward`."""

    arguments: inspect.BoundArguments
    parameters: inspect.Signature

    @property
    def batch(self) -> int | None:
        """The number of samples: the length of the first axis of the first tensor that has one."""
        return next((len(tensor) for tensor in self.tensors if tensor.ndim), None)

    @property
    def tensors(self) -> list[torch.Tensor]:
        """The tensors among the arguments, in order."""
        return [leaf for leaf in _leaves(self.arguments.arguments) if isinstance(leaf, torch.Tensor)]


def prepared_call(module: Any, example: Any, *, enlarge: bool = False) -> Call:
    """Return a call of a module with an example, on the module's device and in its half precision.

    Args:
        module: the module.
        example: see `export_module`.
        enlarge: whether a batch of one sample is made one of two.

    Raises:
        UsageError: the example is not what the module takes.
    """
    module = unwrapped(module)
    return _call(module, _moved(example, module), enlarge=enlarge)


def returned_by(module: Any, call: Call) -> Any:
    """Return what a module computes in evaluation mode; afterwards it is as it was."""
    module = unwrapped(module)
    with evaluating(module):
        return called(module, call)


def unwrapped(module: Any) -> Any:
    """Return the module inside of what only distributes or compiles it."""
    if isinstance(module, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
        module = module.module
    module = getattr(module, "_orig_mod", module)  # torch.compile
    if isinstance(module, torch.jit.ScriptModule):
        raise ModelError(
            "a TorchScript module cannot be exported by torch's exporter; give the module that it was made from"
        )
    lazy = [name for name, value in module.named_parameters() if torch.nn.parameter.is_lazy(value)]
    if lazy:
        raise ModelError(f"the parameter {lazy[0]!r} has no shape yet; call the module once before you give it")
    devices = {value.device.type for value in (*module.parameters(), *module.buffers())}
    if "meta" in devices or len(devices) > 1:
        where = ", ".join(sorted(devices))
        raise ModelError(f"all weights of the module must be on one device that holds them, got {where}")
    return module


@contextlib.contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Put a module into evaluation mode without gradients for as long as the context lasts.

    Afterwards each part of it has its own mode again.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        with torch.no_grad(), _quiet():
            yield
    finally:
        for part, training in modes:
            part.training = training


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes to its developers from the user's terminal."""
    level = logging.root.manager.disable
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(max(level, logging.WARNING))
        try:
            yield
        finally:
            logging.disable(level)


def _moved(example: Any, module: torch.nn.Module) -> Any:
    """Return the example on the device of the module, its floats in half precision where all of the module is."""
    weights = [value for value in (*module.parameters(), *module.buffers()) if value.is_floating_point()]
    device = next((value.device for value in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    types = {value.dtype for value in weights}
    half = types.pop() if len(types) == 1 and types <= set(_HALVES) else None

    def moved(value: Any) -> Any:
        if torch.is_tensor(value):
            to = half if half is not None and value.is_floating_point() else value.dtype
            return value.detach().to(device=device, dtype=to)
        if isinstance(value, dict):
            return {key: moved(item) for key, item in value.items()}
        if type(value) in (tuple, list):
            return type(value)(moved(item) for item in value)
        return value

    return moved(example)


def _call(module: torch.nn.Module, example: Any, *, enlarge: bool) -> Call:
    parameters = inspect.signature(module.forward)
    positional = example if isinstance(example, tuple) else () if isinstance(example, Mapping) else (example,)
    try:
        bound = parameters.bind(*positional, **(example if isinstance(example, Mapping) else {}))
    except TypeError as error:
        raise UsageError(
            f"example_inputs must be the arguments of {type(module).__name__}.forward{parameters}: {error}"
        ) from error
    call = Call(bound, parameters)
    if not call.tensors:
        raise UsageError(f"example_inputs must have at least one tensor, got {_described(bound.arguments)}")
    if enlarge and call.batch == 1:  # the exporter takes an axis of length 1 for one that always has it
        bound.arguments.update({k: _twice(v) for k, v in bound.arguments.items()})
    return call


def _twice(value: Any) -> Any:
    if torch.is_tensor(value):
        return torch.cat([value, value]) if value.ndim and len(value) == 1 else value
    if isinstance(value, dict):
        return {key: _twice(item) for key, item in value.items()}
    return type(value)(map(_twice, value)) if type(value) in (tuple, list) else value


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def called(module: torch.nn.Module, call: Call) -> Any:
    """Return what a module returns for a call.

    Raises:
        UsageError: it raised an error.
    """
    try:
        return module(*call.arguments.args, **call.arguments.kwargs)
    except Exception as error:  # the user's code
        raise UsageError(
            f"{type(module).__name__} raised {type(error).__name__} when it was called with "
            f"{_described(call.arguments.arguments)}: {first_line(error)}; give example_inputs that it takes"
        ) from error


def _described(arguments: Mapping[str, Any]) -> str:
    texts = [
        f"{name}: {str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
        if torch.is_tensor(value)
        else f"{name}: {type(value).__name__}"
        for name, value in arguments.items()
    ]
    return ", ".join(texts) or "no arguments"
