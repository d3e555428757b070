"""A slice of tests/benchmarks/hostile_files.py: a file is read or refused in words, whatever was done to it."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from autoprec.errors import AutoprecError

from ..helpers.hostile_files import Readers

KINDS = (
    *("plan", "ranges", "sensitivities", "latency", "study", "search", "evidence", "trials", "journal", "baseline"),
    *("space", "recipe", "archive", "model"),
)


@pytest.fixture(name="readers", scope="module")
def _readers(tmp_path_factory: pytest.TempPathFactory) -> Readers:
    return Readers(tmp_path_factory.mktemp("hostile"))


def test_every_reader_is_tried(readers: Readers) -> None:
    assert set(KINDS) == set(readers.kinds)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", KINDS)
def test_no_damage_gets_past_a_reader_without_a_word(readers: Readers, kind: str) -> None:
    for seed in range(20):
        path, read = readers.damage(kind, seed)
        with contextlib.suppress(AutoprecError):  # any other error fails
            read(path)
        readers.tidy(path)


def test_a_device_and_a_folder_are_no_files(readers: Readers, tmp_path: Path) -> None:
    for kind in KINDS:
        _, name, _, read = readers.kinds[kind]
        (tmp_path / kind).mkdir()
        (tmp_path / kind / name).mkdir()
        with contextlib.suppress(AutoprecError):
            read(tmp_path / kind / name)
