"""Say in each node's metadata in which precision it must run, for a runtime that is told layer by layer."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from autoprec.precision import PRECISION_KEY, Precision


class AnnotatePrecisionsPass(ir.passes.InPlacePass):
    """Write the precision of nodes beside them; no tensor changes its type.

    Args:
        precisions: node name -> precision; nodes not listed are left to the runtime.

    Ensures: exactly the listed nodes carry the key.
    """

    def __init__(self, precisions: Mapping[str, Precision]) -> None:
        super().__init__()
        self.precisions = precisions

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Annotate; modified where a listed node is there."""
        found = False
        for node in model.graph:
            node.metadata_props.pop(PRECISION_KEY, None)
            precision = self.precisions.get(str(node.name))
            if precision is not None:
                node.metadata_props[PRECISION_KEY] = precision.value
                found = True
        return ir.passes.PassResult(model, modified=found)
