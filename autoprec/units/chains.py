"""Chains: linear op -> (bias | scale | BatchNormalization | activation | residual Add | MaxPool)* is one unit.

This is the fusion that TensorRT's builder makes around a convolution or a matrix product. A chain grows over consumers
whose other inputs are constant or already in the chain. So SiLU, which is x * sigmoid(x), and both ways to write GELU
belong to it. It may take in one Add with another branch.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from autoprec.graph.topology import LINEAR_OPS, Topology, is_float, main_domain

UNARY_OPS = frozenset(
    {
        "Relu",
        "Clip",
        "LeakyRelu",
        "PRelu",
        "Elu",
        "Selu",
        "Celu",
        "Sigmoid",
        "HardSigmoid",
        "HardSwish",
        "Tanh",
        "Softplus",
        "Softsign",
        "Gelu",
        "Erf",
        "Mish",
        "Swish",
        "ThresholdedRelu",
        "Exp",
        "Neg",
        "Abs",
        "Sqrt",
    }
)
"""The operators with one input that a fused kernel can compute on its result."""
BINARY_OPS = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Min", "Max"})
"""The operators with two inputs that a fused kernel can compute on its result."""
EPILOGUE_OPS = UNARY_OPS | BINARY_OPS | {"BatchNormalization"}
"""The operators that a chain may take in after its linear op."""

# The longest chain of epilogue nodes. GELU by tanh takes eight; the limit keeps the time linear in the graph.
_LONGEST_EPILOGUE = 24


def grow_chain(
    topology: Topology, anchors: list[ir.Node], taken: set[ir.Node], carriers: Collection[ir.Node] = ()
) -> list[ir.Node]:
    """Return the nodes of the unit around `anchors`, in the order in which the unit grew.

    The result is the largest set that hands no more values to other nodes than it has anchors, because a fused kernel
    writes one result for each of its products.

    Args:
        topology: the graph.
        anchors: one linear node, or several that share their input.
        taken: the nodes that belong to other units already, or to none.
        carriers: those of them that only move data and belong to none. A Gemm reaches over a Reshape to its
            activation, since exporters write a product of three axes as Reshape, Gemm and Reshape.
    """
    members = list(anchors)
    if len(anchors) > 1:
        for anchor in anchors:  # each branch grows alone first, so that it takes in its own bias
            members += [node for node in _closed_growth(topology, [anchor], taken, 1) if node is not anchor]
        return _closed_growth(topology, members, taken, len(anchors))
    members = _closed_growth(topology, members, taken, 1, carriers if anchors[0].op_type == "Gemm" else ())
    members = _with_residual(topology, members, taken)
    return _with_max_pool(topology, members, taken)


def escaping(topology: Topology, members: set[ir.Node]) -> list[ir.Value]:
    """Return the values that are made inside `members` and used outside, in topological order."""
    values = []
    for node in sorted(members, key=topology.index.__getitem__):
        for value in node.outputs:
            outside = any(consumer not in members for consumer in topology.consumers(value))
            if outside or topology.escapes(value):
                values.append(value)
    return values


def _closed_growth(
    topology: Topology,
    start: list[ir.Node],
    taken: set[ir.Node],
    limit: int,
    carriers: Collection[ir.Node] = (),
) -> list[ir.Node]:
    """Grow `start` over epilogue nodes, and return the largest set from which at most `limit` values escape.

    The set does not end with one of the carriers.

    Growth goes on while more values escape: the two branches of x * sigmoid(x) meet again one node later.
    """
    members, best = list(start), list(start)
    while len(members) - len(start) < _LONGEST_EPILOGUE:
        node = _next_epilogue(topology, members, taken) or _next_carrier(topology, members, carriers)
        if node is None:
            break
        members.append(node)
        if node not in carriers and len(escaping(topology, set(members))) <= limit:
            best = list(members)
    return best


def _next_epilogue(topology: Topology, members: list[ir.Node], taken: set[ir.Node]) -> ir.Node | None:
    inside = set(members)
    made = {value for node in members for value in node.outputs}
    candidates = {
        consumer
        for value in made
        if not topology.escapes(value)
        for consumer in topology.consumers(value)
        if consumer not in inside and consumer not in taken
    }
    for node in sorted(candidates, key=topology.index.__getitem__):
        if node.op_type not in EPILOGUE_OPS or not main_domain(node) or not is_float(node.outputs[0]):
            continue
        fed = [value for value in topology.dynamic_inputs(node) if value not in made]
        if not fed:
            return node
        # A factor that is computed from shapes may join, unless it is computed from a shape of the chain's own results.
        if all(value in topology.shape_values for value in fed) and topology.is_convex({*inside, node}):
            return node
    return None


def _next_carrier(topology: Topology, members: list[ir.Node], carriers: Collection[ir.Node]) -> ir.Node | None:
    """Return the one reader of the chain's end, if it only gives its elements another shape."""
    end = _single_end(topology, members) if carriers else None
    readers = topology.consumers(end) if end is not None and not topology.escapes(end) else []
    if len(readers) != 1 or readers[0] not in carriers or readers[0].op_type not in ("Reshape", "Flatten"):
        return None
    fed = [value for value in topology.flowing_inputs(readers[0]) if value is not end]
    return readers[0] if not fed and topology.is_convex({*members, readers[0]}) else None


