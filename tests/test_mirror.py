"""The tests mirror the package, so that what tests a module is found without a search."""

from __future__ import annotations

from .helpers.source_tree import PACKAGE, ROOT

TESTS = ROOT / "tests"
ELSEWHERE = {
    "benchmarks": "programs that print figures",
    "compatibility": "what earlier versions left on disk",
    "helpers": "what tests share",
    "whole": "runs from start to end",
}
MIRRORS = [
    path.relative_to(TESTS) for path in sorted(TESTS.rglob("test_*.py")) if len(path.relative_to(TESTS).parts) > 1
]
MIRRORS = [path for path in MIRRORS if path.parts[0] not in ELSEWHERE]


def test_a_file_of_tests_is_named_for_a_module_and_perhaps_an_aspect_of_it() -> None:
    """tests/run/test_measure_partial_verdicts.py is about autoprec/run/measure.py."""
    wrong = []
    for path in MIRRORS:
        folder = PACKAGE / path.parent
        modules = (
            {found.stem for found in folder.glob("*.py")} | {found.name for found in folder.glob("*/")} | {folder.name}
        )
        subject = path.stem.removeprefix("test_")
        if not any(f"{subject}_".startswith(f"{module}_") for module in modules):
            wrong.append(f"{path}: autoprec/{path.parent} has no {subject}")

    assert wrong == []


def test_every_other_folder_is_known() -> None:
    folders = {path.name for path in TESTS.iterdir() if list(path.rglob("*.py"))}

    assert {name for name in folders if not (PACKAGE / name / "__init__.py").exists()} == set(ELSEWHERE)
