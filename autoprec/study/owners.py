"""Whose a running trial is, and whether that process still lives."""

from __future__ import annotations

import os
import socket
from datetime import datetime
from pathlib import Path
from typing import Any

FOREIGN_S = 3600.0
"""A trial of another host, which cannot be asked, counts as abandoned after this time."""
UNOWNED_S = 60.0
"""A trial without an owner was killed between being begun and being marked, or belongs to an older version."""


def own_mark() -> dict[str, Any]:
    """This process: host, process id, and when it began."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "began": _began(os.getpid())}


def abandoned(owner: dict[str, Any] | None, since: datetime | None) -> bool:
    """Whether nobody works on a running trial any more.

    Args:
        owner: what `own_mark` said there, None where it was not stored.
        since: when the trial began.
    """
    age_s = float("inf") if since is None else (datetime.now() - since).total_seconds()
    if owner is None:
        return age_s > UNOWNED_S
    if owner.get("host") != socket.gethostname():
        return age_s > FOREIGN_S
    pid = int(owner.get("pid", 0))
    return not _alive(pid) or (owner.get("began") is not None and owner["began"] != _began(pid))


def _alive(pid: int) -> bool:
    if os.name == "nt":  # signal 0 would end the process there
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # another user's
        return True
    return True


def _began(pid: int) -> str | None:
    """The kernel's start time, so that a reused process id is told apart; None where it is not known."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()[19]
    except (OSError, IndexError):
        return None
