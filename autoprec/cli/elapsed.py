"""How long this process has been running."""

from __future__ import annotations

import os
from pathlib import Path


def process_age_s() -> float:
    """Seconds since this process began, to a hundredth; 0 where the system does not tell."""
    try:
        # The name of the command, in brackets, may hold spaces; the start is the 20th field behind it.
        start = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
        return max(uptime - start / os.sysconf("SC_CLK_TCK"), 0.0)
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0
