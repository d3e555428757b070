"""One node that is rewritten: reading it, and putting other nodes in its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir as ir

from autoprec.graph.names import Names
from autoprec.graph.opset.ranks import rank_of
from autoprec.graph.topology import attribute_int, attribute_ints
from autoprec.precision import Array

Attribute = int | float | str | Sequence[int] | Sequence[float] | ir.TensorProtocol


class NotConvertible(Exception):
    """The node says something that the other opset cannot say; the message is a clause that says what."""


@dataclass(frozen=True, slots=True)
class Site:
    """A node and the graph around it. New nodes stand before it, and take over the names of modules in its metadata.

    Attributes:
        node: the node.
        names: gives new names.
    """

    node: ir.Node
    names: Names

    def array(self, index: int, what: str) -> Array:
        """Return the constant that the node reads as input `index`.

        Raises:
            NotConvertible: it is computed at run time.
        """
        value = self.input(index)
        tensor = None if value is None else ir.convenience.get_const_tensor(value)
        if tensor is None:
            raise NotConvertible(f"{what} must be constant there")
        return np.asarray(tensor.numpy())

    def input(self, index: int) -> ir.Value | None:
        """Return an input, or None where it is left out."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def first(self) -> ir.Value:
        """Return the first input.

        Raises:
            NotConvertible: there is none.
        """
        value = self.input(0)
        if value is None:
            raise NotConvertible("it has no input")
        return value

    def rank(self) -> int:
        """Return the number of axes of the first input.

        Raises:
            NotConvertible: it is not known.
        """
        rank = rank_of(self.first())
        if rank is None:
            raise NotConvertible("the number of axes of its input must be known")
        return rank

    def integer(self, name: str, default: int) -> int:
        """Return an attribute that is an integer."""
        return attribute_int(self.node, name, default)

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Return an attribute that is a list of integers, None where the node does not have it."""
        return attribute_ints(self.node, name)

    def number(self, name: str, default: float) -> float:
        """Return an attribute that is a number."""
        found = self.node.attributes.get(name)
        return default if found is None else found.as_float()

    def text(self, name: str, default: str) -> str:
        """Return an attribute that is a text."""
        found = self.node.attributes.get(name)
        return default if found is None else found.as_string()

    def drop(self, *names: str) -> None:
        """Take attributes away."""
        for name in names:
            self.node.attributes.pop(name, None)

    def put(self, name: str, value: Attribute) -> None:
        """Set an attribute."""
        (attribute,) = ir.convenience.convert_attributes({name: value})
        self.node.attributes[name] = attribute

    def set_input(self, index: int, value: ir.Value | None) -> None:
        """Set an input; those between that the node does not have are left out."""
        if len(self.node.inputs) <= index:
            self.node.resize_inputs(index + 1)
        self.node.replace_input_with(index, value)

    def cut_inputs(self, count: int) -> None:
        """Keep the first `count` inputs."""
        if len(self.node.inputs) > count:
            self.node.resize_inputs(count)

    def constant(self, wish: str, array: Array) -> ir.Value:
        """Return a constant; it is a node, since the graph of a function holds no initializers."""
        return self.new("Constant", [], {"value": ir.tensor(array)}, wish)

    def like_input(self, wish: str, numbers: Sequence[float]) -> ir.Value:
        """Return a constant of the element type of the first input: a scalar for one number, else a list."""
        dtype = self.first().dtype
        kind = np.dtype(np.float32) if dtype is None else dtype.numpy()
        array = np.array(numbers if len(numbers) != 1 else numbers[0], np.float64)
        return self.constant(wish, array.astype(kind if kind != np.dtype(object) else ml_dtypes.bfloat16))

    def indices(self, wish: str, numbers: Sequence[int]) -> ir.Value:
        """Return a constant list of integers."""
        return self.constant(wish, np.array(list(numbers), np.int64))

    def new(
        self, op_type: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Attribute] | None, wish: str
    ) -> ir.Value:
        """Add a node before this one, and return its result."""
        name = self.names.new(f"{self.node.name or self.node.op_type}/{wish}")
        value = ir.Value(name=self.names.new(f"{name}_out"), type=None, shape=None)
        made = ir.node(op_type, inputs, attributes, outputs=[value], name=name)
        made.metadata_props.update(self.node.metadata_props)
        self._graph().insert_before(self.node, made)
        return value

    def replace(self, result: ir.Value) -> None:
        """Let the node that makes `result` stand for this one: it takes its name, its readers and the value's name."""
        old, maker, graph = self.node.outputs[0], result.producer(), self._graph()
        if maker is None:
            raise ValueError("a node must make the result")
        result.type, result.shape = old.type, old.shape
        ir.convenience.replace_all_uses_with(old, result, replace_graph_outputs=True)
        result.name, maker.name = old.name, self.node.name
        graph.remove(self.node, safe=True)

    def _graph(self) -> ir.Graph | ir.Function:
        graph = self.node.graph
        if graph is None:
            raise ValueError("the node must be in a graph")
        return graph
