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
    """

    def __init__(self, nodes: Iterable[str], model: bytes) -> None:
        import onnx

        self._nodes = frozenset(nodes)
        graph = onnx.load_from_string(model).graph
        makers = ((name, node.name) for node in graph.node if node.name in self._nodes for name in node.output)
        self._makers: dict[str, str] = dict(makers)

    def of(self, kernel: str, outputs: Sequence[str] = ()) -> str | None:
        """The node that a kernel was made of, by its name or by the tensors that it writes; or None."""
        if (tensor := kernel.removesuffix("_nchwc")) != kernel and tensor in self._makers:
            return self._makers[tensor]
        name = kernel
        while name:
            if name in self._nodes:
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
