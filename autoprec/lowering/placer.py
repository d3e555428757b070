"""The rules that decide where Q/DQ pairs go and in which float type each node computes; no graph is changed.

Implements NVIDIA's placement rules (Model Optimizer's explicit quantisation for TensorRT) but for pairs on a
lone BatchNormalization, LRN or HardSwish, which are optional there, and on the result of FP8 attention, which
its reader quantises where it wants to; and the pattern that ONNX Runtime's CPU optimiser fuses.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from autoprec.backends.scheme import Scheme
from autoprec.graph.topology import COPY_OPS, RESHAPING_OPS, Topology, is_float
from autoprec.lowering.placement import OpenPoint, Placement, WeightPoint, range_root
from autoprec.lowering.possible import carrier_of
from autoprec.lowering.weight_axis import axis_of_weight
from autoprec.precision import FLOATS, Precision
from autoprec.units.branches import concat_groups, residual_skips
from autoprec.units.records import Partition, Unit


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
        topology: the topology of the graph with BatchNormalization folded.
        partition: the units of the original graph; nodes that were folded away are passed over.
        precisions: unit name -> precision, which must be possible for the unit under `scheme`.
        carrier: the float type around quantised arithmetic.
        scheme: the way in which the runtime wants networks quantised.
        unify_concat: whether all inputs and the output of a Concat before a quantised op get one scale.
    """
    return _Placer(topology, partition, precisions, carrier, scheme).run(unify_concat)


