"""Which sensitivities of an earlier version were wrong, so that these alone are measured anew and no hours are lost.

Tables and journals say no revision before the second. Until then a unit that reads one of its own outputs was followed
by its own nodes once more. Where units hand each other BF16, an operand was rounded to it before it was quantised,
which was counted as the loss of the unit that quantises it. Noise was up to three times the true one.
"""

from __future__ import annotations

import onnx_ir as ir

from autoprec.lowering.lowerer import Lowerer
from autoprec.precision import Precision
from autoprec.sensitivity.job import Entry
from autoprec.units.records import Unit

REVISION = 2
"""The number of the way in which sensitivities are measured now; part of each table."""


def mended_entries(lowerer: Lowerer) -> frozenset[Entry]:
    """Return the entries that the first revision measured wrongly."""
    nodes = {str(node.name): node for node in lowerer.model.graph}
    rounded = (Precision.INT8,) if lowerer.carrier is Precision.BF16 else ()
    return frozenset(
        (unit.name, precision)
        for unit in lowerer.partition.units
        for precision in (tuple(Precision) if _reads_itself(unit, nodes) else rounded)
    )


def _reads_itself(unit: Unit, nodes: dict[str, ir.Node]) -> bool:
    made = set(unit.outputs)
    return any(v is not None and v.name in made for name in unit.nodes for v in nodes[name].inputs)
