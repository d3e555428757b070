"""The hardware of this process and of the workers beside it: the options --device, --cores and --workers."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from autoprec.errors import UsageError

if TYPE_CHECKING:
    from autoprec.workers.processes import WorkerProcesses

Helper = tuple[list[str], dict[str, str]]
"""The arguments of one `autoprec worker`, and the variables of its environment."""


def pin(device: int | None, cores: str | None) -> None:
    """Let this process use one GPU and some cores only. CUDA and ONNX Runtime must not be loaded yet.

    Raises:
        UsageError: there is no such GPU, or no such core.
    """
    from autoprec.workers.devices import gpu_environment, parse_cores, pin_cores

    if device is not None:
        os.environ.update(gpu_environment(device))
    if cores is not None:
        pin_cores(parse_cores(cores))


def pinned(
    backend: str, targets: str, *, threads: int | None, device: int | None, cores: str | None, workers: int
) -> list[Helper]:
    """Pin this process to its hardware, and give each worker beside it hardware of its own.

    Args:
        backend: the name of the backend.
        targets: the GPUs that engines are built for, "" for this machine's.
        threads: the number of CPU threads that each process uses.
        device: this process's GPU; the workers take the next ones.
        cores: the cores to be shared out.
        workers: the number of workers beside this process.

    Raises:
        UsageError: there are too few GPUs or cores, or the backend has no use for a GPU.
    """
    from autoprec.backends.make import wants_gpu
    from autoprec.workers.devices import (
        builds_elsewhere,
        core_blocks,
        gpu_environment,
        on_its_own,
        parse_cores,
        usable_cores,
    )

    gpu = wants_gpu(backend, targets)
    if device is not None and not gpu:
        what = "an engine that is built for other GPUs" if targets else backend
        raise UsageError(f"--device is for backends that run on this machine's GPU, got it with {what}; leave it out")
    helpers: list[Helper] = [([], {}) for _ in range(workers)]
    if gpu and workers:
        environments = [gpu_environment((device or 0) + location) for location in range(workers + 1)]
        helpers = [(["--get-ready", backend], environment | on_its_own()) for environment in environments[1:]]
        os.environ.update(environments[0] | builds_elsewhere(environments[1:]))
        device = None
    elif workers and (usable := usable_cores()):
        blocks = core_blocks(parse_cores(cores) if cores else usable, workers + 1, threads)
        helpers = [(["--cores", ",".join(map(str, block))], {}) for block in blocks[1:]]
        cores = ",".join(map(str, blocks[0]))
    pin(device, cores)
    return helpers


def worker_processes(
    helpers: list[Helper], folder: Path, storage: str | None, say: Callable[[str], None]
) -> WorkerProcesses:
    """The workers of the run in `folder`.

    The study's URL is no argument of theirs, since all users of a machine see those.
    """
    from autoprec.run.directory import RunDirectory
    from autoprec.workers.processes import WorkerProcesses

    location = {} if storage is None else {"AUTOPREC_STORAGE": storage}
    return WorkerProcesses(
        RunDirectory(folder), [text for text, _ in helpers], [{**env, **location} for _, env in helpers], say
    )
