"""What is built from the checkout is complete, wherever the tests themselves run."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib import resources
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS: dict[str, Any] = PROJECT["tool"]["setuptools"]
DATA_FOLDERS = ("calibration", "search_spaces")


@pytest.fixture(name="wheel", scope="module")
def _wheel(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a wheel built, without the network, from a copy of the sources."""
    try:
        usable = int(version("setuptools").split(".")[0]) >= 77
    except PackageNotFoundError:
        usable = False
    if not usable:
        pytest.skip("setuptools 77 or newer is not installed here (pip install 'setuptools>=77')")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for folder in ("autoprec", *DATA_FOLDERS):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(target)!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    with ZipFile(next(target.glob("*.whl"))) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_every_package_is_listed() -> None:
    """A package missing from the list works in an editable install and is absent from the wheel."""
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "autoprec").rglob("__init__.py")}

    assert sorted(found | set(SETUPTOOLS["package-dir"])) == SETUPTOOLS["packages"]


def test_every_folder_of_code_is_a_package() -> None:
    folders = {path.parent for path in (ROOT / "autoprec").rglob("*.py")}

    assert [str(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()] == []


def test_no_code_bears_the_name_of_a_data_package() -> None:
    """Of two such twins the wheel would contain the data and an editable install the code."""
    assert [path for name in DATA_FOLDERS for path in (ROOT / "autoprec").glob(f"{name}*")] == []


@pytest.mark.parametrize("name", DATA_FOLDERS)
def test_recipes_are_found_by_the_name_of_their_package(name: str) -> None:
    installed = {path.name for path in resources.files(f"autoprec.{name}").iterdir() if path.name.endswith(".toml")}

    assert {path.name for path in (ROOT / name).glob("*.toml")} == installed != set()


@pytest.mark.parametrize("name", DATA_FOLDERS)
def test_the_wheel_contains_every_recipe(wheel: dict[str, bytes], name: str) -> None:
    expected = {f"autoprec/{name}/{path.name}": path.read_bytes() for path in (ROOT / name).glob("*.toml")}

    assert expected
    assert {path: wheel.get(path) for path in expected} == expected


def test_the_wheel_contains_all_code_and_says_that_it_is_typed(wheel: dict[str, bytes]) -> None:
    code = {path.relative_to(ROOT).as_posix() for path in (ROOT / "autoprec").rglob("*.py")}

    assert code - set(wheel) == set()
    assert "autoprec/py.typed" in wheel


def test_the_wheel_contains_nothing_else(wheel: dict[str, bytes]) -> None:
    """In particular nothing importable called calibration, tests or examples."""
    information = f"autoprec-{PROJECT['project']['version']}.dist-info"

    assert {name.split("/")[0] for name in wheel} == {"autoprec", information}
    assert f"{information}/licenses/LICENSE" in wheel
    assert b"autoprec = autoprec.cli:main" in wheel[f"{information}/entry_points.txt"]
    assert b"[pytest11]\nautoprec = autoprec.pytest_plugin\n" in wheel[f"{information}/entry_points.txt"]


def test_the_licence_of_every_dependency_is_listed() -> None:
    """The page is generated where all of them are installed; here it must only be complete."""
    page = (ROOT / ".github" / "LICENCES.md").read_text(encoding="utf-8")
    listed = {name.replace("_", "-").lower() for name in re.findall(r"^\| ([\w.-]+) \| [^|]{3,} \| <http", page, re.M)}
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *(r for n in extras if n not in ("dev", "docs") for r in extras[n])]

    assert {re.split(r"[\[<>=;]", each)[0].replace("_", "-").lower() for each in wanted} - listed == set()
