"""Workers that a run starts on its own machine, and that end with it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from autoprec.errors import EXIT_INTERRUPTED, EXIT_OK
from autoprec.run.directory import RunDirectory

# Not `-m autoprec`: it would look for modules in the current folder first, and the user's may hold any.
_MAIN = "import sys; sys.path.pop(0); from autoprec.cli import main; main(prog_name='autoprec')"
_PATIENCE_S = 60.0
"""A worker may still measure a plan when the search ends."""


class WorkerProcesses:
    """Worker processes on this machine.

    A worker's end costs the plan that it measured, which another measures, and not the run. It reads from a pipe that
    nobody writes to: when this process ends, however that comes about, so does the pipe, and the worker with it.

    Args:
        directory: of the run; each worker's words go to a file there.
        arguments: of `autoprec worker`, for each of them.
        environments: what each finds in its environment besides this process's.
        say: told of a worker that failed.
    """

    def __init__(
        self,
        directory: RunDirectory,
        arguments: Sequence[Sequence[str]],
        environments: Sequence[Mapping[str, str]],
        say: Callable[[str], None],
    ) -> None:
        self._directory, self._say = directory, say
        self._plans = list(zip(arguments, environments, strict=True))
        self._processes: list[subprocess.Popen[bytes]] = []
        self._watchers: list[threading.Thread] = []
        self._over = False

    def start(self) -> None:
        """Start them; an operating system that refuses one is spoken of, and the others go on."""
        for number, (arguments, environment) in enumerate(self._plans, 1):
            log = self._directory.worker_log(number)
            command = [sys.executable, "-c", _MAIN, "worker", str(self._directory.root), "--with-parent", *arguments]
            try:
                with log.open("wb") as output:
                    process = subprocess.Popen(
                        command, stdin=subprocess.PIPE, stdout=output, stderr=output, env=_environment(environment)
                    )
            except OSError as error:
                self._say(f"worker {number} could not be started: {error.strerror or error}")
                continue
            self._processes.append(process)
            watcher = threading.Thread(target=self._watch, args=(number, process, log), daemon=True)
            watcher.start()
            self._watchers.append(watcher)

    def __enter__(self) -> WorkerProcesses:
        """The crew; nothing is started yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for those that still measure, and end the others."""
        self._over = True
        for process in self._processes:
            if process.stdin is not None:
                with contextlib.suppress(OSError):
                    process.stdin.close()
        for process in self._processes:
            try:
                process.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for watcher in self._watchers:
            watcher.join(1.0)

    def _watch(self, number: int, process: subprocess.Popen[bytes], log: Path) -> None:
        code = process.wait()
        if code not in (EXIT_OK, EXIT_INTERRUPTED) and not self._over:
            self._say(
                f"worker {number} ended with exit code {code}: {_last_line(log)} (all of it in {log}); the run goes on "
                f"without it"
            )


def _environment(other: Mapping[str, str]) -> dict[str, str]:
    """Modules are found where this process finds them."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return {**os.environ, **other, "PYTHONPATH": path}


def _last_line(log: Path) -> str:
    with contextlib.suppress(OSError):
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else "it said nothing"
    return "it said nothing"
