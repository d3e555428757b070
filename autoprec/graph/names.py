"""Names that nothing in a graph has yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_ir as ir

from autoprec.graph.topology import all_graphs


class Names:
    """Gives new names for the values and nodes of a graph, and knows all that are taken.

    The names in the bodies of control-flow nodes count too, because ONNX forbids that a value of a body has the name of
    a value around it. Values and nodes share one list, so that a name says one thing.

    Args:
        graph: the graph that new values and nodes are for.
        functions: the functions of its model.
    """

    def __init__(self, graph: ir.Graph, functions: Iterable[ir.Function] = ()) -> None:
        self._taken = set(names_in(graph))
        for function in functions:
            self._taken.update(names_in(function.graph))

    def new(self, wish: str) -> str:
        """Give `wish` where it is free, else `wish` with the first free number behind a "#"; it is taken from then."""
        name, count = wish, 1  # names are stored in plans and reports, so that the same model must get the same ones
        while name in self._taken:
            name, count = f"{wish}#{count}", count + 1
        self._taken.add(name)
        return name


def names_in(graph: ir.Graph) -> Iterator[str]:
    """Yield the name of each value and node of the graph and of the bodies inside it, some more than once."""
    for each in all_graphs(graph):
        values = [*each.inputs, *each.initializers.values(), *each.outputs]
        for node in each:
            values += node.outputs
            if node.name:
                yield node.name
        yield from (str(value.name) for value in values if value.name)


def rename_duplicates(graph: ir.Graph) -> None:
    """Give each node whose name an earlier node has a name of its own, in topological order."""
    nodes = [node for each in all_graphs(graph) for node in each if node.name]
    if len({node.name for node in nodes}) == len(nodes):
        return
    graph.sort()
    names, seen = Names(graph), set[str]()
    for node in (node for each in all_graphs(graph) for node in each if node.name):
        if node.name in seen:
            node.name = names.new(str(node.name))
        seen.add(str(node.name))
