"""The model in each opset that a plan has needed, with constants folded as far as they may be."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from autoprec.graph.constants import fold_rearranged, tied_transposes
from autoprec.graph.opset.convert import raised
from autoprec.graph.preparation import prepare
from autoprec.graph.weight_files import WeightStore


class Bases:
    """The prepared model in several opsets; each is made once, and all share the weights that they do not change.

    Args:
        model: the prepared model.
        store: where large weights are kept, None for in memory.
    """

    def __init__(self, model: ir.Model, store: WeightStore | None = None) -> None:
        self._model, self._store = model, store
        self._folded: dict[int, ir.Model] = {}
        self._tied: dict[int, ir.Model] = {}

    def folded(self, opset: int) -> ir.Model:
        """Return the model in `opset` or a newer one, with all rearranged constants folded.

        Raises:
            ModelError: the model cannot be raised to the opset.
        """
        if opset not in self._folded:
            base = self._raised(opset)
            fold_rearranged(base.graph, store=self._store)  # a DequantizeLinear must feed its product directly
            self._folded[opset] = base
        return self._folded[opset]

    def with_ties(self, opset: int, folded: Collection[str]) -> ir.Model:
        """Return a copy of the model in which a weight that is read as it is and transposed is stored once.

        Args:
            opset: the oldest opset of the copy.
            folded: the names of nodes whose own weights are folded in any case.

        Raises:
            ModelError: the model cannot be raised to the opset.
        """
        if opset not in self._tied:
            base = self._raised(opset)
            fold_rearranged(base.graph, tied_transposes(base.graph), self._store)
            self._tied[opset] = base
        work = self._tied[opset].clone()
        ties = tied_transposes(work.graph)
        kept = {name for name, value in ties.items() if not any(r.name in folded for r in value.consumers())}
        fold_rearranged(work.graph, kept, self._store)
        return work

    def _raised(self, opset: int) -> ir.Model:
        base = raised(self._model, opset)
        return base.clone() if base is self._model else prepare(base)
