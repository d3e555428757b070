"""The GPU or the cores of a process, which must be chosen before a library is loaded that would take others."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping, Sequence

from autoprec.backends.tensorrt.builder_processes import OTHER_GPUS
from autoprec.backends.tensorrt.machine import find_gpus
from autoprec.errors import UsageError

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_ORDER = "CUDA_DEVICE_ORDER"


def gpu_environment(number: int) -> dict[str, str]:
    """Return the environment variables with which a process sees only one of the GPUs that this process may use.

    Args:
        number: the number of the GPU in the order of nvidia-smi. If CUDA_VISIBLE_DEVICES is set, it is the index among
            the GPUs that the variable names.

    Raises:
        UsageError: there is no such GPU.
    """
    listed = os.environ.get(_VISIBLE)
    if listed is None:
        # If the number of GPUs is unknown, any number is accepted, and CUDA will report a wrong one.
        names = [str(index) for index in range(len(find_gpus().gpus) or number + 1)]
        where = "this machine has"
    else:
        names = [name.strip() for name in listed.split(",") if name.strip()]
        where = f"{_VISIBLE}={listed} leaves"
    if number >= len(names):
        raise UsageError(f"--device {number} must be the number of a GPU, counted from 0, but {where} {len(names)}")
    return {_VISIBLE: names[number], _ORDER: os.environ.get(_ORDER, "PCI_BUS_ID")}


def builds_elsewhere(others: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the environment variable by which a run also builds engines on the GPUs of its workers.

    Until the search begins, those GPUs have nothing else to do. GPUs of several kinds build for themselves only.

    Args:
        others: the environment of each worker.
    """
    if len({gpu.name for gpu in find_gpus().gpus}) != 1:
        return {}
    return {OTHER_GPUS: ",".join(environment[_VISIBLE] for environment in others)}


def on_its_own() -> dict[str, str]:
    """Return the environment variable by which a process builds engines on its own GPU only."""
    return {OTHER_GPUS: ""}


def parse_cores(text: str) -> tuple[int, ...]:
    """Return the cores that a text such as "0-3,8" names, in ascending order.

    Raises:
        UsageError: the text has another form.
    """
    cores: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part)
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise UsageError(f"--cores must be numbers of cores such as 0-3,8, got {text!r}")
        cores |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(cores))


def usable_cores() -> tuple[int, ...]:
    """Return the cores that this process may use, or none if the platform does not tell."""
    try:
        return tuple(sorted(os.sched_getaffinity(0)))
    except AttributeError:  # macOS does not have this function
        return ()


def pin_cores(cores: tuple[int, ...]) -> None:
    """Restrict this process, and the processes that it starts, to these cores.

    Raises:
        UsageError: this process may not use one of the cores, or the platform cannot restrict processes.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("--cores must have a platform that can keep a process to cores, such as Linux; leave it out")
    before = usable_cores()
    with contextlib.suppress(OSError):  # this is raised if none of the cores exists
        os.sched_setaffinity(0, cores)
        if usable_cores() == cores:
            return
        os.sched_setaffinity(0, before)
    raise UsageError(
        f"--cores must be among those that this process may use, such as {_listed(before)}, got {_listed(cores)}"
    )


def core_blocks(cores: tuple[int, ...], count: int, threads: int | None) -> list[tuple[int, ...]]:
    """Divide cores into blocks of equal size, so that processes do not disturb each other's timings.

    Args:
        cores: the cores to divide.
        count: the number of blocks.
        threads: the number of cores in a block; by default the largest that is possible.

    Raises:
        UsageError: there are too few cores.
    """
    size = threads or len(cores) // count
    if not size or size * count > len(cores):
        raise UsageError(
            f"{count} processes of {size or 1} threads, this one and {count - 1} workers, must have "
            f"{count * (size or 1)} cores, or they would disturb each other's clock, but there are {len(cores)}; give "
            f"fewer --workers or --threads, or start `autoprec worker` on other hosts"
        )
    return [cores[index * size : (index + 1) * size] for index in range(count)]


def _listed(cores: tuple[int, ...]) -> str:
    return ",".join(map(str, cores))
