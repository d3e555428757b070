"""Which process measures a running trial, and whether that process is still alive.

On the same machine the kernel is asked. A process elsewhere gives signs of life: a counter in the study that it raises
every few seconds. Whoever looks compares it with what it saw before and measures the silence by its own clock, so
that clocks of several hosts need not agree. Optuna's own heartbeats exist for databases only, and only inside its
`optimize`; these work in a journal file and through a gRPC proxy as well.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

BEAT_S = 10.0
STALE_S = 60.0
"""A process on another host that gave no sign of life for so long is taken for dead."""
FOREIGN_S = 3600.0
"""A trial of a process on another host that never gave a sign of life counts as abandoned after this time."""
HUNG_S = 3600.0
"""A plan that another process has been measuring for so long, while this one watched, is given to the next one."""
UNOWNED_S = 60.0
"""A trial without an owner after this time: its process was killed before it could mark the trial, or is older."""


def own_label() -> dict[str, Any]:
    """This process: host, process id, when it began, and which processes it can ask the kernel about."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "began": _began(os.getpid()), "space": _space()}


def label(owner: dict[str, Any]) -> str:
    """A process's name: the same for all of its trials, and for no other process."""
    return f"{owner.get('host')}:{owner.get('pid')}:{owner.get('began')}"


def abandoned(owner: dict[str, Any] | None, since: datetime | None, silent_s: float | None = None) -> bool:
    """Whether nobody works on a running trial any more.

    Args:
        owner: what `own_label` gave in the process that measures it, None where it was not stored.
        since: the time when the trial began.
        silent_s: for how long a process on another host has given no sign of life; None where it never gave one.
    """
    age_s = float("inf") if since is None else (datetime.now() - since).total_seconds()
    if owner is None:
        return age_s > UNOWNED_S
    if elsewhere(owner):
        return age_s > FOREIGN_S if silent_s is None else silent_s > STALE_S
    pid = int(owner.get("pid", 0))
    return not _alive(pid) or (owner.get("began") is not None and owner["began"] != _began(pid))


def elsewhere(owner: dict[str, Any]) -> bool:
    """Whether the kernel here does not know that process, which is on another host or in another container."""
    return owner.get("host") != socket.gethostname() or owner.get("space", _space()) != _space()


class Watch:
    """For how long processes on other hosts have been silent.

    Args:
        clock: gives the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[str, tuple[Any, float]] = {}

    def silent_s(self, name: str, beat: Any) -> float | None:
        """Seconds since this process saw a counter change; None where there is no counter."""
        if beat is None:
            return None
        last = self._seen.get(name)
        if last is None or last[0] != beat:
            last = self._seen[name] = (beat, self._clock())
        return self._clock() - last[1]


@contextlib.contextmanager
def beating(beat: Callable[[int], None], every_s: float = BEAT_S) -> Iterator[None]:
    """Give signs of life while the block runs: the first at once, the others from a thread.

    Args:
        beat: stores the counter; an error in the thread is ignored, because the next beat tries again.
        every_s: the seconds between two signs.
    """
    over = threading.Event()

    def go_on() -> None:
        count = 1
        while not over.wait(every_s):
            count += 1
            with contextlib.suppress(Exception):
                beat(count)

    beat(1)
    thread = threading.Thread(target=go_on, name="autoprec-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(every_s)


def _alive(pid: int) -> bool:
    if os.name == "nt":  # signal 0 would end the process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return _state(pid) != "Z"  # a dead child that its parent has not asked after yet


def _began(pid: int) -> str | None:
    """The kernel's start time of a process, by which a reused process id is seen; None where it is not known."""
    fields = _stat(pid)
    return fields[19] if len(fields) > 19 else None


def _state(pid: int) -> str:
    fields = _stat(pid)
    return fields[0] if fields else ""


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return []


def _space() -> str | None:
    """Which process ids are valid here: containers may have a host's name and process ids of their own."""
    try:
        return f"{os.readlink('/proc/self/ns/pid')} {Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
    except OSError:
        return None
