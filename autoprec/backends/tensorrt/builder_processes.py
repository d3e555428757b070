"""The processes that build engines: on the GPU of this process, and on those that its workers will measure on."""

from __future__ import annotations

import os

from autoprec.backends.child_process import ChildProcess
from autoprec.backends.host import available_cpus
from autoprec.backends.tensorrt.build_queue import BuildQueue, SharedQueue
from autoprec.backends.tensorrt.request import CHILD
from autoprec.backends.tensorrt.warm_up import warm_up

OTHER_GPUS = "AUTOPREC_BUILDER_GPUS"
"""The environment variable that names further GPUs of the same kind to build on, as CUDA_VISIBLE_DEVICES names them."""
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_MOST_BUILDERS, _CPUS_OF_A_BUILDER = 5, 3  # each builder works on a CPU thread, and the run on others
_ELSEWHERE = 2  # one for a build that is alone on its GPU, and one for what goes on beside it


def builder_queue(bindings_name: str, hardware: str, *, runs_here: bool) -> SharedQueue:
    """The processes that build for one backend, which are started with the first build.

    Args:
        bindings_name: "tensorrt" or "tensorrt_rtx".
        hardware: the hardware that engines are for.
        runs_here: whether that is this machine's GPU, where builds are begun ahead in several processes.
    """
    count = max(min(_MOST_BUILDERS, available_cpus() // _CPUS_OF_A_BUILDER), 1) if runs_here else 1
    others = [name for name in os.environ.get(OTHER_GPUS, "").split(",") if name and runs_here]
    places = [""] * count + [name for name in others for _ in range(_ELSEWHERE)]
    processes = [ChildProcess(CHILD, environment={_VISIBLE: place} if place else {}) for place in places]
    return SharedQueue(BuildQueue(processes, lambda process: warm_up(bindings_name, hardware, process), places))
