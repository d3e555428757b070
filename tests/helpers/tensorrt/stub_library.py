"""Writes shared libraries that export functions by name and nothing else, without a compiler.

Extension modules load wherever the libraries that they are linked to are found. Stand-ins that export the right
names are enough to import NVIDIA's Python bindings and to look at them, on machines that have no TensorRT.
Formats: System V ABI, chapters 4 and 5 (ELF object files, dynamic linking), and its supplements per processor.
"""

from __future__ import annotations

import platform
import struct
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

PAGE = 0x10000
"""The largest page that a supported kernel uses (Arm: 64 KiB), so that segments can be mapped on all of them."""
RETURN_ZERO = {
    "x86_64": (62, bytes.fromhex("31c0c3")),  # xor eax, eax; ret
    "aarch64": (183, bytes.fromhex("000080d2c0035fd6")),  # mov x0, #0; ret
}
"""platform.machine() -> (e_machine, code)."""

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SEGMENT = struct.Struct("<IIQQQQQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_DYNAMIC = struct.Struct("<QQ")
_SEGMENTS = 4
_SHARED_OBJECT, _VERSION, _SECTION, _GLOBAL_FUNCTION = 3, 1, 1, 0x12
_LOAD, _DYNAMIC_SEGMENT, _GNU_STACK = 1, 2, 0x6474E551
_EXECUTE, _WRITE, _READ = 1, 2, 4
_END, _HASH, _STRINGS, _SYMBOLS, _STRINGS_SIZE, _SYMBOL_SIZE, _SONAME = 0, 4, 5, 6, 10, 11, 14


def write_stub_library(folder: Path, soname: str, functions: Sequence[str], machine: str | None = None) -> Path:
    """Write `folder`/`soname`, a library whose `functions` all return 0 (a null pointer), and return its path.

    Args:
        machine: a key of `RETURN_ZERO`; this machine's where it is left out.
    """
    path = folder / soname
    path.write_bytes(_library(soname, functions, *RETURN_ZERO[machine or platform.machine()]))
    return path


def _library(soname: str, functions: Sequence[str], e_machine: int, code: bytes) -> bytes:
    """Lay out a read-only segment (header, names, code) and a writable one, where the loader keeps its pointers."""
    strings, offsets = _strings([soname, *functions])
    hashes = _one_bucket(len(functions))
    code = code.ljust(16, b"\0")  # so that what follows is aligned, as the code itself must be
    sizes = (len(code), _SYMBOL.size * (1 + len(functions)), len(hashes), len(strings))
    code_at, symbols_at, hash_at, strings_at, end = accumulate(sizes, initial=_HEADER.size + _SEGMENTS * _SEGMENT.size)
    symbols = bytes(_SYMBOL.size) + b"".join(
        _SYMBOL.pack(offset, _GLOBAL_FUNCTION, 0, _SECTION, code_at, len(code)) for offset in offsets[1:]
    )
    # A segment's address and its place in the file must agree modulo the page: the second one starts a page later.
    dynamic_at = -(-end // 16) * 16
    dynamic = b"".join(
        _DYNAMIC.pack(tag, value)
        for tag, value in (
            (_SONAME, offsets[0]),
            (_HASH, hash_at),
            (_STRINGS, strings_at),
            (_SYMBOLS, symbols_at),
            (_STRINGS_SIZE, len(strings)),
            (_SYMBOL_SIZE, _SYMBOL.size),
            (_END, 0),
        )
    )
    readable = _header(e_machine, end, dynamic_at, len(dynamic)) + code + symbols + hashes + strings
    return readable.ljust(dynamic_at, b"\0") + dynamic


def _header(e_machine: int, end: int, dynamic_at: int, dynamic_size: int) -> bytes:
    """Describe the file and its segments: everything up to `end`, and the dynamic section."""
    place = (dynamic_at, dynamic_at + PAGE, dynamic_at + PAGE, dynamic_size, dynamic_size)
    segments = (
        _SEGMENT.pack(_LOAD, _READ | _EXECUTE, 0, 0, 0, end, end, PAGE),
        _SEGMENT.pack(_LOAD, _READ | _WRITE, *place, PAGE),
        _SEGMENT.pack(_DYNAMIC_SEGMENT, _READ | _WRITE, *place, 8),
        # Without this entry the loader makes the whole process's stack executable, or refuses to.
        _SEGMENT.pack(_GNU_STACK, _READ | _WRITE, 0, 0, 0, 0, 0, 16),
    )
    identity = b"\x7fELF" + bytes((2, 1, _VERSION)) + bytes(9)  # 64 bits, little-endian
    sizes = (_HEADER.size, _SEGMENT.size, _SEGMENTS, 0, 0, 0)
    header = _HEADER.pack(identity, _SHARED_OBJECT, e_machine, _VERSION, 0, _HEADER.size, 0, 0, *sizes)
    return header + b"".join(segments)


def _strings(names: Sequence[str]) -> tuple[bytes, list[int]]:
    """Join names as a string table (an empty one first) and say at which offset each begins."""
    encoded = [name.encode() + b"\0" for name in names]
    return b"\0" + b"".join(encoded), [1 + at for at in accumulate(map(len, encoded[:-1]), initial=0)]


def _one_bucket(functions: int) -> bytes:
    """Chain every symbol in one bucket of a hash table, the empty symbol 0 ending the chain; needs no hash function."""
    symbols = 1 + functions
    chain = [0, *range(2, symbols), 0][:symbols]
    return struct.pack(f"<{3 + symbols}I", 1, symbols, 1 if functions else 0, *chain)
