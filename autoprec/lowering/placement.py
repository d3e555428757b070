"""What a plan means for one graph, as data: where Q/DQ pairs go, and in which float type each node computes.

`autoprec.lowering.placer` decides it; the passes write it into the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from autoprec.graph.topology import RESHAPING_OPS, Topology
from autoprec.precision import Precision
from autoprec.units.records import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivationPoint:
    """One Q/DQ pair on a value.

    Attributes:
        tensor: the name of the value.
        precision: INT8 or FP8.
        consumers: the (node name, input index) of each reader of the pair; other readers of the value bypass it.
        everywhere: whether the pair sits at the producer, so that every consumer reads it.
        fixed_scale: the scale where it is known without calibration, as for the result of a softmax.
    """

    tensor: str
    precision: Precision
    consumers: frozenset[tuple[str, int]]
    everywhere: bool = False
    fixed_scale: float | None = None


@dataclass(slots=True)
class OpenPoint:
    """An ActivationPoint whose readers are still being collected, by the placer; its fields are those of the point."""

    consumers: set[tuple[str, int]] = field(default_factory=set)
    everywhere: bool = False
    fixed_scale: float | None = None

    def closed(self, tensor: str, precision: Precision) -> ActivationPoint:
        """Return the point when all of its readers are known."""
        return ActivationPoint(
            tensor=tensor,
            precision=precision,
            consumers=frozenset(self.consumers),
            everywhere=self.everywhere,
            fixed_scale=self.fixed_scale,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightPoint:
    """A constant that is stored in 8 bits.

    Attributes:
        node: the name of the node that reads it.
        index: the input of the node that it is.
        precision: INT8, FP8, or a format of blocks or of weights alone.
        axis: the axis along which each slice has a scale of its own, or that is cut into blocks; None for one scale
            for all.
        after_gather: whether the codes are looked up first and dequantised afterwards, as for an embedding.
    """

    node: str
    index: int
    precision: Precision
    axis: int | None
    after_gather: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """What a plan means for one graph.

    Attributes:
        activations: the Q/DQ pairs.
        weights: the constants stored in 8 bits.
        node_types: node name -> the float type it computes in; nodes not listed follow their inputs.
        unified: groups of values that must share one scale, so that a Concat needs no requantisation.
        skipped: unit name -> why a quantised precision that was asked for was not written.
        dynamic: the names of the products whose activations are quantised at run time.
    """

    activations: tuple[ActivationPoint, ...]
    weights: tuple[WeightPoint, ...]
    node_types: Mapping[str, Precision]
    unified: tuple[frozenset[str], ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    dynamic: frozenset[str] = frozenset()


def range_root(topology: Topology, value: ir.Value) -> ir.Value:
    """The value whose calibrated range `value` shares: reshaping and max-pooling change no range."""
    current = value
    while (node := current.producer()) is not None and node in topology.index:
        source = node.inputs[0]
        if node.op_type not in RESHAPING_OPS | {"MaxPool"} or source is None or source in topology.constants:
            break
        current = source
    return current


def read_in_nvfp4(topology: Topology, placement: Placement) -> dict[str, str]:
    """Node name -> the value of whose range one scale is made for all blocks of NVFP4 that the node reads."""
    nodes = {str(node.name): node for node in topology.nodes}
    found = {}
    for point in placement.weights:
        value = nodes[point.node].inputs[0] if point.precision is Precision.NVFP4 else None
        if value is not None:
            found[point.node] = str(range_root(topology, value).name)
    return found


def calibration_tensors(topology: Topology, placements: Sequence[Placement]) -> tuple[str, ...]:
    """The values whose ranges the placements need, in topological order."""
    by_name = {str(v.name): v for node in topology.nodes for v in node.outputs}
    by_name |= {str(v.name): v for v in topology.graph.inputs}
    wanted = {
        str(range_root(topology, by_name[point.tensor]).name)
        for placement in placements
        for point in placement.activations
        if point.tensor in by_name and point.fixed_scale is None
    }
    wanted |= {name for placement in placements for name in read_in_nvfp4(topology, placement).values()}
    return tuple(name for name in by_name if name in wanted)


def quantized_macs(topology: Topology, partition: Partition, placement: Placement) -> dict[str, Precision]:
    """Unit name -> the precision that its arithmetic really gets under the placement."""
    done = {point.node: point.precision for point in placement.weights}
    done |= dict.fromkeys(placement.dynamic, Precision.INT8_DYNAMIC)
    for point in placement.activations:
        for node, _ in point.consumers:
            done.setdefault(node, point.precision)
    result = {}
    for unit in partition.units:
        found = [done[name] for name in unit.anchors if name in done]
        result[unit.name] = found[0] if found else placement.node_types.get(unit.nodes[-1], Precision.FP32)
    return result
