"""The loop that passes over a list of nodes share: each named node of a kind is rewritten, or left as it is."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from autoprec.graph.constants import drop_unused


class NamedRewritePass(ir.passes.InPlacePass):
    """Calls `rewrite` on each named node of `op_types`; a subclass says what that does.

    Args:
        names: of the nodes; others, and nodes of other kinds, are passed over.
    """

    op_types: frozenset[str] = frozenset()

    def __init__(self, names: Collection[str]) -> None:
        super().__init__()
        self.names = frozenset(names)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewrite; modified where at least one node was."""
        modified = False
        for node in list(model.graph):
            if node.name in self.names and node.op_type in self.op_types:
                modified |= self.rewrite(model.graph, node)
        if modified:
            drop_unused(model.graph)
        return ir.passes.PassResult(model, modified)

    def rewrite(self, graph: ir.Graph, node: ir.Node) -> bool:
        """Rewrite one node in place; False where it cannot be."""
        raise NotImplementedError
