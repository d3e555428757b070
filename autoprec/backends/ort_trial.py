"""Trying a model out in another process before this one loads it, since ONNX Runtime may end the process by a crash."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from autoprec.backends.child_process import STDERR, ChildProcess
from autoprec.backends.ort_request import MODEL, RUNNING, TrialRequest
from autoprec.errors import BackendError
from autoprec.files.onnx_message import OnnxMessage, whole_bytes
from autoprec.files.scratch import ScratchFolder

CHILD = (sys.executable, "-m", "autoprec.backends.ort_child")
"""The command that tries models out."""
TIME_LIMIT_S = 300.0
"""The most seconds for loading a model and one run, and once more for each GiB of the model."""
_LARGE_BYTES = 1 << 28
"""A process that loaded so large a model ends at once, since it might keep the memory."""
_MOST = 500


class ModelTrial:
    """Loads models in a process of its own, each once; the models of one Python process share that process.

    Args:
        command: the command that is started; by default `CHILD`.
        time_limit_s: the most seconds for a small model.
    """

    def __init__(self, command: Sequence[str] = CHILD, time_limit_s: float = TIME_LIMIT_S) -> None:
        self._command, self._limit_s = tuple(command), time_limit_s
        self._processes: dict[int, ChildProcess] = {}
        self._fine: set[str] = set()

    def survives(self, model: bytes, request: TrialRequest) -> None:
        """Load the model and run it once, unless that went well before.

        Args:
            model: the serialised model.
            request: how it is loaded.

        Raises:
            BackendError: the process crashed, or took too long.
        """
        told = replace(request, in_files=isinstance(model, OnnxMessage))
        key = hashlib.sha256(model).hexdigest() + str(request.exact)
        if key in self._fine:
            return
        # After a fork, two processes would read the answers of one child.
        process = self._processes.setdefault(os.getpid(), ChildProcess(self._command, _MOST))
        with ScratchFolder() as folder:
            (folder / MODEL).write_bytes(model)
            limit_s = self._limit_s * (1 + whole_bytes(model) / (1 << 30))
            try:
                code = process.run(told.write(folder), limit_s)
            except TimeoutError as error:
                raise BackendError(
                    f"ONNX Runtime did not {_doing(folder)} the model within {limit_s:g} s and was stopped"
                ) from error
            if len(model) >= _LARGE_BYTES or isinstance(model, OnnxMessage):
                process.close()
            if code < 0:
                raise BackendError(_death(-code, folder))
        # A process that could not be started as it should says nothing about the model.
        self._fine.add(key)


def _doing(folder: Path) -> str:
    return "run" if (folder / RUNNING).exists() else "load"


def _death(number: int, folder: Path) -> str:
    """What to tell the user of a process that a signal ended."""
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    said = folder / STDERR
    last = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:] if said.is_file() else []
    because = "; there was most likely too little memory" if name == "SIGKILL" else ""
    text = f"; it said: {last[0][:200]}" if last else ""
    return f"ONNX Runtime crashed ({name}) when it was to {_doing(folder)} the model{because}{text}"
