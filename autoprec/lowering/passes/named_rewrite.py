"""The loop that some passes share: each named node of a kind is rewritten, or there is a reason why not."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from autoprec.graph.constants import drop_unused
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.lowering_pass import LoweringPass


@dataclass
class RewriteResult(ir.passes.PassResult):
    """The result of a pass over named nodes.

    Attributes:
        refused: the name of each node that was left as it is -> why it could not be rewritten.
    """

    refused: Mapping[str, str] = field(default_factory=dict)


class NamedRewritePass(LoweringPass):
    """Calls `rewrite` for each named node of `op_types` that has no reason against it.

    Args:
        editor: the editor of the model.
        names: the names of the nodes; others, and nodes of other kinds, are passed over.
    """

    op_types: frozenset[str] = frozenset()

    def __init__(self, editor: GraphEditor, names: Collection[str]) -> None:
        super().__init__(editor)
        self.names = frozenset(names)

    def call(self, model: ir.Model) -> RewriteResult:
        """Rewrite the nodes; the model is modified if at least one could be rewritten."""
        refused: dict[str, str] = {}
        modified = False
        for node in self.named(model.graph):
            reason = self.why_not(node)
            if reason is None:
                self.rewrite(model.graph, node)
                modified = True
            else:
                refused[str(node.name)] = reason
        if modified:
            drop_unused(model.graph)
        return RewriteResult(model, modified, refused)

    def named(self, graph: ir.Graph) -> list[ir.Node]:
        """Return the nodes of the graph that the pass is for."""
        return [node for node in graph if node.name in self.names and node.op_type in self.op_types]

    @abstractmethod
    def why_not(self, node: ir.Node) -> str | None:
        """Return why the node cannot be rewritten, or None if it can."""

    @abstractmethod
    def rewrite(self, graph: ir.Graph, node: ir.Node) -> None:
        """Rewrite one node, for which `why_not` gives no reason."""
