"""What Optuna keeps private is reached in one place."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "autoprec"
ADAPTER = PACKAGE / "study" / "optuna_adapter.py"


def private_accesses(path: Path) -> list[str]:
    """Attributes whose name begins with one underscore, of anything but the object or class itself."""
    return [
        f"{path.name}:{node.lineno} {node.attr}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    ]


def test_only_the_adapter_reaches_what_optuna_keeps_private() -> None:
    paths = [path for folder in ("study", "front", "workers") for path in sorted((PACKAGE / folder).rglob("*.py"))]

    assert [found for path in paths if path != ADAPTER for found in private_accesses(path)] == []
    assert private_accesses(ADAPTER), "the test would not see an access"
