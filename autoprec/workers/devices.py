"""One GPU, or some cores, for this process: chosen before anything that would take others is loaded."""

from __future__ import annotations

import contextlib
import os
import re

from autoprec.backends.tensorrt.machine import find_gpus
from autoprec.errors import UsageError

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_ORDER = "CUDA_DEVICE_ORDER"


def gpu_environment(number: int) -> dict[str, str]:
    """What a process must find in its environment to see only one of the GPUs that this process may use.

    Args:
        number: in nvidia-smi's order; where CUDA_VISIBLE_DEVICES is set, among those that it names.

    Raises:
        UsageError: there is no such GPU.
    """
    listed = os.environ.get(_VISIBLE)
    if listed is None:
        names = [str(index) for index in range(len(find_gpus().gpus) or number + 1)]  # with nobody to ask, CUDA tells
        where = "this machine has"
    else:
        names = [name.strip() for name in listed.split(",") if name.strip()]
        where = f"{_VISIBLE}={listed} leaves"
    if number >= len(names):
        raise UsageError(f"--device {number} must be the number of a GPU, counted from 0, but {where} {len(names)}")
    return {_VISIBLE: names[number], _ORDER: os.environ.get(_ORDER, "PCI_BUS_ID")}


def parse_cores(text: str) -> tuple[int, ...]:
    """The cores of "0-3,8".

    Raises:
        UsageError: it has another form.
    """
    cores: set[int] = set()
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,5})(?:-(\d{1,5}))?\s*", part)
        if match is None or (match[2] and int(match[2]) < int(match[1])):
            raise UsageError(f"--cores must be numbers of cores such as 0-3,8, got {text!r}")
        cores |= set(range(int(match[1]), int(match[2] or match[1]) + 1))
    return tuple(sorted(cores))


def usable_cores() -> tuple[int, ...]:
    """The cores that this process may use; none where the platform does not say."""
    try:
        return tuple(sorted(os.sched_getaffinity(0)))
    except AttributeError:  # not on macOS
        return ()


def pin_cores(cores: tuple[int, ...]) -> None:
    """Keep this process, and what it starts, to these cores.

    Raises:
        UsageError: they are not this process's to use, or the platform cannot do it.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise UsageError("--cores must have a platform that can keep a process to cores, such as Linux; leave it out")
    before = usable_cores()
    with contextlib.suppress(OSError):  # none of them is there
        os.sched_setaffinity(0, cores)
        if usable_cores() == cores:
            return
        os.sched_setaffinity(0, before)
    raise UsageError(
        f"--cores must be among those that this process may use, such as {_words(before)}, got {_words(cores)}"
    )


def core_blocks(cores: tuple[int, ...], count: int, threads: int | None) -> list[tuple[int, ...]]:
    """As many blocks of equal size, so that processes do not disturb each other's clock.

    Args:
        cores: to be shared out.
        count: of blocks.
        threads: size of a block; by default as large as they can be.

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


def _words(cores: tuple[int, ...]) -> str:
    return ",".join(map(str, cores))
