"""How a module is called: the record beside an exported model by which a plan takes and returns what the module did."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autoprec.errors import RunDirectoryError
from autoprec.exporting.structure import Classes, Structure, rebuilt, tensor_names, tensors_in
from autoprec.files.json import read_json, write_json

SCHEMA = 1
KIND = "autoprec signature"
_KINDS = {kind.name: kind for kind in type(inspect.Parameter("x", inspect.Parameter.POSITIONAL_ONLY).kind)}
_CONSTANTS = (type(None), bool, int, float, str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """How a module is called.

    Attributes:
        name: the name of the module's class.
        parameters: the parameters of `forward`: name, kind, and the default in a list of one if there is one that JSON
            can hold.
        inputs: parameter -> the structure of the argument that it was exported with.
        outputs: the structure of what it returns.
        classes: the classes of records, in the process that exported the module only.
    """

    name: str
    parameters: Sequence[tuple[str, str, list[Any]]]
    inputs: Mapping[str, Structure]
    outputs: Structure
    classes: Classes = field(default_factory=dict)

    @property
    def input_names(self) -> list[str]:
        """The names of the model's inputs, in order."""
        return [name for structure in self.inputs.values() for name in tensor_names(structure)]

    def tensors(self, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """Yield the name of each input of the model and the tensor for it.

        Raises:
            TypeError: the arguments are not of the form that the module was exported with.
        """
        bound = self._signature().bind(*arguments, **named).arguments
        defaults = {name: default[0] for name, _, default in self.parameters if default}
        for name in bound:
            if name not in self.inputs and (name not in defaults or bound[name] != defaults[name]):
                raise TypeError(f"{self.name} was exported without the argument {name!r}; export it with one")
        for name, structure in self.inputs.items():
            if name not in bound and name not in defaults:
                raise TypeError(f"{self.name} was exported with the argument {name!r}, which is missing")
            yield from tensors_in(structure, bound.get(name, defaults.get(name)), name)

    def _signature(self) -> inspect.Signature:
        return inspect.Signature(
            [
                inspect.Parameter(name, _KINDS[kind], default=default[0] if default else inspect.Parameter.empty)
                for name, kind, default in self.parameters
            ]
        )

    def returned(self, tensors: Mapping[str, Any]) -> Any:
        """Return the tensors as the module returns them."""
        return rebuilt(self.outputs, tensors, self.classes)

    def save(self, path: Path) -> None:
        """Write it as JSON, atomically.

        Raises:
            RunDirectoryError: the folder cannot be written.
        """
        names = ("name", "parameters", "inputs", "outputs")
        write_json(path, {"schema": SCHEMA, "kind": KIND, **{name: getattr(self, name) for name in names}})


def parameters_of(signature: inspect.Signature) -> list[tuple[str, str, list[Any]]]:
    """Return the parameters of a function as `Signature` keeps them."""
    found = []
    for parameter in signature.parameters.values():
        # A default that JSON cannot hold is never compared with, so None stands for it.
        plain = isinstance(parameter.default, _CONSTANTS)
        default = [] if parameter.default is inspect.Parameter.empty else [parameter.default if plain else None]
        found.append((parameter.name, parameter.kind.name, default))
    return found


def read_signature(path: Path) -> Signature | None:
    """Return what `Signature.save` wrote, None where there is no such file.

    Raises:
        RunDirectoryError: it is damaged, or of a newer schema.
    """
    if not path.is_file():
        return None
    record = read_json(path, "module's signature", RunDirectoryError, SCHEMA)
    try:
        signature = Signature(
            name=str(record["name"]),
            parameters=[(str(name), str(kind), list(default)) for name, kind, default in record["parameters"]],
            inputs={str(name): dict(structure) for name, structure in record["inputs"].items()},
            outputs=dict(record["outputs"]),
        )
        signature._signature()
        tensor_names(signature.outputs)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise RunDirectoryError(
            f"the module's signature {path} is damaged ({error!r}); delete it and tune again, which makes it again"
        ) from error
    return signature
