"""The architecture as a test: inside the package, imports run downward only."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Lowest floor first. A name stands for the module and all below it; the longest name that fits wins, so
# "backends.protocol" may lie under "backends". Brothers on one floor do not know each other; the members
# of one name (the files of a package) do, as long as they make no circle.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("errors", "stats"),  # know nothing
    ("files", "precision"),  # words and paper
    ("backends", "graph", "plan", "ranges", "recipes"),  # machines, networks, records
    ("data", "timing", "units"),  # samples, clocks, what is chosen for
    ("lowering", "metrics", "study"),  # write a plan, score it, search plans
    ("calibrate", "proof", "sensitivity", "testing"),  # what is measured of a model
    ("build", "run"),  # one delivery; one tune
    ("exporting", "front", "gate", "workers"),  # what uses a run before, afterwards or beside it
    ("report",),  # what a run found, for people
    ("api", "pytest_plugin"),
    ("cli",),
    ("__main__",),
)
ROOF = len(FLOORS)  # the package itself: lazy, known to nobody below


def modules() -> dict[str, Path]:
    """Each module's dotted name without "autoprec.", the package itself as "", and its file."""
    found = {}
    for path in sorted((ROOT / "autoprec").rglob("*.py")):
        parts = path.relative_to(ROOT / "autoprec").with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def home(module: str, floors: tuple[tuple[str, ...], ...] = FLOORS) -> tuple[int, str] | None:
    """The floor of a module and the name in the table that put it there."""
    if module == "":
        return ROOF, ""
    fits = [(n, i) for i, names in enumerate(floors) for n in names if f"{module}.".startswith(f"{n}.")]
    return max(((i, n) for n, i in fits), key=lambda fit: len(fit[1]), default=None)


@cache
def imported(module: str) -> set[str]:
    """The package's modules that a module imports anywhere: in functions and for type checking too."""
    names = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"autoprec.{module} line {node.lineno}: relative import"
            full = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name.removeprefix("autoprec.") in MODULES else f"{node.module}" for name in full}
    ours = {name for name in names if name.split(".")[0] == "autoprec"}
    return {name.removeprefix("autoprec").removeprefix(".") for name in ours}


def upward(module: str, target: str) -> bool:
    """Whether importing `target` from `module` climbs, or reaches a brother of another name."""
    here, there = home(module), home(target)
    assert here is not None
    return there is None or (there[0] >= here[0] and there != here)


def test_every_module_has_a_floor() -> None:
    homeless = [module for module in sorted(MODULES) if home(module) is None]

    assert homeless == [], "give them a floor in FLOORS"


def test_imports_run_downward() -> None:
    housed = [module for module in sorted(MODULES) if home(module)]

    assert [f"autoprec.{m} -> autoprec.{t}" for m in housed for t in sorted(imported(m)) if upward(m, t)] == []


def test_no_circle() -> None:
    """Also inside one package, where the floors say nothing; a circle raises CycleError naming it."""
    TopologicalSorter({module: imported(module) for module in MODULES}).prepare()


def test_the_longest_name_wins() -> None:
    floors = (("backends.protocol",), ("backends",))

    assert home("backends.protocol", floors) == (0, "backends.protocol")
    assert home("backends.ort", floors) == (1, "backends")
    assert home("backends.protocols", floors) == (1, "backends")
    assert home("nowhere") is None


@pytest.mark.parametrize(
    ("module", "target", "expected"),
    [
        ("lowering.lowerer", "errors", False),
        ("errors", "lowering.lowerer", True),
        ("units.find", "data.splits", True),
        ("lowering.passes.scales", "lowering.lowerer", False),
        ("data.npz", "data", False),
        ("cli.tune", "", True),
        ("", "api", False),
        ("lowering.lowerer", "nowhere", True),
    ],
)
def test_the_rule_itself(module: str, target: str, expected: bool) -> None:
    assert upward(module, target) is expected
