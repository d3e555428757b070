"""Where Q/DQ pairs go and in which float type each node computes: data, before any graph is touched.

Implements NVIDIA's placement rules (Model Optimizer's explicit quantisation for TensorRT) and the
pattern that ONNX Runtime's CPU optimiser fuses. The graph must have its BatchNormalization folded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import onnx_ir as ir

from autoprec.graph import COPY_OPS, RESHAPING_OPS, Topology, is_float
from autoprec.precision import FLOATS, Precision
from autoprec.schemes import Scheme, axis_of_weight
from autoprec.units.chains import backbone
from autoprec.units.records import Partition, Unit


@dataclass(frozen=True, slots=True)
class ActivationPoint:
    """One Q/DQ pair on a value.

    Attributes:
        tensor: the value's name.
        precision: INT8 or FP8.
        consumers: (node name, input index) of those that read the pair; others bypass it.
        everywhere: the pair sits at the producer and every consumer reads it.
        fixed_scale: a scale known without calibration, as for the result of a softmax.
    """

    tensor: str
    precision: Precision
    consumers: frozenset[tuple[str, int]]
    everywhere: bool = False
    fixed_scale: float | None = None


@dataclass(frozen=True, slots=True)
class WeightPoint:
    """A constant stored in 8 bits: input `index` of `node`, one scale for each slice along `axis`."""

    node: str
    index: int
    precision: Precision
    axis: int | None
    after_gather: bool = False


@dataclass(frozen=True, slots=True)
class Placement:
    """What a plan means for one graph.

    Attributes:
        activations: the Q/DQ pairs.
        weights: the constants stored in 8 bits.
        node_types: node name -> the float type it computes in; nodes not listed follow their inputs.
        unified: groups of values that must share one scale, so that a Concat needs no requantisation.
        skipped: unit name -> why a precision that was asked for came to nothing.
    """

    activations: tuple[ActivationPoint, ...]
    weights: tuple[WeightPoint, ...]
    node_types: Mapping[str, Precision]
    unified: tuple[frozenset[str], ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)


def place(
    topology: Topology,
    partition: Partition,
    precisions: Mapping[str, Precision],
    carrier: Precision,
    scheme: Scheme,
    *,
    unify_concat: bool = False,
) -> Placement:
    """Decide Q/DQ pairs, 8-bit constants and node types for an assignment of precisions.

    Args:
        topology: of the graph with BatchNormalization folded.
        partition: units of the original graph; nodes folded away are passed over.
        precisions: unit name -> precision; must be possible for the unit under `scheme`.
        carrier: the float type around quantised arithmetic.
        scheme: whose rules.
        unify_concat: give all inputs and the output of a Concat before a quantised op one scale.
    """
    return _Placer(topology, partition, precisions, carrier, scheme).run(unify_concat)


def range_root(topology: Topology, value: ir.Value) -> ir.Value:
    """The value whose calibrated range `value` shares: reshaping and max-pooling change no range."""
    current = value
    while (node := current.producer()) is not None and node in topology.index:
        if node.op_type not in RESHAPING_OPS | {"MaxPool"} or node.inputs[0] is None:
            break
        if node.inputs[0] in topology.constants:
            break
        current = node.inputs[0]
    return current


class _Placer:
    def __init__(
        self,
        topology: Topology,
        partition: Partition,
        precisions: Mapping[str, Precision],
        carrier: Precision,
        scheme: Scheme,
    ) -> None:
        self.topology, self.partition, self.scheme = topology, partition, scheme
        self.precisions, self.carrier = precisions, carrier
        self.nodes = {str(node.name): node for node in topology.nodes}
        self.home = partition.unit_of()
        self.points: dict[tuple[ir.Value, Precision], tuple[set[tuple[str, int]], bool, float | None]] = {}
        self.weights: list[WeightPoint] = []
        self.skipped: dict[str, str] = {}

    def run(self, unify_concat: bool) -> Placement:
        late = []
        for unit in self.partition.units:
            precision = self.precisions.get(unit.name, Precision.FP32)
            if not precision.is_quantized:
                continue
            if unit.kind in ("conv", "matmul"):
                self._linear(unit, precision)
            elif unit.kind == "attention":
                self._attention(unit, precision)
            elif unit.kind == "embedding":
                self._embedding(unit)
            else:
                late.append(unit)  # these look at what their neighbours became
        for unit in late:
            self._light(unit)
        self._residuals()
        activations = tuple(
            ActivationPoint(str(value.name), precision, frozenset(consumers), everywhere, scale)
            for (value, precision), (consumers, everywhere, scale) in self.points.items()
        )
        unified = self._unify() if unify_concat else ()
        return Placement(activations, tuple(self.weights), self._node_types(), unified, self.skipped)

    def _add(
        self,
        value: ir.Value | None,
        precision: Precision,
        node: ir.Node | None,
        index: int = 0,
        scale: float | None = None,
    ) -> None:
        if value is None or value in self.topology.constants or not is_float(value):
            return
        consumers, everywhere, old = self.points.get((value, precision), (set(), False, None))
        if node is not None:
            consumers.add((str(node.name), index))
        self.points[(value, precision)] = (consumers, everywhere or node is None, old if scale is None else scale)

    def _quantized(self, unit: Unit | None) -> bool:
        return unit is not None and self.precisions.get(unit.name, Precision.FP32).is_quantized

    def _linear(self, unit: Unit, precision: Precision) -> None:
        for name in unit.anchors:
            node = self.nodes[name]
            for index in (0, 1):
                value = node.inputs[index]
                if value in self.topology.constants:
                    self.weights.append(WeightPoint(name, index, precision, axis_of_weight(node, index)))
                else:
                    self._add(value, precision, node, index)
        if self.scheme.quantize_outputs and unit.kind == "conv":
            self._conv_outputs(unit, precision)

    def _conv_outputs(self, unit: Unit, precision: Precision) -> None:
        """ONNX Runtime fuses Conv [-> Relu | Clip] -> Q; behind a residual Add the same once more."""
        members = {self.nodes[name] for name in unit.nodes if name in self.nodes}
        end = self._clipped(self.nodes[unit.anchors[0]].outputs[0], members)
        self._add(end, precision, None)
        for node in sorted(members, key=self.topology.index.__getitem__):
            if node.op_type == "Add" and end in node.inputs and len(set(self.topology.dynamic_inputs(node))) == 2:
                for index, value in enumerate(node.inputs):
                    self._add(value, precision, node, index)
                end = self._clipped(node.outputs[0], members)
                self._add(end, precision, None)
            if node.op_type == "Conv" and node.inputs[0] is end:  # a normalisation, see NormToConvPass
                self.weights.append(WeightPoint(str(node.name), 1, precision, 0))
                end = self._clipped(node.outputs[0], members)
                self._add(end, precision, None)
            if node.op_type == "MaxPool" and node.inputs[0] is end:
                end = node.outputs[0]
                self._add(end, precision, None)

    def _clipped(self, value: ir.Value, members: set[ir.Node]) -> ir.Value:
        consumers = self.topology.consumers(value)
        if len(consumers) == 1 and consumers[0] in members and consumers[0].op_type in ("Relu", "Clip"):
            return consumers[0].outputs[0]
        return value

    def _attention(self, unit: Unit, precision: Precision) -> None:
        first, second = (self.nodes[name] for name in unit.anchors)
        for node in (first, second):
            for index in (0, 1):
                value = node.inputs[index]
                probabilities = node is second and self._from_softmax(value)
                self._add(value, precision, node, index, 1.0 / 448.0 if probabilities else None)

    def _from_softmax(self, value: ir.Value | None) -> bool:
        while value is not None and (node := value.producer()) is not None:
            if node.op_type == "Softmax":
                return True
            if node.op_type not in RESHAPING_OPS | {"Cast"}:
                return False
            value = node.inputs[0]
        return False

    def _embedding(self, unit: Unit) -> None:
        self.weights.append(
            WeightPoint(
                unit.anchors[0],
                0,
                Precision.INT8,
                1 if self.scheme.dequantize_after_gather else 0,
                self.scheme.dequantize_after_gather,
            )
        )

    def _light(self, unit: Unit) -> None:
        """Pools, Adds and Resizes are quantised only beside a quantised neighbour."""
        node = self.nodes[unit.anchors[0]]
        neighbours = {edge.producer for edge in self.partition.edges if edge.consumer == unit.name}
        neighbours |= {edge.consumer for edge in self.partition.edges if edge.producer == unit.name}
        others = [self.home.get(name) or self._unit(name) for name in neighbours if name]
        if not any(self._quantized(other) for other in others if other is not None):
            self.skipped[unit.name] = "no neighbour is quantised, so a lone pair would only cost"
            return
        for index, value in enumerate(node.inputs):
            self._add(value, Precision.INT8, node, index)
        if self.scheme.quantize_outputs:
            self._add(node.outputs[0], Precision.INT8, None)

    def _unit(self, name: str) -> Unit | None:
        return next((unit for unit in self.partition.units if unit.name == name), None)

    def _residuals(self) -> None:
        """The skip input of a residual Add gets a pair, so that the fused kernel reads 8 bits on both sides."""
        if self.scheme.quantize_outputs:
            return
        for unit in self.partition.units:
            precision = self.precisions.get(unit.name, Precision.FP32)
            if unit.kind != "conv" or not precision.is_quantized:
                continue
            members = {name for name in unit.nodes if name in self.nodes}
            for name in unit.nodes:
                node = self.nodes.get(name)
                if node is None or node.op_type != "Add":
                    continue
                for index, value in enumerate(node.inputs):
                    producer = value.producer() if value is not None else None
                    inside = producer is not None and producer.name in members
                    if value is None or inside or value in self.topology.constants:
                        continue
                    if self._is_residual(node, value) and not self._is_lone(value, precision):
                        self._add(value, precision, node, index)

    def _is_residual(self, add: ir.Node, skip: ir.Value) -> bool:
        """Not where the skip is the very result of the linear op that the other branch starts from."""
        other = next(value for value in add.inputs if value is not skip)
        mine = backbone(self.topology, other) if other is not None else None
        theirs = backbone(self.topology, skip)
        if mine is None or mine is theirs:
            return False
        if theirs is None or skip.producer() is not theirs:
            return True
        return not self._depends(mine, theirs)

    def _depends(self, node: ir.Node, on: ir.Node) -> bool:
        index = self.topology.index
        return bool(self.topology.ancestors[index[node]] >> index[on] & 1)

    def _is_lone(self, value: ir.Value, precision: Precision) -> bool:
        if (value, precision) in self.points:
            return False
        producer = self._producer_unit(value)
        return not self._quantized(producer)

    def _producer_unit(self, value: ir.Value) -> Unit | None:
        current: ir.Value | None = value
        while current is not None and (node := current.producer()) is not None:
            if str(node.name) in self.home:
                return self.home[str(node.name)]
            if node.op_type not in COPY_OPS:
                return None
            current = node.inputs[0]
        return None

    def _node_types(self) -> dict[str, Precision]:
        types: dict[str, Precision] = {}
        for unit in self.partition.units:
            precision = self.precisions.get(unit.name, Precision.FP32)
            for name in unit.nodes:
                types[name] = precision if precision in FLOATS else self.carrier
        return types

    def _unify(self) -> tuple[frozenset[str], ...]:
        """Union of the inputs and the output of each Concat that feeds a quantised op; chained ones join."""
        quantized = {value for value, _ in self.points}
        parent: dict[ir.Value, ir.Value] = {}

        def find(value: ir.Value) -> ir.Value:
            while parent.setdefault(value, value) is not value:
                value = parent[value]
            return value

        for node in self.topology.nodes:
            if node.op_type != "Concat" or not self._feeds_quantized(node.outputs[0], quantized):
                continue
            for value in self.topology.dynamic_inputs(node):
                parent[find(value)] = find(node.outputs[0])
        groups: dict[ir.Value, set[str]] = {}
        for value in parent:
            groups.setdefault(find(value), set()).add(str(value.name))
        return tuple(frozenset(group) for group in groups.values() if len(group) > 1)

    def _feeds_quantized(self, value: ir.Value, quantized: set[ir.Value]) -> bool:
        if value in quantized:
            return True
        copies = [node for node in self.topology.consumers(value) if node.op_type in COPY_OPS]
        return any(self._feeds_quantized(output, quantized) for node in copies for output in node.outputs)


def calibration_tensors(topology: Topology, placements: list[Placement]) -> tuple[str, ...]:
    """The values whose ranges the placements need, in topological order."""
    by_name = {str(v.name): v for node in topology.nodes for v in node.outputs}
    by_name |= {str(v.name): v for v in topology.graph.inputs}
    wanted = {
        str(range_root(topology, by_name[point.tensor]).name)
        for placement in placements
        for point in placement.activations
        if point.tensor in by_name and point.fixed_scale is None
    }
    return tuple(name for name in by_name if name in wanted)


def quantized_macs(topology: Topology, partition: Partition, placement: Placement) -> dict[str, Precision]:
    """Unit name -> the precision that its arithmetic really gets under the placement."""
    done = {point.node: point.precision for point in placement.weights}
    for point in placement.activations:
        for node, _ in point.consumers:
            done.setdefault(node, point.precision)
    result = {}
    for unit in partition.units:
        found = [done[name] for name in unit.anchors if name in done]
        result[unit.name] = found[0] if found else placement.node_types.get(unit.nodes[-1], Precision.FP32)
    return result

