"""SymPy, which onnx_ir imports, loaded only where it is used: it takes half of the time of a command's start.

onnx_ir computes with symbolic dimensions by SymPy. Nothing here does, and whatever does loads it at the first use.
Where another version of onnx_ir has other modules, SymPy is loaded at the start as before, and nothing else changes.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any

_NAMES = ("sympy", "onnx_ir._symbolic_shapes")
"""SymPy, and the only module of onnx_ir that asks something of SymPy while it is imported."""


class LaterModule(ModuleType):
    """What onnx_ir gets in place of a module: it loads the module when an attribute is asked of it."""

    def __getattr__(self, name: str) -> Any:
        """Return the attribute of the real module."""
        return getattr(importlib.import_module(self.__name__), name)


def import_onnx_ir() -> None:
    """Import onnx_ir without SymPy; afterwards every other `import sympy` gets SymPy itself."""
    if "onnx_ir" in sys.modules or "sympy" in sys.modules:
        return
    later = {name: LaterModule(name) for name in _NAMES}
    sys.modules.update(later)
    try:
        importlib.import_module("onnx_ir")
    finally:
        for name, module in later.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