def _with_residual(topology: Topology, members: list[ir.Node], taken: set[ir.Node]) -> list[ir.Node]:
    """Return the chain with the Add of another branch and what follows it, if the chain can absorb the Add."""
    end = _single_end(topology, members)
    if end is None or topology.escapes(end):
        return members
    consumers = topology.consumers(end)
    if len(consumers) != 1 or consumers[0].op_type != "Add" or consumers[0] in taken or not main_domain(consumers[0]):
        return members
    add = consumers[0]
    others = [value for value in topology.flowing_inputs(add) if value is not end]
    if len(others) != 1 or not _same_shape(end, others[0]) or not _absorbs(topology, end, others[0], taken):
        return members
    if not topology.is_convex({*members, add}):
        return members
    return _closed_growth(topology, [*members, add], taken, 1)


def _same_shape(first: ir.Value, second: ir.Value) -> bool:
    """Return whether the shapes may be equal. If one value is broadcast to the other, there is no fused kernel."""
    if first.shape is None or second.shape is None:
        return True
    if len(first.shape) != len(second.shape):
        return False
    pairs = zip(first.shape, second.shape, strict=True)
    return all(a == b for a, b in pairs if isinstance(a, int) and isinstance(b, int))


def _absorbs(topology: Topology, end: ir.Value, other: ir.Value, taken: set[ir.Node]) -> bool:
    """Return whether the chain that ends in `end` takes the Add, rather than the chain that ends in `other`.

    If both branches end in a chain that could take it, the branch that is longer from their common ancestor does, and
    the other one becomes the skip. If both are equally long, the branch of the later node takes it.
    """
    rival = other.producer()
    if rival is None or backbone(topology, other, through_copies=False) is None or rival in taken:
        return True
    if len(topology.consumers(other)) != 1 or topology.escapes(other):
        return True
    mine, theirs = branch_lengths(topology, end, other)
    node = end.producer()
    if mine != theirs or node is None:
        return mine > theirs
    return topology.index[node] > topology.index[rival]


def branch_lengths(topology: Topology, first: ir.Value, second: ir.Value) -> tuple[int, int]:
    """Return the lengths of two branches: the number of nodes of each that the other one does not depend on."""
    bits = []
    for value in (first, second):
        producer = value.producer()
        if producer is None or producer not in topology.index:
            bits.append(0)
        else:
            number = topology.index[producer]
            bits.append((topology.ancestors[number] | (1 << number)) & topology.flowing_nodes)
    return (bits[0] & ~bits[1]).bit_count(), (bits[1] & ~bits[0]).bit_count()


def backbone(topology: Topology, value: ir.Value, through_copies: bool = True) -> ir.Node | None:
    """Return the linear op that `value` comes from through activations, normalisation, bias and scale, or None.

    Args:
        topology: the graph.
        value: the value to start from.
        through_copies: whether the way may also lead through ops that only move or convert data.
    """
    passed = EPILOGUE_OPS | _PASS_THROUGH if through_copies else EPILOGUE_OPS
    current: ir.Value | None = value
    while current is not None:
        node = current.producer()
        if node is None or node not in topology.index:
            return None
        if node.op_type in LINEAR_OPS:
            return node
        flowing = topology.flowing_inputs(node)
        roots = set(flowing)
        if node.op_type == "Mul" and len(roots) == 2:  # in x * sigmoid(x), the way back leads through x
            inner = [v for v in flowing if (p := v.producer()) is not None and p.op_type in ("Sigmoid", "HardSigmoid")]
            roots -= set(inner)
        if len(roots) != 1 or node.op_type not in passed:
            return None
        current = next(iter(roots))
    return None


_PASS_THROUGH = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Cast"})


def _with_max_pool(topology: Topology, members: list[ir.Node], taken: set[ir.Node]) -> list[ir.Node]:
    """Return the chain with a MaxPool that follows its convolution; one that also returns indices is left out."""
    end = _single_end(topology, members)
    if end is None or topology.escapes(end) or members[0].op_type not in ("Conv", "ConvTranspose"):
        return members
    consumers = topology.consumers(end)
    if len(consumers) == 1 and _is_pool(consumers[0]) and consumers[0] not in taken:
        pool = consumers[0]
        if len([value for value in pool.outputs if value.consumers() or value in topology.outputs]) == 1:
            return [*members, pool]
    return members


def _is_pool(node: ir.Node) -> bool:
    return node.op_type == "MaxPool" and main_domain(node)


def _single_end(topology: Topology, members: list[ir.Node]) -> ir.Value | None:
    ends = escaping(topology, set(members))
    return ends[0] if len(ends) == 1 else None
