"""Metadata of nodes that say in which precision each must run, for a runtime that is told so layer by layer."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.lowering_pass import LoweringPass
from autoprec.precision import PRECISION_KEY, Precision


class AnnotatePrecisionsPass(LoweringPass):
    """Write the precision of nodes into their metadata; no tensor changes its type.

    Args:
        editor: the editor of the model.
        precisions: node name -> precision; nodes not listed are left to the runtime.

    Ensures: exactly the listed nodes carry the key.
    """

    def __init__(self, editor: GraphEditor, precisions: Mapping[str, Precision]) -> None:
        super().__init__(editor)
        self.precisions = precisions

    def ensures(self, model: ir.Model) -> None:
        """Check that exactly the listed nodes say a precision, and that it is theirs."""
        super().ensures(model)
        for node in model.graph:
            wanted = self.precisions.get(str(node.name))
            if node.metadata_props.get(PRECISION_KEY) != (None if wanted is None else wanted.value):
                raise ir.passes.PostconditionError(f"{node.name!r} must say {wanted}")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Annotate the nodes; the model is modified if a listed node is there."""
        found = False
        for node in model.graph:
            node.metadata_props.pop(PRECISION_KEY, None)
            precision = self.precisions.get(str(node.name))
            if precision is not None:
                node.metadata_props[PRECISION_KEY] = precision.value
                found = True
        return ir.passes.PassResult(model, modified=found)
