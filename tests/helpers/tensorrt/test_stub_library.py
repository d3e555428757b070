"""The libraries that stand in for TensorRT's are what a linker would have made of such functions."""

from __future__ import annotations

import ctypes
import platform
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from .stub_library import RETURN_ZERO, write_stub_library

NAMES = ("createInferBuilder_INTERNAL", "getPluginRegistry", "_ZN11nvuffparser15createUffParserEv")

needs_loader = pytest.mark.skipif(
    not sys.platform.startswith("linux") or platform.machine() not in RETURN_ZERO,
    reason="the libraries are written for Linux on x86_64 and aarch64",
)


@needs_loader
@pytest.mark.parametrize("count", [0, 1, 3, 200])
def test_the_loader_finds_every_function_and_each_returns_a_null_pointer(tmp_path: Path, count: int) -> None:
    names = [f"function_{index}" for index in range(count)]
    library = ctypes.CDLL(str(write_stub_library(tmp_path, "libstub.so.7", names)))
    for name in names:
        function = getattr(library, name)
        function.restype = ctypes.c_void_p
        assert function() is None


@needs_loader
def test_the_loader_finds_nothing_else(tmp_path: Path) -> None:
    library = ctypes.CDLL(str(write_stub_library(tmp_path, "libstub.so.7", NAMES)))
    with pytest.raises(AttributeError, match="undefined symbol: getPluginRegistr"):
        library.getPluginRegistr  # noqa: B018  # the look-up is what is tried


@needs_loader
def test_a_loaded_library_is_known_by_its_soname(tmp_path: Path) -> None:
    """What is linked to libstub.so.7 is satisfied by a loaded one, wherever that lies: so the name must be in it."""
    path = write_stub_library(tmp_path, "libknown_by_soname.so.7", NAMES)
    ctypes.CDLL(str(path.rename(tmp_path / "renamed")))
    assert ctypes.CDLL("libknown_by_soname.so.7").getPluginRegistry() == 0


@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf (binutils) is not installed")
@pytest.mark.parametrize(("machine", "called"), [("x86_64", "X86-64"), ("aarch64", "AArch64")])
def test_readelf_agrees(tmp_path: Path, machine: str, called: str) -> None:
    path = write_stub_library(tmp_path, "libstub.so.7", NAMES, machine)
    command = ["readelf", "--wide", "-h", "-l", "-d", "--use-dynamic", "-s", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Warning" not in done.stderr
    assert called in done.stdout
    assert "Library soname: [libstub.so.7]" in done.stdout
    symbols = [line.split() for line in done.stdout.splitlines() if " FUNC " in line]
    assert [(row[4], row[-1]) for row in symbols] == [("GLOBAL", name) for name in NAMES]
    assert all(int(row[1], 16) % 16 == 0 for row in symbols), "processors other than x86 need aligned code"


@pytest.mark.parametrize("machine", RETURN_ZERO)
def test_no_segment_is_both_writable_and_executable_and_the_stack_is_not_either(tmp_path: Path, machine: str) -> None:
    data = write_stub_library(tmp_path, "libstub.so.7", NAMES, machine).read_bytes()
    (count,) = struct.unpack_from("<H", data, 56)
    flags = [struct.unpack_from("<II", data, 64 + 56 * index) for index in range(count)]
    assert all(flag & 3 != 3 for _, flag in flags)
    assert (0x6474E551, 6) in flags, "without PT_GNU_STACK the loader asks for an executable stack"
