"""How passes change a graph: new names that are free, and a record of what became of each value and node."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import onnx_ir as ir

from autoprec.graph.constants import add_initializer
from autoprec.graph.names import Names
from autoprec.graph.weight_files import LARGE_BYTES, FileWeight, WeightStore
from autoprec.lowering.placement import ActivationPoint
from autoprec.lowering.record import LoweringRecord, PairRecord, ValueRecord
from autoprec.precision import Array

T = TypeVar("T")


@dataclass
class _Roles:
    """The values that play the three roles of one value of the model (see ValueRecord)."""

    exact: ir.Value
    raw: ir.Value
    final: ir.Value

    def swap(self, old: ir.Value, new: ir.Value) -> None:
        """Put `new` wherever `old` is."""
        self.exact = new if self.exact is old else self.exact
        self.raw = new if self.raw is old else self.raw
        self.final = new if self.final is old else self.final


class GraphEditor:
    """Keeps the names and the record of one lowering; all passes of it share one editor.

    A pass that adds something takes its name from here, and a pass that replaces a value or a node says so here. So
    nobody has to find a value by what its name looks like.

    Args:
        model: the copy that is lowered; its values and nodes are the originals of the record.
        store: where large weights are kept, so that all plans share them; None for in memory.
    """

    def __init__(self, model: ir.Model, store: WeightStore | None = None) -> None:
        self.graph = model.graph
        self._store = store
        self.names = Names(model.graph, model.functions.values())
        self._shared: dict[Hashable, ir.Value] = {}
        self._pairs: list[PairRecord] = []
        originals = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
        self._values = {str(value.name): _Roles(value, value, value) for value in originals if value.name}
        self._roles = {roles.final: roles for roles in self._values.values()}
        self._nodes = {str(node.name): [node] for node in model.graph if node.name}
        self._origins = {node: [name] for name, (node,) in self._nodes.items()}

    def constant(self, wish: str, array: Array) -> ir.Value:
        """Add an initializer, called `wish` where that is free."""
        return add_initializer(self.graph, self.names.new(wish), array, self._store)

    def derived(self, source: ir.Value, what: Hashable, wish: str, make: Callable[[Array], Array]) -> ir.Value:
        """Add an initializer that is made of another one, once for all plans where that is kept in a file.

        Args:
            source: the initializer that it is made of.
            what: all that the result depends on beside the source.
            wish: the name, where that is free.
            make: makes the numbers of those of the source.

        Raises:
            ValueError: the source is not constant.
        """
        name, store = self.names.new(wish), self._store

        def keep(array: Array) -> Array | FileWeight:
            made = make(array)
            return made if store is None or made.nbytes < LARGE_BYTES else store.put(made, name)

        if source.const_value is None:
            raise ValueError(f"{source.name!r} must be constant")
        return add_initializer(self.graph, name, self.computed(source.const_value, what, keep), store)

    def computed(self, source: ir.TensorProtocol, what: Hashable, make: Callable[[Array], T]) -> T:
        """Return what `make` computes of a weight, once for all plans where that is kept in a file.

        Args:
            source: the tensor of the initializer.
            what: all that the result depends on beside the source.
            make: computes it of the numbers of the source.
        """
        if self._store is None or not isinstance(source, FileWeight):
            return make(np.asarray(source.numpy()))
        return self._store.once((source.place, what), lambda: make(source.numpy()))

    def shared_constant(self, key: Hashable, wish: str, array: Array) -> ir.Value:
        """Add an initializer for what `key` says it is for, or give the one that was added for it before."""
        if key not in self._shared:
            self._shared[key] = self.constant(wish, array)
        return self._shared[key]

    def value(self, wish: str, like: ir.Value, dtype: ir.DataType | None = None) -> ir.Value:
        """Make a value with the shape of another one, and with its type where no `dtype` is given."""
        kind = like.type if dtype is None else ir.TensorType(dtype)
        return ir.Value(name=self.names.new(wish), type=kind, shape=like.shape)

    def take_over(self, old: ir.Value, new: ir.Value, wish: str = "") -> None:
        """Let `new` be computed in place of `old`: it takes its name, its readers and its roles.

        Args:
            old: a value that is gone from now on, or that another conversion follows.
            new: the value that stands for it.
            wish: a new name for `old` where it stays in the graph.
        """
        self._move_readers(old, new, wish)
        self.instead(old, new)

    def instead(self, old: ir.Value, new: ir.Value) -> None:
        """Note that `new`, the same numbers under another name, has the readers of `old` now."""
        if (roles := self._roles.get(old)) is not None:  # else lowering itself has added the value
            roles.swap(old, new)
            self._roles[new] = roles

    def quantized(self, value: ir.Value, final: ir.Value, wish: str) -> None:
        """Let all readers of `value` take `final`, which a pair makes of it; `value` itself is called `wish`."""
        self._move_readers(value, final, wish)
        self.returned(value, final)

    def rounded(self, value: ir.Value, rounded: ir.Value, wish: str) -> None:
        """Let all readers of `value`, its pair too, take the rounded one; `value` itself is called `wish`."""
        self._move_readers(value, rounded, wish)
        roles = self._roles.get(value)
        # Pairs are inserted before values are rounded. Where there is one, it stands between the value and its readers,
        # so that the rounded value becomes what the pair quantises, and the final value stays.
        if roles is not None and roles.final is not value:
            roles.raw = rounded
            self._roles[rounded] = roles
        else:
            self.returned(value, rounded)

    def returned(self, value: ir.Value, output: ir.Value) -> None:
        """Note that the graph returns, or all readers take, `output`, which is a conversion of `value`."""
        if (roles := self._roles.get(value)) is not None:
            roles.final = output
            self._roles[output] = roles

    def pair(self, point: ActivationPoint, quantize: ir.Node) -> None:
        """Note the QuantizeLinear of a pair."""
        self._pairs.append(PairRecord(point, quantize))

    def became(self, old: ir.Node, nodes: Sequence[ir.Node]) -> None:
        """Note that `nodes` do the work of `old` from now on; `old` may be one of them."""
        for name in self._origins.pop(old, []):
            others = [node for node in self._nodes[name] if node is not old]
            self._nodes[name] = list(dict.fromkeys([*others, *nodes]))
            for node in nodes:
                self._origins.setdefault(node, []).append(name)

    def record(self) -> LoweringRecord:
        """Make the record of all that was noted, without values that are gone from the graph."""
        present = {*self.graph.inputs, *(value for node in self.graph for value in node.outputs)}
        values = {
            name: ValueRecord(exact=roles.exact, raw=roles.raw, final=roles.final)
            for name, roles in self._values.items()
            if roles.exact in present
        }
        nodes = {name: tuple(nodes) for name, nodes in self._nodes.items()}
        return LoweringRecord(values, nodes, tuple(self._pairs))

    def _move_readers(self, old: ir.Value, new: ir.Value, wish: str) -> None:
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)
        new.name, old.name = old.name, self.names.new(wish) if wish else old.name
