"""Which kernels of ONNX Runtime compute which nodes of a model, and how long each ran."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from autoprec.backends.sharing import Kernel

if TYPE_CHECKING:
    import onnx

_MOVING = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "Cast",
        "ReorderInput",
        "ReorderOutput",
        "Transpose",
        "Concat",
        "QLinearConcat",
        "DepthToSpace",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Pad",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Unsqueeze",
    }
)
_CONTROL_FLOW = ("If", "Loop", "Scan")  # their time is that of the kernels in their bodies


class KernelOwners:
    """Maps kernels to the nodes that they were made of.

    Fusions keep a node's name and append to it, and blocked convolutions take that of their output; others are known
    by the tensor that they write, which is the one that the last of their nodes wrote.

    Args:
        nodes: names of the nodes that matter.
        model: the graph that was optimised.
    """

    def __init__(self, nodes: Iterable[str], model: onnx.GraphProto) -> None:
        self.nodes = frozenset(nodes)
        self._by_name = {node.name: node for node in model.node}
        self._by_tensor = {tensor: node for node in model.node for tensor in node.output}
        makers = self._by_tensor.items()
        self._makers: dict[str, str] = {tensor: node.name for tensor, node in makers if node.name in self.nodes}

    def operator(self, node: str) -> str:
        """The operator of a node of the model."""
        return str(self._by_name[node].op_type) if node in self._by_name else ""

    def maker(self, tensor: str, kernel: str) -> onnx.NodeProto | None:
        """The node of the model that writes a tensor, or the one that a kernel is called after; or None."""
        named = kernel.removesuffix("_nchwc")
        return self._by_tensor.get(tensor) or self._by_tensor.get(named) or self._by_name.get(named)

    def of(self, kernel: str, outputs: Sequence[str] = ()) -> str | None:
        """The node that a kernel was made of, by its name or by the tensors that it writes; or None."""
        if (tensor := kernel.removesuffix("_nchwc")) != kernel and tensor in self._makers:
            return self._makers[tensor]
        name = kernel
        while name:
            if name in self.nodes:
                return name
            cut = max(name.rfind("_"), name.rfind("/"))
            name = name[:cut] if cut > 0 else ""
        return next((self._makers[output] for output in outputs if output in self._makers), None)


def kernel_of(
    node: onnx.NodeProto, home: Mapping[str, str], owners: KernelOwners, constants: Collection[str]
) -> Kernel:
    """A node of an optimised graph. What only moves or converts data is of a unit where the partition says so."""
    converts = node.op_type in _MOVING and node.name not in home
    made_of = None if converts else owners.of(node.name, node.output)
    reads = tuple(name for name in node.input if name and name not in constants)
    return Kernel(
        name=node.name,
        units={} if made_of is None else {home[made_of]: 1.0},
        reads=reads,
        writes=tuple(node.output),
        converts=converts,
    )


def durations_ms(events: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Kernel -> milliseconds of each time that it ran."""
    found: dict[str, list[float]] = {}
    for event in events:
        kernel = event.get("cat") == "Node" and event["name"].endswith("_kernel_time")
        if kernel and event.get("args", {}).get("op_name") not in _CONTROL_FLOW:
            found.setdefault(event["name"].removesuffix("_kernel_time"), []).append(event["dur"] / 1e3)
    return found
