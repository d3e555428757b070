"""A command that calls functions of the user's runs in a child process, whose end is looked at.

A function can end its process so that no `except` and no `finally` sees it: by `os._exit`, or in C by exit. The code is
then whatever that call says, often 0, and a shell takes a run without an answer for one that succeeded. The child says
when it ended as it should, so its parent knows when it did not.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterator, Sequence

from autoprec.errors import EXIT_USAGE
from autoprec.files.functions import is_function_name

_FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_WATCHED: dict[int, int] = {}
"""The process that is watched -> the pipe by which it says that it ends as it should."""
_PR_SET_PDEATHSIG = 1  # the option of prctl(2) that has the kernel end a child with its parent


def named_functions(command: Sequence[str]) -> list[str]:
    """The words of a command line, or the values of its options, that have the form module:function."""
    values = [word.partition("=")[2] if word.startswith("--") and "=" in word else word for word in command]
    return [value for value in values if is_function_name(value)]


@contextlib.contextmanager
def supervised(functions: Sequence[str]) -> Iterator[None]:
    """Run the body in a child process; the parent ends as the child does, or with a message where that ended too early.

    Without functions the body runs in this process.

    Args:
        functions: the functions of the user's that the body may call, for the message.
    """
    if not functions:
        yield
        return
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # a parent that ignored it would never learn how its child ended
    known, parent = signal.pthread_sigmask(signal.SIG_BLOCK, {*_FORWARDED, signal.SIGCHLD}), os.getpid()
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        status = _wait(child)
        os.set_blocking(reading, False)
        with contextlib.suppress(BlockingIOError):  # a process that the child started may still hold the pipe
            _end(status, os.read(reading, 1) == b"e", functions)
        _end(status, False, functions)
    signal.pthread_sigmask(signal.SIG_SETMASK, known)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was killed before the kernel knew
        sys.exit(EXIT_USAGE)
    os.close(reading)
    _WATCHED[os.getpid()] = writing
    try:
        yield
    finally:
        say_complete()


def say_complete() -> None:
    """Tell the parent, where there is one, that this process ends as it should."""
    writing = _WATCHED.get(os.getpid())  # none in a process that a function of the user's forked
    if writing is not None:
        os.write(writing, b"e")


def _wait(child: int) -> int:
    """Wait for the child's end and pass signals on; returns its status."""
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        arrived = signal.sigwaitinfo({*_FORWARDED, signal.SIGCHLD})
        # A terminal sends its signals to the child too, and says so: those of the kernel have a code above 0.
        if arrived.si_signo != signal.SIGCHLD and arrived.si_code <= 0:
            os.kill(child, arrived.si_signo)


def _end(status: int, complete: bool, functions: Sequence[str]) -> None:
    """End this process as the child ended, with a sentence where nothing else says why."""
    named = " or ".join(dict.fromkeys(functions))
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number not in _FORWARDED:
            name = signal.Signals(number).name
            _say(f"the process was ended by {name}, perhaps in {named}; the same command goes on where it was")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the child has left one already
        signal.signal(number, signal.SIG_DFL) if number not in (signal.SIGKILL, signal.SIGSTOP) else None
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    code = os.waitstatus_to_exitcode(status)
    if not complete:
        _say(
            f"the process ended with exit code {code} before its work was done: {named}, or a library that it calls, "
            f"ended it; a function must return its result, or raise an error that says what is wrong"
        )
        code = EXIT_USAGE
    sys.exit(code)


def _say(text: str) -> None:
    print(f"autoprec: {text}", file=sys.stderr, flush=True)
