"""What sets the speed of this machine besides the chip: the GPU's driver, and how clocks are governed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

_CPU = Path("/sys/devices/system/cpu/cpu0/cpufreq")
_DRIVER = Path("/proc/driver/nvidia/version")
_QUERY = ("nvidia-smi", "--query-gpu=clocks.max.sm,clocks.applications.graphics", "--format=csv,noheader", "--id=0")


def process_age_s() -> float:
    """Seconds since this process began, to a hundredth; 0 where the system does not tell."""
    try:
        # The name of the command, in brackets, may hold spaces; the start is the 20th field behind it.
        start = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
        return max(uptime - start / os.sysconf("SC_CLK_TCK"), 0.0)
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


def driver(*, gpu: bool) -> str:
    """The version of NVIDIA's driver, "" without a GPU or where it is not told."""
    words = _read(_DRIVER).split() if gpu else []
    return next((word for word in words if word[:1].isdigit() and "." in word), "")


def clocks(*, gpu: bool) -> str:
    """The GPU's highest and set clocks, or the CPU's governor and highest frequency; "" where nothing is told."""
    if gpu:
        return _output(_QUERY)
    return " ".join(filter(None, (_read(_CPU / "scaling_governor"), _read(_CPU / "cpuinfo_max_freq"))))


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
