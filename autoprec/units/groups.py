"""Groups of nodes that each run as one kernel, such that there is an order in which the kernels can run."""

from __future__ import annotations

import heapq

import onnx_ir as ir

from autoprec.graph.topology import Topology


class Groups:
    """The groups that were formed so far; every other node counts as a group of its own.

    The class keeps the graph of groups free of circles. It is not enough for that if each group is convex: two groups
    may each hold a node that needs a result of the other.
    """

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._home: dict[ir.Node, list[ir.Node]] = {}
        self._spans: dict[int, tuple[int, int]] = {}  # id of a group's list -> indices of its first and last node

    def __contains__(self, node: ir.Node) -> bool:
        return node in self._home

    def add(self, members: list[ir.Node]) -> None:
        """Form a group of `members`, for which `fits` must hold; later members are added by `join`."""
        for node in list(members):
            self._enter(members, node)

    def join(self, group: list[ir.Node], node: ir.Node) -> None:
        """Add `node` to a group that was formed before."""
        group.append(node)
        self._enter(group, node)

    def _enter(self, group: list[ir.Node], node: ir.Node) -> None:
        self._home[node] = group
        number = self.topology.index[node]
        first, last = self._spans.get(id(group), (number, number))
        self._spans[id(group)] = min(first, number), max(last, number)

    def fits(self, members: set[ir.Node]) -> bool:
        """Return whether no path leaves `members` and comes back, neither through nodes nor through groups."""
        if len(members) == 1:
            return True
        return self.topology.is_convex(members) and not self._returns(members)

    def _returns(self, members: set[ir.Node]) -> bool:
        """Return whether a path leaves `members` and comes back; inside a group it may go from any node to any."""
        index, successors = self.topology.index, self.topology.successors
        horizon = self._horizon(max(index[node] for node in members))
        front = [after for node in members for after in successors[node] if after not in members]
        seen: set[ir.Node] = set()
        while front:
            node = front.pop()
            if node in members:
                return True
            if node in seen or index[node] > horizon:
                continue
            mates = self._home.get(node, [node])
            seen.update(mates)
            front += [after for mate in mates for after in successors[mate]]
        return False

    def _horizon(self, last: int) -> int:
        """Return the index after which no path comes back to node `last` or to one before it.

        Only a group that spans an index can lead a path back before it.
        """
        while True:
            farther = [end for start, end in self._spans.values() if start <= last < end]
            if not farther:
                return last
            last = max(farther)

    def ordered(self, groups: list[list[ir.Node]]) -> list[int]:
        """Return the indices of `groups` in an order in which each comes before those that need its results.

        Among the groups that are ready, the one whose last node comes first in the graph is taken.
        """
        topology = self.topology
        owner = {node: index for index, group in enumerate(groups) for node in group}
        others = [node for node in topology.nodes if node not in owner]
        owner.update({node: len(groups) + index for index, node in enumerate(others)})
        after: dict[int, set[int]] = {index: set() for index in range(len(groups) + len(others))}
        waits = dict.fromkeys(after, 0)
        last: dict[int, int] = {}
        for node in topology.nodes:
            last[owner[node]] = topology.index[node]
            after[owner[node]].update(owner[other] for other in topology.successors[node])
        for index, following in after.items():
            following.discard(index)
            for other in following:
                waits[other] += 1
        ready = [(last[index], index) for index, count in waits.items() if count == 0]
        heapq.heapify(ready)
        order = []
        while ready:
            _, index = heapq.heappop(ready)
            order.append(index)
            for other in after[index]:
                waits[other] -= 1
                if waits[other] == 0:
                    heapq.heappush(ready, (last[other], other))
        return [index for index in order if index < len(groups)]
