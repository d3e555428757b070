"""The search space of a run whose user names none."""

from __future__ import annotations

from collections.abc import Collection

from autoprec.backends.protocol import Backend
from autoprec.graph.topology import Topology
from autoprec.lowering.possible import why_not
from autoprec.precision import Precision
from autoprec.recipes.space import SearchSpace, load_search_space
from autoprec.run.settings import Settings
from autoprec.units.records import Partition

_FEWEST_UNITS, _LEAST_WORK = 4, 0.5
"""A model's work lies in matrix products if so many units, with this share of all multiply-accumulates, are such."""


def space_of(settings: Settings, backend: Backend, partition: Partition, topology: Topology) -> SearchSpace:
    """Load the search space that the user names, else the backend's for a model like this one.

    Args:
        settings: the options of the user.
        backend: the runtime.
        partition: the units of the model.
        topology: its graph.

    Raises:
        RecipeError: the search space is damaged.
    """
    space = load_search_space(settings.space or backend.default_space)
    if settings.space is not None or space.products is None:
        return space
    wider = load_search_space(space.products)
    added, support = {*wider.precisions} - {*space.precisions}, backend.support()
    native = [p for p in added if support.get(p, "not named") is None]
    return wider if native and _lies_in_products(partition, topology, backend, native) else space


def _lies_in_products(
    partition: Partition, topology: Topology, backend: Backend, precisions: Collection[Precision]
) -> bool:
    """Return whether most of the work is in units that can run in one of these precisions."""
    able = [
        unit
        for unit in partition.units
        if unit.macs and any(why_not(topology, unit, p, backend.scheme) is None for p in precisions)
    ]
    total = sum(unit.macs for unit in partition.units)
    return len(able) >= _FEWEST_UNITS and sum(unit.macs for unit in able) >= _LEAST_WORK * total
