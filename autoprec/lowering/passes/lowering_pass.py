"""What all passes share: an editor, and a graph in which every name is there once."""

from __future__ import annotations

import onnx_ir as ir

from autoprec.lowering.editor import GraphEditor


class LoweringPass(ir.passes.InPlacePass):
    """A change of the graph of one lowering.

    A pass keeps nothing between calls. It takes new names from the editor, and tells it what it replaces.

    Args:
        editor: the editor of the model that the pass is called with.

    Requires: the editor is the model's. Ensures: no two values and no two nodes of the graph have one name.
    """

    def __init__(self, editor: GraphEditor) -> None:
        super().__init__()
        self.editor = editor

    def requires(self, model: ir.Model) -> None:
        """Check that the editor is the model's."""
        if model.graph is not self.editor.graph:
            raise ir.passes.PreconditionError("the editor must be the one of the model")

    def ensures(self, model: ir.Model) -> None:
        """Check that no name is there twice."""
        values = {*model.graph.inputs, *model.graph.initializers.values()}
        values.update(value for node in model.graph for value in node.outputs)
        for kind, named in (("values", values), ("nodes", list(model.graph))):
            names = [str(each.name) for each in named if each.name]
            if len(set(names)) < len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise ir.passes.PostconditionError(f"two {kind} are called {twice!r}")
