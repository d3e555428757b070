"""Metadata of nodes for people: in which precision each was planned, as Netron and other viewers show it."""

from __future__ import annotations

from collections.abc import Mapping

from autoprec.lowering.lowerer import Lowered
from autoprec.precision import Precision
from autoprec.units.records import Partition

PLANNED = "autoprec.planned"
"""The key. No runtime reads it: `autoprec.precision` is the one that TensorRT 8.6 is told by."""


def note_plan(lowered: Lowered, partition: Partition, precisions: Mapping[str, Precision]) -> Lowered:
    """Write the plan into the metadata of the nodes of a lowered model that is about to be written, and return it.

    Casts and Q/DQ pairs between units have none. A model that the plan does not change stays as it was read. Protobuf
    readers of ONNX before IR version 10, which do not know metadata of nodes, skip it. What was measured of a plan, its
    size too, is without it.
    """
    if not partition.changed(precisions):
        return lowered
    for unit in partition.units:
        planned = precisions.get(unit.name, unit.source).value
        for name in unit.nodes:
            for node in lowered.record.nodes.get(name, ()):
                node.metadata_props[PLANNED] = planned
    return lowered
