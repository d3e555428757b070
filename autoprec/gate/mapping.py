"""The mapping of a committed plan to a model that was exported again, by structural keys first and by names second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from autoprec.errors import BaselineError
from autoprec.graph.interface import Interface, TensorSpec
from autoprec.graph.topology import Topology
from autoprec.plan import Choice, Plan
from autoprec.units.keys import value_keys
from autoprec.units.quantized import quantized_nodes
from autoprec.units.records import Partition

_LEAST_SHARE = 0.5  # the least share of the arithmetic that the plan must know, or it is of another model


@dataclass(frozen=True, slots=True)
class Fitted:
    """A plan with the names of another export.

    Attributes:
        plan: the plan.
        notes: one sentence for each way in which units do not correspond one to one.
    """

    plan: Plan
    notes: tuple[str, ...]


def fit_plan(plan: Plan, values: Mapping[str, str], topology: Topology, partition: Partition, model: str) -> Fitted:
    """Return the plan for this model.

    Units are found by their structural key or, if the graph before them changed, by name. A unit that the plan does not
    know runs in the plan's carrier.

    Args:
        plan: the committed plan.
        values: the name of each calibrated value -> its structural key, as committed.
        topology: the topology of the model.
        partition: the units of the model.
        model: the path of the model, for messages.

    Raises:
        BaselineError: less than half of the model's arithmetic is in units of the plan.
    """
    homes = _homes(plan, partition)
    units: dict[str, Choice] = {}
    for unit in partition.units:
        old = homes.get(unit.name)
        units[unit.name] = (
            Choice(plan.carrier, "the baseline's plan does not know this unit", False, unit.key)
            if old is None
            else replace(plan.units[old], key=unit.key)
        )
    known = sum(max(unit.macs, 1) for unit in partition.units if unit.name in homes)
    if known < _LEAST_SHARE * sum(max(unit.macs, 1) for unit in partition.units):
        hint = "the model from before quantisation" if quantized_nodes(topology) else "the model that it was made for"
        raise BaselineError(
            f"the baseline is of another model: {len(homes)} of the {len(partition.units)} units of {model} are in its "
            f"plan; give {hint}, or tune this one and make a baseline of that run"
        )
    ranges = None if plan.ranges is None else _renamed(plan.ranges, values, topology)
    return Fitted(replace(plan, units=units, ranges=ranges), _notes(plan, homes, partition))


def check_interface(committed: Interface, found: Interface, model: str) -> None:
    """Check that a model has the same inputs and outputs as the baseline's model.

    Raises:
        BaselineError: an input or output is missing, is new, or has another type or shape. The names of dimensions that
            are not fixed may differ.
    """
    for what, old, new in (("input", committed.inputs, found.inputs), ("output", committed.outputs, found.outputs)):
        before, now = {spec.name: spec for spec in old}, {spec.name: spec for spec in new}
        for name in [*before, *(name for name in now if name not in before)]:
            if name in before and name in now and _alike(before[name], now[name]):
                continue
            was, now_is = _spec_text(before.get(name)), _spec_text(now.get(name))
            raise BaselineError(
                f"{model} has another interface than the baseline's model: {what} {name!r} was {was} and is {now_is}; "
                f"give the model that the baseline was made for, or tune this one and make a baseline of that run"
            )


def _homes(plan: Plan, partition: Partition) -> dict[str, str]:
    """Return the name of the plan's unit for each unit of the model that the plan knows."""
    by_key = {choice.key: name for name, choice in plan.units.items()}
    homes = {unit.name: by_key[unit.key] for unit in partition.units if unit.key in by_key}
    taken = set(homes.values())
    for unit in partition.units:
        if unit.name not in homes and unit.name in plan.units and unit.name not in taken:
            homes[unit.name] = unit.name
    return homes


def _notes(plan: Plan, homes: Mapping[str, str], partition: Partition) -> tuple[str, ...]:
    keys = {unit.name: unit.key for unit in partition.units}
    new = [unit.name for unit in partition.units if unit.name not in homes]
    gone = [name for name in plan.units if name not in homes.values()]
    moved = [name for name, old in homes.items() if plan.units[old].key != keys[name]]
    renamed = [name for name, old in homes.items() if name != old]
    lists = (
        (renamed, "renamed since the baseline and found by structure"),
        (moved, "found by name, since the graph before them changed"),
        (new, f"not in the baseline's plan and run in {plan.carrier}"),
        (gone, "in the baseline's plan and no longer in the model"),
    )
    return tuple(f"{_units(len(names))} {text}: {_listed(names)}" for names, text in lists if names)


def _renamed(ranges: Mapping[str, Any], values: Mapping[str, str], topology: Topology) -> dict[str, Any]:
    """Return the record of the range table with the names that its values have in this model."""
    now = value_keys(topology)
    by_key = {key: name for name, key in now.items()}

    def new(name: str) -> str | None:
        return by_key.get(values.get(name, ""), name if name in now else None)

    def table(rows: Mapping[str, Any]) -> dict[str, Any]:
        return {found: row for name, row in rows.items() if (found := new(str(name))) is not None}

    parts = ("ranges", "means", "chosen", "moments", "patches")
    tables = {part: table(ranges.get(part, {})) for part in parts if part in ranges}
    return {**ranges, **tables}


def _alike(old: TensorSpec, new: TensorSpec) -> bool:
    open_before, open_now = ([d if isinstance(d, int) else None for d in spec.shape] for spec in (old, new))
    return old.dtype == new.dtype and open_before == open_now


def _spec_text(spec: TensorSpec | None) -> str:
    if spec is None:
        return "not there"
    return f"{spec.dtype.name}[{', '.join('?' if dim is None else str(dim) for dim in spec.shape)}]"


def _units(count: int) -> str:
    return f"{count} unit{'s' * (count != 1)}"


def _listed(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
