"""The share of the multiply-accumulates that runs in each precision."""

from __future__ import annotations

from autoprec.plan import Assignment
from autoprec.units.records import Partition


def mac_share(partition: Partition, plan: Assignment) -> dict[str, float]:
    """Return the share of all multiply-accumulates that runs in each precision, by its name."""
    total = sum(unit.macs for unit in partition.units) or 1
    shares: dict[str, float] = {}
    for unit in partition.units:
        if unit.macs:
            shares[plan[unit.name].value] = shares.get(plan[unit.name].value, 0.0) + unit.macs / total
    return {name: shares[name] for name in sorted(shares)}
