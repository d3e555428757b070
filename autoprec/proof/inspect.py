"""Inspection of a lowered model: what the runtime says about it, compared with the plan."""

from __future__ import annotations

from collections.abc import Mapping

from autoprec.backends.protocol import Backend, TimeProfile
from autoprec.lowering.lowerer import Lowerer
from autoprec.lowering.placement import quantized_macs
from autoprec.precision import Array, Precision
from autoprec.proof.verification import Verification, verify
from autoprec.units.records import Partition


def verified(
    lowerer: Lowerer, plan: Mapping[str, Precision], backend: Backend, model: bytes, *, freely: bool = False
) -> Verification:
    """Return what the runtime made of each unit of `model`.

    Args:
        lowerer: the lowerer that made the model.
        plan: the precisions that the model was lowered by.
        backend: the runtime.
        model: the lowered model, serialised.
        freely: whether precisions were left to the builder, so that what ran is what was asked for.

    Raises:
        BackendError: the runtime refused the model.
    """
    partition = lowerer.partition
    ran = backend.inspect(model, [node for unit in partition.units for node in unit.nodes])
    if freely:
        found = {unit.unit: unit.ran for unit in verify(partition, plan, ran).units if unit.ran is not None}
        return verify(partition, {**plan, **found}, ran)
    if all(plan.get(unit.name, unit.source) is unit.source for unit in partition.units):
        return verify(partition, plan, ran)
    topology, placement = lowerer.placement(plan)
    written = quantized_macs(topology, partition, placement)
    return verify(partition, plan, ran, written=written, skipped=placement.skipped)


def time_profile_of(partition: Partition, backend: Backend, model: bytes, feed: Mapping[str, Array]) -> TimeProfile:
    """Return the time of one run of `model` by unit and by boundary between units.

    Args:
        partition: the units of the model.
        backend: the runtime.
        model: the lowered model, serialised.
        feed: the inputs of one batch by name.

    Raises:
        BackendError: the runtime refused the model, or it cannot profile.
    """
    home = {node: unit.name for unit in partition.units for node in unit.nodes}
    return backend.profile(model, feed, home, {unit.name: unit.macs for unit in partition.units})
