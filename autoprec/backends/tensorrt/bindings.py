"""NVIDIA's Python bindings: which are installed, what they are called there, and what each version lacks."""

from __future__ import annotations

import importlib
import importlib.util
import re
from dataclasses import dataclass
from typing import Any

from autoprec.backends.tensorrt.records import Flavour
from autoprec.errors import BackendError

INSTALL = {
    "tensorrt": "pip install 'autoprec[tensorrt]'",
    "tensorrt_rtx": "pip install 'autoprec[rtx]'",
}
"""Module -> the command that installs it."""

MODULES = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Backend -> the module that it calls."""

_PRODUCTS = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}
_CAPABILITY = re.compile(r"SM(\d+)")


@dataclass(frozen=True, slots=True)
class Bindings:
    """One of NVIDIA's modules.

    Attributes:
        module: the module to call; its enums go through `member` and `require`, since versions have different ones.
        name: "tensorrt" or "tensorrt_rtx".
        version: such as (11, 4, 0, 106).
        flavour: how it is told about precisions.
    """

    module: Any
    name: str
    version: tuple[int, ...]
    flavour: Flavour

    @property
    def version_text(self) -> str:
        """The version as its vendor writes it, such as "11.4.0.106"."""
        return ".".join(str(part) for part in self.version)

    @property
    def label(self) -> str:
        """The product and its version, for messages."""
        return f"{_PRODUCTS[self.name]} {self.version_text}"

    def member(self, enum: str, name: str) -> Any | None:
        """The member of an enum, None where this version lacks the enum or the member."""
        return getattr(getattr(self.module, enum, None), name, None)

    def require(self, enum: str, name: str) -> Any:
        """The member of an enum that every supported version has.

        Raises:
            BackendError: this version lacks it.
        """
        found = self.member(enum, name)
        if found is None:
            raise BackendError(
                f"{self.label} must have {enum}.{name} and lacks it; install a release that autoprec knows: "
                f"{INSTALL[self.name]}"
            )
        return found

    @property
    def chooses_precisions(self) -> bool:
        """Whether the builder can be left to choose between its types, as up to TensorRT 10: it has a flag for INT8."""
        return self.flavour != "rtx" and self.member("BuilderFlag", "INT8") is not None

    def network_flags(self, *, freely: bool = False) -> int:
        """What `create_network` is called with; ordinals differ between versions, so they are asked for by name.

        Args:
            freely: whether the builder chooses the types.
        """
        if freely and self.flavour == "strong":
            return 0
        wanted = "EXPLICIT_BATCH" if self.flavour == "weak" else "STRONGLY_TYPED"
        flag = self.member("NetworkDefinitionCreationFlag", wanted)
        return 0 if flag is None else 1 << int(flag)

    def targets(self) -> tuple[str, ...]:
        """The compute capabilities that engines can be built for ahead of time, oldest first, such as "sm89"."""
        members = getattr(getattr(self.module, "ComputeCapability", None), "__members__", {})
        numbers = sorted(int(match[1]) for match in map(_CAPABILITY.fullmatch, members) if match)
        return tuple(f"sm{number}" for number in numbers)

    def target(self, name: str) -> Any:
        """The enum member of a compute capability such as "sm89".

        Raises:
            BackendError: this runtime does not build for it.
        """
        if name not in self.targets():
            possible = ", ".join(self.targets())
            raise BackendError(
                f"{self.label} builds ahead of time for {possible}, not for {name!r}; choose targets among these"
                if possible
                else f"{self.label} builds for the GPU of this machine only, not for {name!r}; leave the targets out, "
                f"or build with TensorRT-RTX ({INSTALL['tensorrt_rtx']})"
            )
        return self.require("ComputeCapability", name.upper())


def find_bindings(name: str) -> Bindings:
    """Import one of NVIDIA's modules.

    Args:
        name: "tensorrt" or "tensorrt_rtx".

    Raises:
        BackendError: it is missing, does not load, or is of a version that autoprec does not know.
    """
    if name not in _PRODUCTS:
        raise BackendError(f"the runtime must be one of {', '.join(_PRODUCTS)}, found {name!r}")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            raise _missing(name) from error
        raise BackendError(f"{_PRODUCTS[name]} lacks its part {error.name}; run: {INSTALL[name]}") from error
    except (ImportError, OSError, RuntimeError) as error:  # a shared library that is missing or does not fit
        text = " ".join(str(error).split())
        raise BackendError(
            f"{_PRODUCTS[name]} is installed and does not load: {text}; install it again with its libraries "
            f"({INSTALL[name]}), or put their folder into LD_LIBRARY_PATH"
        ) from error
    return describe_module(module, name)


def refuse_missing(name: str) -> None:
    """Refuse a module that is not installed, without importing it.

    Raises:
        BackendError: it is missing.
    """
    if importlib.util.find_spec(name) is None:
        raise _missing(name)


def _missing(name: str) -> BackendError:
    return BackendError(f"{_PRODUCTS[name]} is not installed; run: {INSTALL[name]}")


def describe_module(module: Any, name: str) -> Bindings:
    """The bindings in an imported module.

    Raises:
        BackendError: it is not NVIDIA's, or of a version that autoprec does not know.
    """
    text = getattr(module, "__version__", None)
    if not isinstance(text, str) or not hasattr(module, "Builder"):
        index = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ["?"])))
        raise BackendError(
            f"the module {name} must be NVIDIA's; the one found in {index} is not: rename that, or run: {INSTALL[name]}"
        )
    version = tuple(int(number) for number in re.findall(r"\d+", text)[:4])
    return Bindings(module, name, version, _flavour(name, version, text))


def _flavour(name: str, version: tuple[int, ...], text: str) -> Flavour:
    if name == "tensorrt_rtx" and version >= (1,):
        return "rtx"
    if name == "tensorrt" and version >= (10,):
        return "strong"
    if name == "tensorrt" and version[:2] == (8, 6):
        return "weak"
    known = "1.0 and newer" if name == "tensorrt_rtx" else "8.6 and 10.0 and newer"
    raise BackendError(
        f"of {_PRODUCTS[name]}, autoprec knows {known}; version {text} is installed, so run: {INSTALL[name]} --upgrade"
    )
