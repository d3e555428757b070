"""Sets of nodes that each run as one kernel, kept so that kernels can be run one after another."""

from __future__ import annotations

import heapq

import onnx_ir as ir

from autoprec.graph.topology import Topology


class Groups:
    """The groups formed so far, with every other node a group of its own.

    Ensures: the graph of groups has no circle. Each group being convex is not enough for that: of two groups
    each may hold a node that needs one of the other.
    """

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._home: dict[ir.Node, list[ir.Node]] = {}
        self._spans: dict[int, tuple[int, int]] = {}  # id of a group's list -> first and last node number

    def __contains__(self, node: ir.Node) -> bool:
        return node in self._home

    def add(self, members: list[ir.Node]) -> None:
        """Take `members`, for which `fits` must hold, as a group; append later ones by `join`."""
        for node in list(members):
            self._enter(members, node)

    def join(self, group: list[ir.Node], node: ir.Node) -> None:
        """Add `node` to a group that was taken before."""
        group.append(node)
        self._enter(group, node)

    def _enter(self, group: list[ir.Node], node: ir.Node) -> None:
        self._home[node] = group
        number = self.topology.index[node]
        first, last = self._spans.get(id(group), (number, number))
        self._spans[id(group)] = min(first, number), max(last, number)

    def fits(self, members: set[ir.Node]) -> bool:
        """Whether no path leaves `members` and comes back, neither through nodes nor through groups."""
        if len(members) == 1:
            return True
        return self.topology.is_convex(members) and not self._returns(members)

    def _returns(self, members: set[ir.Node]) -> bool:
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
        """The number behind which no path comes back to node number `last` or one before it."""
        while True:
            farther = [end for start, end in self._spans.values() if start <= last < end]
            if not farther:
                return last
            last = max(farther)

    def ordered(self, groups: list[list[ir.Node]]) -> list[int]:
        """Places of `groups`, each before those that need its results."""
        topology = self.topology
        owner = {node: place for place, group in enumerate(groups) for node in group}
        others = [node for node in topology.nodes if node not in owner]
        owner.update({node: len(groups) + place for place, node in enumerate(others)})
        after: dict[int, set[int]] = {place: set() for place in range(len(groups) + len(others))}
        waits = dict.fromkeys(after, 0)
        last: dict[int, int] = {}
        for node in topology.nodes:
            last[owner[node]] = topology.index[node]
            after[owner[node]].update(owner[other] for other in topology.successors[node])
        for place, following in after.items():
            following.discard(place)
            for other in following:
                waits[other] += 1
        ready = [(last[place], place) for place, count in waits.items() if count == 0]
        heapq.heapify(ready)
        order = []
        while ready:
            _, place = heapq.heappop(ready)
            order.append(place)
            for other in after[place]:
                waits[other] -= 1
                if waits[other] == 0:
                    heapq.heappush(ready, (last[other], other))
        return [place for place in order if place < len(groups)]
