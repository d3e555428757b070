"""Worker processes that a run starts on its own machine and that end with it."""

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

# `-m autoprec` would look for modules in the current folder first, where the user may have modules of any name.
_MAIN = "import sys; sys.path.pop(0); from autoprec.cli import main; main(prog_name='autoprec')"
_PATIENCE_S = 60.0
"""How many seconds a run waits for a worker that still measures a plan when the search ends."""


class WorkerProcesses:
    """Worker processes on this machine.

    If a worker ends early, another process measures its plan, and the run continues. Each worker reads from a pipe that
    nobody writes to. When this process ends, for whatever reason, the operating system closes the pipe, and the worker
    ends too.

    Args:
        directory: the directory of the run; the output of each worker goes to a file there.
        arguments: the arguments of `autoprec worker` for each worker.
        environments: the environment variables that each worker gets in addition to those of this process.
        say: the function that is told when a worker failed.
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
        """Start the workers. If the operating system refuses one, the user is told, and the others are started."""
        for number, (arguments, environment) in enumerate(self._plans, 1):
            log = self._directory.worker_log(number)
            command = [sys.executable, "-c", _MAIN, "worker", str(self._directory.root), "--with-parent", *arguments]
            command += ["--trust", str(self._directory.search)]  # this process wrote it
            self._directory.inventory.take(log.name)
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
        """Return the object itself; nothing is started yet."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the workers that still measure a plan, and kill those that take too long."""
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
    """Return the environment of a worker, in which modules are found where this process finds them."""
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return {**os.environ, **other, "PYTHONPATH": path}


def _last_line(log: Path) -> str:
    with contextlib.suppress(OSError):
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
        return lines[-1].strip() if lines else "it said nothing"
    return "it said nothing"
