"""The units of a model under the names that an earlier version, or an earlier export, gave them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from autoprec.units.records import Partition


def homes_of(partition: Partition, keys: Mapping[str, str]) -> dict[str, str]:
    """Return unit name -> the name that it has in a plan, for each unit that the plan knows.

    A unit is found by its name, by its structural key, or by an earlier name, which was that of one of its nodes.

    Args:
        partition: the units of the model.
        keys: the name of each unit of the plan -> its structural key.
    """
    by_key = {key: name for name, key in keys.items()}
    found: dict[str, str] = {}
    for unit in partition.units:
        earlier = next((node for node in reversed((*unit.nodes, *unit.anchors)) if node in keys), None)
        home = unit.name if unit.name in keys else by_key.get(unit.key, earlier)
        if home is not None:
            found[unit.name] = home
    return found


def renamed(partition: Partition, names: Mapping[str, str]) -> Partition:
    """Return the partition with other names of units.

    Args:
        partition: the units of the model.
        names: the name of each unit -> its new name.
    """
    units = tuple(replace(unit, name=names[unit.name]) for unit in partition.units)
    edges = tuple(
        replace(edge, producer=names.get(edge.producer, ""), consumer=names.get(edge.consumer, ""))
        for edge in partition.edges
    )
    return replace(partition, units=units, edges=edges)
