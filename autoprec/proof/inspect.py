"""The runtime's own account of a lowered model, beside what the plan asked for."""

from __future__ import annotations

from collections.abc import Mapping

from autoprec.backends.protocol import Backend, TimeProfile
from autoprec.lowering.lowerer import Lowerer
from autoprec.lowering.placement import quantized_macs
from autoprec.precision import Array, Precision
from autoprec.proof.verification import Verification, verify
from autoprec.units.records import Partition


def verified(lowerer: Lowerer, plan: Mapping[str, Precision], backend: Backend, model: bytes) -> Verification:
    """What the runtime made of each unit of `model`, which is `plan` lowered.

    Raises:
        BackendError: the runtime refused the model.
    """
    partition = lowerer.partition
    ran = backend.inspect(model, [node for unit in partition.units for node in unit.nodes])
    if all(precision is Precision.FP32 for precision in plan.values()):
        return verify(partition, plan, ran)
    topology, placement = lowerer.placement(plan)
    written = quantized_macs(topology, partition, placement)
    return verify(partition, plan, ran, written=written, skipped=placement.skipped)


def time_profile_of(partition: Partition, backend: Backend, model: bytes, feed: Mapping[str, Array]) -> TimeProfile:
    """Where the time of one run of `model` goes, by unit and by boundary.

    Args:
        partition: the units.
        backend: the runtime.
        model: a lowered model, serialised.
        feed: one batch.

    Raises:
        BackendError: the runtime refused the model, or gives no profile.
    """
    home = {node: unit.name for unit in partition.units for node in unit.nodes}
    return backend.profile(model, feed, home, {unit.name: unit.macs for unit in partition.units})
