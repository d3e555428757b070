"""Measured per-layer precision plans for ONNX models.

    import autoprec

    result = autoprec.search("model.onnx", calib="calib.npz", metric="agreement", max_drop=0.01)
    result.save("runs/model")

A public name loads its module when it is first used. So `import autoprec` is quick, and pytest, which imports the
package for its plugin in every session, does not load heavy libraries. Read `api.py` first.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autoprec.api import SearchResult, search
    from autoprec.errors import AutoprecError
    from autoprec.exporting.plan_in_use import SavedResult, load
    from autoprec.front.run_front import load_front
    from autoprec.plan import Plan, load_plan
    from autoprec.precision import Precision

__all__ = [
    "AutoprecError",
    "Plan",
    "Precision",
    "SavedResult",
    "SearchResult",
    "__version__",
    "load",
    "load_front",
    "load_plan",
    "search",
]
__version__ = "0.1.0"

# The literal names let type checkers see the imports above; this table serves the same names at run time.
_HOMES = {
    "AutoprecError": "autoprec.errors",
    "Plan": "autoprec.plan",
    "Precision": "autoprec.precision",
    "SavedResult": "autoprec.exporting.plan_in_use",
    "SearchResult": "autoprec.api",
    "load": "autoprec.exporting.plan_in_use",
    "load_front": "autoprec.front.run_front",
    "load_plan": "autoprec.plan",
    "search": "autoprec.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'autoprec' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
