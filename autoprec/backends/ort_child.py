"""Loads models and runs each once, in a process of its own: ONNX Runtime's optimiser may end the process.

It reads the path of a request from each line of its input. What ONNX Runtime says of a model does not matter here,
since the process that asked hears the same; only whether this process lives on.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import numpy as np
import onnxruntime as ort

from autoprec.backends.child_process import die_with_parent, first_victim, meet_requests
from autoprec.backends.ort_request import MODEL, RUNNING, TrialRequest
from autoprec.backends.ort_sessions import open_session, session_options
from autoprec.precision import Array

_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}


def try_out(path: Path) -> None:
    """Load the model of a request, and run it once on made-up inputs."""
    request = TrialRequest.read(path)
    options = session_options(request.threads, exact=request.exact, in_files=request.in_files)
    # ONNX Runtime looks for weights beside a model that it is given as a file.
    model = (path.parent / MODEL).read_bytes() if request.in_files else str(path.parent / MODEL)
    session = open_session(model, options, exact=request.exact, in_files=request.in_files)
    (path.parent / RUNNING).touch()
    session.run(None, {each.name: _made_up(each, request.shapes.get(each.name)) for each in session.get_inputs()})


def _made_up(wanted: ort.NodeArg, shape: tuple[int, ...] | None) -> Array:
    """Halves for floats, and the first index or token for everything else; open dimensions are 1."""
    sizes = shape or tuple(size if isinstance(size, int) else 1 for size in wanted.shape)
    if wanted.type in _FLOATS:
        return np.full(sizes, 0.5, _FLOATS[wanted.type])
    kind = wanted.type.removeprefix("tensor(").removesuffix(")")
    return np.zeros(sizes, np.dtype(kind))


def meet(path: Path) -> None:
    """Try out the model of a request, whatever ONNX Runtime says of it."""
    with contextlib.suppress(Exception):  # a refusal, which is heard in the other process too
        try_out(path)


if __name__ == "__main__":
    die_with_parent()
    first_victim()
    os.chdir(os.path.sep)  # it was started in the folder of its first request, which goes with that
    meet_requests(meet)
