"""The container file of examples/tensorrt asks for what exists: files, extras, commands. No registry is needed."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from autoprec.cli import main

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "examples" / "tensorrt" / "Dockerfile").read_text(encoding="utf-8")
WHOLE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, SETUPTOOLS = WHOLE["project"], WHOLE["tool"]["setuptools"]


def instructions() -> list[tuple[str, str]]:
    """Each instruction with its arguments, comments and continued lines resolved."""
    lines = "\n".join(line for line in TEXT.splitlines() if not line.lstrip().startswith("#"))
    return [
        (word, rest.strip())
        for word, _, rest in (line.partition(" ") for line in lines.replace("\\\n", "").splitlines() if line.strip())
    ]


def arguments(word: str) -> list[str]:
    return [rest for name, rest in instructions() if name == word]


def run_commands() -> list[list[str]]:
    return [shlex.split(part) for line in arguments("RUN") for part in line.split("&&")]


def test_it_begins_with_a_container_of_tensorrt_and_knows_only_real_instructions() -> None:
    words = [word for word, _ in instructions()]

    assert words[:2] == ["ARG", "FROM"]
    assert re.fullmatch(r"CONTAINER=\d\d\.\d\d-py3", arguments("ARG")[0])
    assert arguments("FROM") == ["nvcr.io/nvidia/tensorrt:${CONTAINER}"]
    assert set(words) <= {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "FROM", "RUN", "WORKDIR"}


@pytest.mark.skipif(not (ROOT / "autoprec").exists(), reason="the sources are not here")
def test_what_it_copies_is_all_that_the_package_is_built_from(tmp_path: Path) -> None:
    for line in arguments("COPY"):
        *sources, target = line.split()
        folder = tmp_path / target.lstrip("/")
        for source in sources:
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, folder, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, folder)
    built, homes = tmp_path / "src" / "autoprec", SETUPTOOLS["package-dir"]
    files = ["pyproject.toml", PROJECT["readme"], *PROJECT["license-files"]]

    assert [name for name in files if not (built / name).is_file()] == []
    assert [n for n in SETUPTOOLS["packages"] if not (built / homes.get(n, n.replace(".", "/"))).is_dir()] == []


def test_what_it_installs_exists() -> None:
    installed = next(words for words in run_commands() if words[1] == "install")
    extras = re.fullmatch(r"/src/autoprec\[([\w,]+)\]", installed[-2])

    assert extras is not None
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])
    assert "tensorrt" in extras[1].split(",")
    assert installed[-1].startswith("cuda-bindings==${CUDA}.")


def test_its_commands_are_read_by_a_shell_and_by_the_command_line() -> None:
    for line in arguments("RUN"):
        assert subprocess.run(["bash", "-n", "-c", line], check=False).returncode == 0, line
    [program], [verb] = json.loads(arguments("ENTRYPOINT")[0]), json.loads(arguments("CMD")[0])

    assert program in PROJECT["scripts"]
    assert isinstance(main, click.Group)
    assert main.get_command(click.Context(main), verb) is not None
    assert arguments("ENV") == ["PATH=/opt/autoprec/bin:${PATH}"]
