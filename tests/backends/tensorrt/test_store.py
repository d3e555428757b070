"""Engines are found again by what they were made of, damage is seen, and the disk stays bounded."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from autoprec.backends.tensorrt.records import BuildOptions, EngineFile, ShapeProfile
from autoprec.backends.tensorrt.request import ENGINE, LAYERS
from autoprec.backends.tensorrt.store import WORK_PREFIX, EngineKey, EngineStore

TEXT = json.dumps({"Layers": [{"Name": "conv", "LayerType": "Fake"}]})
KEY = EngineKey(
    model=b"model",
    options=BuildOptions(),
    runtime="tensorrt",
    version="8.6.0",
    hardware="NVIDIA H200 (compute capability 9.0)",
)
RECORD = {"build_s": 1.5, "warm_timing_cache": True, "activation_bytes": 64, "warnings": ["subnormal"]}
SIZE = 10_000


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        self.now += 1
        return self.now


def make(folder: Path, limit_bytes: int = 1 << 30) -> EngineStore:
    return EngineStore(folder, limit_bytes, Clock())


def keep(store: EngineStore, model: bytes = b"model", engine: bytes = b"e" * SIZE) -> EngineFile:
    work = store.folder / f"{WORK_PREFIX}now"
    work.mkdir(exist_ok=True)
    (work / ENGINE).write_bytes(engine)
    (work / LAYERS).write_text(TEXT)
    return store.keep(replace(KEY, model=model), work, RECORD)


def kept(store: EngineStore, *models: bytes) -> list[bytes]:
    """Those of the models whose engines are there, by looking at the files so that nothing counts as used."""
    return [m for m in models if (store.folder / f"{replace(KEY, model=m).digest()}.engine").exists()]


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, model=b"another"),
        replace(KEY, runtime="tensorrt_rtx"),
        replace(KEY, version="8.6.1"),
        replace(KEY, hardware="NVIDIA A10 (compute capability 8.6)"),
        replace(KEY, options=BuildOptions(workspace_mib=64)),
        replace(KEY, options=BuildOptions(optimization_level=3)),
        replace(KEY, options=BuildOptions(timing_cache=False)),
        replace(KEY, options=BuildOptions(targets=("sm89",))),
        replace(KEY, options=BuildOptions(shapes={"x": ShapeProfile((1,), (1,), (2,))})),
    ],
)
def test_whatever_changes_the_engine_changes_the_key(other: EngineKey) -> None:
    assert other.digest() != KEY.digest()


def test_neither_the_time_limit_nor_the_order_of_inputs_changes_the_key() -> None:
    a, b = ShapeProfile((1,), (1,), (2,)), ShapeProfile((3,), (3,), (3,))
    one, two = BuildOptions(shapes={"a": a, "b": b}), BuildOptions(shapes={"b": b, "a": a}, time_limit_s=1)

    assert replace(KEY, options=one).digest() == replace(KEY, options=two).digest()


def test_what_is_kept_is_found_and_says_so(tmp_path: Path) -> None:
    store = make(tmp_path)
    assert store.find(KEY) is None
    made = keep(store)
    found = store.find(KEY)

    assert not made.reused
    assert found == replace(made, reused=True)
    assert found.path.read_bytes() == b"e" * SIZE
    assert (found.build_s, found.warm_timing_cache, found.activation_bytes) == (1.5, True, 64)
    assert (found.engine_bytes, found.warnings) == (SIZE, ("subnormal",))
    assert [layer.name for layer in found.layers] == ["conv"]
    assert (found.runtime, found.version, found.hardware) == (KEY.runtime, KEY.version, KEY.hardware)


@pytest.mark.parametrize("suffix", [".engine", ".layers.txt", ".json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "changed"])
def test_damaged_files_are_not_found_and_can_be_made_again(tmp_path: Path, suffix: str, damage: str) -> None:
    store = make(tmp_path)
    keep(store)
    path = tmp_path / f"{KEY.digest()}{suffix}"
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "changed": b"\xff" + data[1:]}[damage])

    assert store.find(KEY) is None
    keep(store)
    assert store.find(KEY) is not None


def test_a_json_of_the_wrong_kind_is_not_found(tmp_path: Path) -> None:
    store = make(tmp_path)
    keep(store)
    (tmp_path / f"{KEY.digest()}.json").write_text("[1]")

    assert store.find(KEY) is None


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    store = make(tmp_path, limit_bytes=int(3.5 * SIZE))
    for model in (b"a", b"b", b"c"):
        keep(store, model)
    assert store.find(replace(KEY, model=b"a")) is not None
    keep(store, b"d")

    assert kept(store, b"a", b"b", b"c", b"d") == [b"a", b"c", b"d"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(replace(KEY, model=b"b").digest())]


def test_the_one_just_made_stays_even_if_it_is_too_large(tmp_path: Path) -> None:
    store = make(tmp_path, limit_bytes=SIZE)
    keep(store, b"small", b"s")
    keep(store, b"large", b"l" * 5 * SIZE)

    assert kept(store, b"small", b"large") == [b"large"]


def test_unfinished_engines_count_and_go(tmp_path: Path) -> None:
    """A build killed between the engine and its JSON leaves the engine."""
    store = make(tmp_path, limit_bytes=int(2.5 * SIZE))
    orphan = tmp_path / "0123456789abcdef.engine"
    orphan.write_bytes(b"o" * 2 * SIZE)
    os.utime(orphan, (1, 1))
    keep(store)

    assert not orphan.exists()
    assert store.find(KEY) is not None


def test_files_of_others_stay(tmp_path: Path) -> None:
    others = [tmp_path / name for name in ("plan.json", "mine.engine", "8.6.0-H200.timings", "0123456789abcdef.onnx")]
    for path in others:
        path.write_bytes(b"x" * SIZE)
        os.utime(path, (1, 1))
    keep(make(tmp_path, limit_bytes=1))

    assert all(path.exists() for path in others)


def test_folders_of_killed_builds_go_after_a_day(tmp_path: Path) -> None:
    store = make(tmp_path)
    old, fresh = tmp_path / f"{WORK_PREFIX}old", tmp_path / f"{WORK_PREFIX}fresh"
    for folder, age_s in ((old, 90_000), (fresh, 80_000)):
        folder.mkdir()
        (folder / ENGINE).write_bytes(b"half")
        os.utime(folder, (1e9 - age_s, 1e9 - age_s))
    keep(store)

    assert not old.exists()
    assert fresh.exists()
