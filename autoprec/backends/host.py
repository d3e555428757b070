"""What sets the speed of this machine besides the chip: the GPU's driver, and how clocks are governed."""

from __future__ import annotations

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
