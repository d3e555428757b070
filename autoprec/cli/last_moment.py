"""Ends a command that still runs when its time limit and a tenth are over, whatever it is doing.

A run divides its time and cuts its steps itself. What no step can be asked to leave is the start, one call into a
library, or one run of a very slow model; all that was measured is on the disk by then.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from os import _exit as end_process
from typing import Any

from autoprec.cli.supervise import say_complete
from autoprec.errors import OutOfTimeError

LIMIT_FACTOR, ENDING_S = 1.1, 1.0
"""A command ends at this many times its limit, and so many seconds beyond, in which a process may end."""


@contextlib.contextmanager
def last_moment(
    limit_s: float | None,
    elapsed_s: float,
    *,
    timer: Callable[[float, Callable[[], None]], Any] = threading.Timer,
    end: Callable[[int], Any] = end_process,
) -> Iterator[None]:
    """End the process if the block has not ended by then.

    Args:
        limit_s: the time limit in seconds, None for none.
        elapsed_s: the seconds of it that are used up.
        timer: makes what calls a function after so many seconds; it has `start` and `cancel`.
        end: ends the process with an exit code.
    """
    if limit_s is None:
        yield
        return

    def late() -> None:
        print(
            f"autoprec: the time limit of {limit_s:g} s is over, and a step that cannot be ended in its midst still "
            f"runs; what was measured is kept, and the same command with more time goes on from there",
            file=sys.stderr,
            flush=True,
        )
        say_complete()
        end(OutOfTimeError.exit_code)

    clock = timer(max(LIMIT_FACTOR * limit_s + ENDING_S - elapsed_s, 0.0), late)
    clock.daemon = True
    clock.start()
    try:
        yield
    finally:
        clock.cancel()