class _Placer:
    """One placement: the pairs, 8-bit constants and refusals that were found so far."""

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
        self.points: dict[tuple[ir.Value, Precision], OpenPoint] = {}
        self.weights: list[WeightPoint] = []
        self.skipped: dict[str, str] = {}
        self.dynamic: set[str] = set()

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
                self._embedding(unit, precision)
            else:
                late.append(unit)  # these look at what their neighbours became
        self._light(late)
        self._residuals()
        if self.scheme.quantize_norms:
            self._norms()
        if self.scheme.pairs_at_producers:
            self._share_pairs()
        activations = (point.closed(str(value.name), precision) for (value, precision), point in self.points.items())
        unified = concat_groups(self.topology, {value for value, _ in self.points}) if unify_concat else ()
        return Placement(
            activations=tuple(activations),
            weights=tuple(self.weights),
            node_types=self._node_types(),
            unified=unified,
            skipped=self.skipped,
            dynamic=frozenset(self.dynamic),
        )

    def _add(
        self,
        value: ir.Value | None,
        precision: Precision,
        node: ir.Node | None,
        index: int = 0,
        scale: float | None = None,
    ) -> None:
        """Put a pair on an input of `node`, or at the producer of the value where there is no node."""
        if value is None or value in self.topology.constants or not is_float(value):
            return
        point = self.points.setdefault((value, precision), OpenPoint())
        if node is None:
            point.everywhere = True
        else:
            point.consumers.add((str(node.name), index))
        point.fixed_scale = point.fixed_scale if scale is None else scale

    def _linear(self, unit: Unit, precision: Precision) -> None:
        if (reason := self._why_float(unit)) is not None:
            self.skipped[unit.name] = reason
            return
        self.dynamic.update(unit.anchors if precision is Precision.INT8_DYNAMIC else ())
        stored = precision.of_weights
        for name in unit.anchors:
            node = self.nodes[name]
            for index in (0, 1):
                value = node.inputs[index]
                if value in self.topology.constants:
                    axis = 0 if stored.block or stored.scaled_block else axis_of_weight(node, index)
                    self.weights.append(WeightPoint(node=name, index=index, precision=stored, axis=axis))
                elif precision.needs_ranges:
                    self._add(value, precision, node, index)
        if self.scheme.quantize_outputs and unit.kind == "conv":
            self._conv_outputs(unit, precision)

    def _why_float(self, unit: Unit) -> str | None:
        """Return why the unit stays float although `why_not`, which does not see the folded graph, allows 8 bits."""
        anchors = [self.nodes[name] for name in unit.anchors]
        read = {value for node in anchors for value in node.inputs[:2] if value is not None} & self.topology.constants
        if any(value.const_value is None for value in read):
            return "its weights are computed from constants in a way that was not folded"
        return None if self._carrier_of(unit) is self.carrier else "TensorRT has no BF16 ConvTranspose to carry 8 bits"

    def _members(self, unit: Unit) -> list[ir.Node]:
        """Return the nodes of the unit that are left in the folded graph."""
        return [self.nodes[name] for name in unit.nodes if name in self.nodes]

    def _carrier_of(self, unit: Unit) -> Precision:
        return carrier_of(self._members(unit), self.carrier, self.scheme)

    def _around(self, unit: Unit, precision: Precision) -> Precision:
        """Return the float type around quantised arithmetic; DynamicQuantizeLinear takes and gives FP32 alone."""
        wide = precision is Precision.INT8_DYNAMIC or (precision.weights_only and self.scheme.block_kernels)
        return Precision.FP32 if wide else self._carrier_of(unit)

    def _conv_outputs(self, unit: Unit, precision: Precision) -> None:
        """Put pairs on results: ONNX Runtime fuses Conv [-> Relu | Clip] -> Q, and the same behind a residual Add."""
        members = set(self._members(unit))
        end = self._clipped(self.nodes[unit.anchors[0]].outputs[0], members)
        self._add(end, precision, None)
        for node in sorted(members, key=self.topology.index.__getitem__):
            if node.op_type == "Add" and end in node.inputs and len(set(self.topology.dynamic_inputs(node))) == 2:
                for index, value in enumerate(node.inputs):
                    self._add(value, precision, node, index)
                end = self._clipped(node.outputs[0], members)
                self._add(end, precision, None)
            if node.op_type == "Conv" and node.inputs[0] is end:  # a normalisation, see NormToConvPass
                self.weights.append(WeightPoint(node=str(node.name), index=1, precision=precision, axis=0))
                end = self._clipped(node.outputs[0], members)
                self._add(end, precision, None)
            if node.op_type == "MaxPool" and node.inputs[0] is end:
                self._add(node.outputs[0], precision, None)

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
        producer = range_root(self.topology, value).producer() if value is not None else None
        return producer is not None and producer.op_type == "Softmax"

    def _embedding(self, unit: Unit, precision: Precision) -> None:
        # Where rows are looked up as codes, the scale must not depend on which one it was.
        late = self.scheme.dequantize_after_gather and not precision.block
        axis, stored = (1 if late or precision.block else 0), (precision if precision.block else Precision.INT8)
        self.weights.append(WeightPoint(node=unit.anchors[0], index=0, precision=stored, axis=axis, after_gather=late))

    def _light(self, units: list[Unit]) -> None:
        """Quantise pools, Adds and Resizes beside a neighbour that is quantised; a lone pair would only cost time."""
        beside: dict[str, set[str]] = {unit.name: set() for unit in units}
        for edge in self.partition.edges:
            for name, other in ((edge.producer, edge.consumer), (edge.consumer, edge.producer)):
                if name in beside:
                    beside[name].add(other)
        int8 = {name for name, precision in self.precisions.items() if precision is Precision.INT8} - beside.keys()
        waiting = list(units)
        while ready := [unit for unit in waiting if beside[unit.name] & int8]:
            int8 |= {unit.name for unit in ready}
            waiting = [unit for unit in waiting if unit not in ready]
            for unit in ready:
                self._light_pair(unit)
        self.skipped |= {unit.name: "no neighbour is in INT8, so a lone pair would only cost" for unit in waiting}

    def _light_pair(self, unit: Unit) -> None:
        node = self.nodes[unit.anchors[0]]
        for index, value in enumerate(node.inputs):
            self._add(value, Precision.INT8, node, index)
        if self.scheme.quantize_outputs:
            self._add(node.outputs[0], Precision.INT8, None)

    def _residuals(self) -> None:
        """Put a pair on the skip input of a residual Add, so that the fused kernel reads 8 bits on both sides."""
        if self.scheme.quantize_outputs:
            return
        for unit in self.partition.units:
            precision = self.precisions.get(unit.name, Precision.FP32)
            if unit.kind == "conv" and precision.is_quantized:
                members = set(self._members(unit))
                for node, index in residual_skips(self.topology, members):
                    value = node.inputs[index]
                    conv = self._shortcut(value) if precision is Precision.INT8 else None
                    if conv is not None:
                        self._add(conv.inputs[0], precision, conv, 0)
                        self.weights.append(WeightPoint(node=str(conv.name), index=1, precision=precision, axis=0))
                    if value is not None and (conv is not None or not self._is_lone(value, precision)):
                        self._add(value, precision, node, index)

    def _shortcut(self, value: ir.Value | None) -> ir.Node | None:
        """Return the convolution of no unit that a shortcut was written as, see `ShortcutToConvPass`."""
        node = value.producer() if value is not None and self.scheme.shortcuts_as_convs else None
        if node is None or node.op_type != "Conv" or str(node.name) in self.home:
            return None
        return node if node.inputs[1] in self.topology.constants else None

    def _share_pairs(self) -> None:
        """Let all readers of a value that an INT8 convolution writes take the pair that some of them take."""
        for (value, precision), point in self.points.items():
            producer = value.producer()
            unit = self.home.get(str(producer.name)) if producer is not None else None
            if unit is None or unit.kind != "conv" or unit.name in self.skipped or self.topology.escapes(value):
                continue
            if precision is Precision.INT8 and self.precisions.get(unit.name) is precision:
                point.everywhere = True

    def _norms(self) -> None:
        """Put a pair before a normalisation that no convolution could take in, if its result is read in 8 bits."""
        for unit in self.partition.units:
            if (
                unit.kind == "conv"
                and self.precisions.get(unit.name) is Precision.INT8
                and unit.name not in self.skipped
            ):
                for node in self._members(unit):
                    if node.op_type == "BatchNormalization" and self._read_in_int8(node.outputs[0]):
                        self._add(node.inputs[0], Precision.INT8, node, 0)

    def _read_in_int8(self, value: ir.Value) -> bool:
        """Return whether some reader takes the value in INT8, directly or after it was reshaped or pooled."""
        if (value, Precision.INT8) in self.points:
            return True
        between = [n for n in self.topology.consumers(value) if n.op_type in RESHAPING_OPS | {"MaxPool"}]
        return any(self._read_in_int8(node.outputs[0]) for node in between)

    def _is_lone(self, value: ir.Value, precision: Precision) -> bool:
        """Return whether neither another reader nor the op that makes the skip has it in this precision."""
        if (value, precision) in self.points:
            return False
        if len(self.topology.consumers(value)) > 1 or self.topology.escapes(value):
            return True  # its other readers take it in float, so it exists in float anyway
        producer = range_root(self.topology, value).producer()
        unit = self.home.get(str(producer.name)) if producer is not None else None
        return unit is None or self.precisions.get(unit.name) is not precision

    def _node_types(self) -> dict[str, Precision]:
        """Return what each node computes in: what the plan asks for, else what it has in the model."""
        sources = self.partition.sources
        moves = {name for name, node in self.nodes.items() if node.op_type in COPY_OPS}
        types = {name: precision for name, precision in sources.items() if name not in moves}
        for unit in self.partition.units:
            precision = self.precisions.get(unit.name, unit.source)
            for name in unit.nodes:
                if precision is unit.source:
                    types[name] = sources.get(name, Precision.FP32)
                    continue
                types[name] = precision if precision in FLOATS else self._around(unit, precision)
            for node in self._members(unit) if precision in FLOATS else ():
                shortcuts = (self._shortcut(value) for value in node.inputs if node.op_type == "Add")
                types |= {str(conv.name): precision for conv in shortcuts if conv is not None}
        return types
