"""What sets the speed of this machine: its CPUs, the GPU's driver, and how clocks are governed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import subprocess
from pathlib import Path

_CPU = Path("/sys/devices/system/cpu/cpu0/cpufreq")
_DRIVER = Path("/proc/driver/nvidia/version")
_QUERY = ("nvidia-smi", "--query-gpu=clocks.max.sm,clocks.applications.graphics", "--format=csv,noheader", "--id=0")


def driver(*, gpu: bool) -> str:
    """The version of NVIDIA's driver, "" without a GPU or where it is not told."""
    text = _read(_DRIVER).split() if gpu else []
    return next((word for word in text if word[:1].isdigit() and "." in word), "")


def clocks(*, gpu: bool) -> str:
    """The GPU's highest and set clocks, or the CPU's governor and highest frequency; "" where nothing is told."""
    if gpu:
        return _output(_QUERY)
    return " ".join(filter(None, (_read(_CPU / "scaling_governor"), _read(_CPU / "cpuinfo_max_freq"))))


def return_memory() -> None:
    """Give freed memory back to the system, which the C library of Linux keeps for later where blocks were small."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


def available_cpus() -> int:
    """CPUs that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def cpu_name() -> str:
    """The CPU's model name, with the 8-bit instructions that decide whether INT8 pays."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set(fields.get("flags", fields.get("Features", "")).split())
    known = [flag for flag in ("avx2", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm") if flag in flags]
    return f"{fields.get('model name', platform.machine())} ({', '.join(known) or 'no 8-bit instructions'})"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _output(command: tuple[str, ...]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
