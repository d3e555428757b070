"""How far other programs of the machine disturbed a measurement.

A thread that could run but had no CPU waits in the run queue, and the kernel counts those nanoseconds for each thread
(Linux, Documentation/scheduler/sched-stats.rst). A hypervisor that gives the CPU to another machine counts as "stolen"
time (proc(5), /proc/stat). On a quiet machine both stay below one percent of a measurement.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

DISTURBED_SHARE = 0.05
"""From this share of its time in run queues on, a measurement counts as disturbed."""
_TASKS, _STAT = Path("/proc/self/task"), Path("/proc/stat")
_STOLEN = 8  # the column of stolen time in the first line of /proc/stat


@dataclass(frozen=True, slots=True)
class Usage:
    """What this process has used since it began.

    Attributes:
        wall_s: seconds on the clock.
        cpu_s: seconds of all CPUs together.
        waited_s: seconds that its threads have waited for a CPU; None where the system does not tell.
    """

    wall_s: float
    cpu_s: float
    waited_s: float | None

    def since(self, before: Usage) -> Usage:
        """What was used between two moments."""
        known = self.waited_s is not None and before.waited_s is not None
        waited_s = max(self.waited_s - before.waited_s, 0.0) if known else None  # type: ignore[operator]
        return Usage(self.wall_s - before.wall_s, self.cpu_s - before.cpu_s, waited_s)

    @property
    def disturbed(self) -> bool:
        """Whether other programs took a part of the time that counts."""
        return self.waited_s is not None and self.waited_s > DISTURBED_SHARE * self.wall_s


def usage() -> Usage:
    """What this process has used until now."""
    return Usage(time.perf_counter(), time.process_time(), _waited_s())


def stolen_s() -> float:
    """The seconds of all CPUs that the hypervisor gave to other machines since the start; 0 where it does not tell."""
    try:
        fields = _STAT.read_text(encoding="ascii").split("\n", 1)[0].split()
        return int(fields[_STOLEN]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError):
        return 0.0


def _waited_s() -> float | None:
    try:
        texts = [(task / "schedstat").read_text(encoding="ascii") for task in _TASKS.iterdir()]
        return 1e-9 * sum(int(text.split()[1]) for text in texts)
    except (OSError, ValueError, IndexError):  # another system, or a thread that ended just now
        return None
