"""A process that does what may crash: one for many requests, started anew where it died.

Loading a runtime takes seconds, as long as what it is asked for. What it must not do is take the search with it when
it crashes, so it is told what to do through a pipe.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

DONE = "done\n"
"""The answer."""
STDERR = "stderr.txt"
"""What was printed during a request, in the request's folder."""

_PR_SET_PDEATHSIG = 1
_MOST_REQUESTS = 50
"""A process that has met so many is replaced, so that nothing that a runtime does not free adds up."""


class ChildProcess:
    """Runs requests one after the other.

    Args:
        command: the command that is started; it reads the paths of requests, a line each, and answers each with `DONE`.
        most: the number of requests after which the process is replaced.
        environment: variables of its environment in addition to those of this process.
    """

    def __init__(
        self, command: Sequence[str], most: int = _MOST_REQUESTS, *, environment: Mapping[str, str] | None = None
    ) -> None:
        self._command, self._most, self._environment = tuple(command), most, dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._requests = 0
        self._turn = threading.Lock()
        self._clean_up: Callable[[], object] = _nothing

    def run(self, request: Path, time_limit_s: float) -> int:
        """Run a request to its end; returns 0, or the exit code of the process where that ended too.

        Raises:
            TimeoutError: it took too long; the process was stopped.
        """
        with self._turn:
            deadline = time.monotonic() + time_limit_s
            process = self._ready(request)
            try:
                code = self._answer(process, request, deadline)
            except BaseException:  # the user's interrupt too
                self._stop()
                raise
            if code is not None:
                self._stop()
            return code or 0

    def cancel(self) -> None:
        """End the process at once, in the midst of a request too; whoever waits for that gets its exit code."""
        process = self._process
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process."""
        with self._turn:
            self._stop()

    def _ready(self, request: Path) -> subprocess.Popen[bytes]:
        if self._process is not None and (self._process.poll() is not None or self._requests >= self._most):
            self._stop()
        if self._process is None:
            with (request.parent / STDERR).open("wb") as stderr:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    cwd=request.parent,  # `python -m` looks for modules there first, and the user's folder may hold any
                    env={**_environment(), **self._environment},
                    start_new_session=True,
                )
            self._clean_up = weakref.finalize(self, _end, self._process)
            self._requests = 0
        self._requests += 1
        return self._process

    def _answer(self, process: subprocess.Popen[bytes], request: Path, deadline: float) -> int | None:
        """None when the request was answered, the exit code when the process ended instead."""
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it died before it read: its exit code tells more
            process.stdin.write(f"{request.resolve()}\n".encode())
            process.stdin.flush()
        answer = b""
        while not answer.endswith(DONE.encode()):
            ready, _, _ = select.select([process.stdout], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                raise TimeoutError
            more = os.read(process.stdout.fileno(), 1 << 10)
            if not more:
                return process.wait()
            answer += more
        return None

    def _stop(self) -> None:
        if self._process is not None:
            self._clean_up()
            self._process = None


def _nothing() -> None:
    """There is nothing to clean up yet."""


def _environment() -> Mapping[str, str]:
    """The child finds modules where this process does, whatever folder it was started from."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path)}


def _end(process: subprocess.Popen[Any]) -> None:
    """End the process and what it started, whichever of them still runs."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()


def die_with_parent() -> None:
    """Have the kernel end this process if the one that asked is killed, which cannot do it then."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def first_victim() -> None:
    """Have the kernel end this process before others where memory runs out, so that the one that asked lives on."""
    with contextlib.suppress(OSError):  # not on Linux
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def meet_requests(meet: Callable[[Path], None]) -> None:
    """Be the child: meet the request of each line of the input; what libraries print goes into the request's folder."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    for line in sys.stdin:
        path = Path(line.rstrip("\n"))
        with (path.parent / STDERR).open("ab") as file:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
                os.dup2(file.fileno(), stream.fileno())
        meet(path)
        answers.write(DONE)
        answers.flush()
