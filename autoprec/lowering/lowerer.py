"""Lowering: a model, a plan and ranges become a model whose tensors say what runs in which precision.

The passes do the work (`autoprec.lowering.passes`); this module decides which of them run, and in which opset.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx_ir as ir

from autoprec.backends.scheme import Scheme
from autoprec.errors import PlanError
from autoprec.graph.model import Model
from autoprec.graph.topology import Topology
from autoprec.lowering.activation_ranges import range_of
from autoprec.lowering.bases import Bases
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.annotate_precisions import AnnotatePrecisionsPass
from autoprec.lowering.passes.assign_types import AssignTypesPass
from autoprec.lowering.passes.block_kernels import BlockKernelsPass
from autoprec.lowering.passes.correct_bias import CorrectBiasPass, weights_of
from autoprec.lowering.passes.float_weights import FloatWeightsPass
from autoprec.lowering.passes.fold_batch_norm import FoldBatchNormPass
from autoprec.lowering.passes.gemm_to_matmul import GemmToMatMulPass
from autoprec.lowering.passes.insert_qdq import InsertQDQPass
from autoprec.lowering.passes.isolate_floats import IsolateFloatsPass
from autoprec.lowering.passes.keep_products import KeepProductsPass, transposes_before_products
from autoprec.lowering.passes.lowering_pass import LoweringPass
from autoprec.lowering.passes.norm_to_conv import NormToConvPass
from autoprec.lowering.passes.pack_constants import PackConstantsPass
from autoprec.lowering.passes.quantize_at_run_time import QuantizeAtRunTimePass
from autoprec.lowering.passes.quantize_blocks import QuantizeBlocksPass, RoundedWeights, split_by_blocks
from autoprec.lowering.passes.quantize_tables import QuantizeTablesPass
from autoprec.lowering.passes.quantize_weights import QuantizeWeightsPass
from autoprec.lowering.passes.representable_bias import RepresentableBiasPass
from autoprec.lowering.passes.saturated_clips import SaturatedClipsPass
from autoprec.lowering.passes.scale_blocks import ScaleBlocksPass
from autoprec.lowering.passes.scales import coarsest, pair_params, round_scale
from autoprec.lowering.passes.shortcut_to_conv import ShortcutToConvPass, padded_skips
from autoprec.lowering.passes.simulate_types import SimulateTypesPass
from autoprec.lowering.passes.type_slots import OPSET_BF16, OPSET_BLOCKS, OPSET_HALF_SCALES, OPSET_QDQ
from autoprec.lowering.placement import Placement, range_root, read_in_nvfp4
from autoprec.lowering.placer import place
from autoprec.lowering.record import LoweringRecord
from autoprec.lowering.repaired import RepairedModel, needs_no_repairs, on_unrepaired
from autoprec.precision import CARRIERS, Precision
from autoprec.ranges.affine import QuantParams
from autoprec.ranges.scaled_blocks import scale_of_all
from autoprec.ranges.table import RangeTable, known_range
from autoprec.units.foreign import units_of
from autoprec.units.records import Partition

_WEAK_IR_VERSION = 8  # of opset 17, the newest that TensorRT 8.6 documents


@dataclass(frozen=True, slots=True)
class Lowered:
    """A lowered model.

    Attributes:
        ir: the graph; for the plan that changes nothing the model as it was read.
        placement: the decisions that were written into it.
        record: what became of each value and node of the model.
    """

    ir: ir.Model
    placement: Placement
    record: LoweringRecord


@dataclass(frozen=True, slots=True)
class _Draft:
    """A folded copy of the model with the decisions of a plan, none of which is written into it yet.

    Attributes:
        work: the copy.
        editor: its editor, which knows what the folding changed.
        topology: the topology of the copy.
        placement: the decisions.
    """

    work: ir.Model
    editor: GraphEditor
    topology: Topology
    placement: Placement


class Lowerer:
    """Lowers plans of one model, and keeps the model in each opset that a plan has needed.

    Args:
        model: the model as it was loaded.
        partition: the units of the model.
        scheme: the way in which the runtime wants networks quantised.
        carrier: the float type around quantised arithmetic.
        unify_concat: whether all inputs and the output of a Concat before a quantised op get one scale.
    """

    def __init__(
        self, model: Model, partition: Partition, scheme: Scheme, carrier: Precision, *, unify_concat: bool = False
    ) -> None:
        if carrier not in CARRIERS:
            raise PlanError(f"the carrier must be a float type (fp32, fp16 or bf16), got {carrier}")
        self.model, self.partition = model, partition
        self.scheme, self.carrier, self.unify_concat = scheme, carrier, unify_concat
        self._bases = Bases(model.ir, model.store)
        self._rounded: RoundedWeights = {}

    def lower(
        self, precisions: Mapping[str, Precision], ranges: RangeTable | None, *, simulate: bool = False
    ) -> Lowered:
        """Write an assignment of precisions into a copy of the model.

        Args:
            precisions: unit name -> precision; units that are not named stay as they are in the model.
            ranges: the calibrated ranges, or None if nothing is quantised.
            simulate: whether to keep FP32 arithmetic and to round to the half types, for evaluation on a runtime
                without half kernels. The placement is the same.

        Raises:
            PlanError: a value that must be quantised has no calibrated range.
            ModelError: the model cannot be raised to the opset that the plan needs.
        """
        if not simulate and needs_no_repairs(self.model, precisions):  # repairs would add nodes for nothing
            return self._unrepaired.lower(on_unrepaired(self._unrepaired.partition, self.partition, precisions), ranges)
        if not self.partition.changed(precisions):
            copy = self.model.original.clone()
            return Lowered(copy, Placement(activations=(), weights=(), node_types={}), GraphEditor(copy).record())
        draft = self._draft(precisions, simulate)
        for step in self._steps(draft, precisions, ranges, simulate):
            step(draft.work)  # not ir.passes.Sequential, which would bury an AutoprecError in a PassError
        return Lowered(draft.work, draft.placement, draft.editor.record())

    @cached_property
    def _unrepaired(self) -> Lowerer:
        """The lowerer of the model before its repairs."""
        model = self.model.before if isinstance(self.model, RepairedModel) else self.model
        return Lowerer(model, units_of(model, [unit.name for unit in self.partition.units]), self.scheme, self.carrier)

    def _steps(
        self, draft: _Draft, precisions: Mapping[str, Precision], ranges: RangeTable | None, simulate: bool
    ) -> list[LoweringPass]:
        editor, placement = draft.editor, draft.placement
        scale_type, points = self._scale_type(placement), split_by_blocks(placement.weights)
        moments = ranges.moments if ranges else {}
        of_8_bits = ranges.readings if ranges and ranges.rounds_8_bits else {}
        largest, kept = self.scheme.largest_weight, self._rounded
        steps: list[LoweringPass] = [
            QuantizeWeightsPass(editor, points.others, scale_type, largest, moments=of_8_bits, rounded=kept),
            QuantizeBlocksPass(editor, points.matrices, scale_type, moments, kept),
            QuantizeTablesPass(editor, points.tables, scale_type, in_float=simulate),
        ]
        products = [*points.others, *points.matrices]
        if ranges is not None:
            steps.append(CorrectBiasPass(editor, products, weights_of(draft.work.graph, products), ranges.means))
        scales = self._scales(draft.topology, placement, ranges, scale_type)
        steps.append(InsertQDQPass(editor, placement.activations, scales))
        steps.append(QuantizeAtRunTimePass(editor, placement.dynamic, in_float=simulate))
        scaled = self._scaled(draft, ranges, simulate)
        if self.scheme.block_kernels and not simulate:
            steps.append(BlockKernelsPass(editor, {p.node for p in products if p.precision.weights_only}))
        if self.scheme.float_islands:
            steps += [RepresentableBiasPass(editor), KeepProductsPass(editor), IsolateFloatsPass(editor)]
        if simulate:
            return [*steps, *scaled, SimulateTypesPass(editor, placement.node_types)]
        if not self.scheme.strongly_typed:
            draft.work.ir_version = min(draft.work.ir_version, _WEAK_IR_VERSION)
            steps += [FloatWeightsPass(editor), SaturatedClipsPass(editor)]
            return [*steps, AnnotatePrecisionsPass(editor, self._annotations(precisions, placement))]
        types = dict(placement.node_types)
        if self.scheme.transposes_stay_fp32:
            types |= dict.fromkeys(transposes_before_products(draft.work.graph), Precision.FP32)
        steps.append(AssignTypesPass(editor, types, self.carrier))
        return [*steps, PackConstantsPass(editor), *scaled] if placement.weights else steps

    def _scaled(self, draft: _Draft, ranges: RangeTable | None, simulate: bool) -> list[LoweringPass]:
        """The pass that writes products in MXFP8 and NVFP4, where there are any; types are assigned before."""
        points = split_by_blocks(draft.placement.weights).scaled
        nodes = {str(node.name): node for node in draft.work.graph}
        weights = {point.node: value for point in points if (value := nodes[point.node].inputs[1]) is not None}
        read = read_in_nvfp4(draft.topology, draft.placement).items()
        of_all = {node: scale_of_all(known_range(ranges, value, exact=True)) for node, value in read}
        return [ScaleBlocksPass(draft.editor, points, weights, of_all, in_float=simulate)] if points else []

    def _scale_type(self, placement: Placement) -> Precision:
        """Return the coarsest float type that scales are stored in, which may be any half type of a typed model."""
        return coarsest(placement.node_types.values()) if self.scheme.strongly_typed else Precision.FP32

    def _annotations(self, precisions: Mapping[str, Precision], placement: Placement) -> dict[str, Precision]:
        """Return node name -> the precision in its metadata; 8-bit nodes are left out, because their Q/DQ says it."""
        told = dict(placement.node_types)
        for unit in self.partition.units:
            wanted = precisions.get(unit.name, unit.source)
            if wanted is Precision.FP32 or (wanted.is_quantized and unit.name not in placement.skipped):
                told |= dict.fromkeys(unit.nodes, wanted)
        return told

    def placement(self, precisions: Mapping[str, Precision]) -> tuple[Topology, Placement]:
        """Return the topology of the folded graph and where pairs would go in it; that needs no ranges."""
        draft = self._draft(precisions, simulate=True)
        return draft.topology, draft.placement

    def _draft(self, precisions: Mapping[str, Precision], simulate: bool) -> _Draft:
        work = self._copy(precisions, simulate)
        editor = GraphEditor(work, self.model.store)
        self._fold(work, editor, precisions)
        topology = Topology(work.graph)
        placement = place(
            topology, self.partition, precisions, self.carrier, self.scheme, unify_concat=self.unify_concat
        )
        return _Draft(work, editor, topology, placement)

    def _copy(self, precisions: Mapping[str, Precision], simulate: bool) -> ir.Model:
        """Return a copy of the model in which each weight is stored once, unless the plan needs it in two forms."""
        opset = self._opset(precisions, simulate)
        if simulate:
            return self.base(opset).clone()  # to transpose a table in each run would take time
        quantized = [u for u in self.partition.units if precisions.get(u.name, Precision.FP32).is_quantized]
        return self._bases.with_ties(opset, {name for unit in quantized for name in unit.anchors})

    def scaler(
        self, precisions: Mapping[str, Precision]
    ) -> Callable[[RangeTable], dict[tuple[str, Precision], QuantParams]]:
        """Return a function of ranges that gives (value, precision) -> the affine map, for each pair on activations.

        Placing the pairs takes longer than their scales, and does not depend on ranges. The function raises PlanError
        where a value that must be quantised has no calibrated range.
        """
        topology, placement = self.placement(precisions)
        scale_type = self._scale_type(placement)
        return lambda ranges: self._scales(topology, placement, ranges, scale_type)

    def base(self, opset: int) -> ir.Model:
        """Return the prepared model in `opset` or a newer one, with rearranged constants folded; its names are kept."""
        return self._bases.folded(opset)

    def check_opsets(self, precisions: Iterable[Precision]) -> None:
        """Bring the model to each opset that plans of these precisions need, so that none of them fails later.

        Raises:
            ModelError: an operator cannot be written in one of these opsets; the message names the node.
        """
        names = [unit.name for unit in self.partition.units]
        for precision in {*precisions} - {Precision.FP32}:
            for simulate in (False, True):
                self.base(self._opset(dict.fromkeys(names, precision), simulate))

    def _opset(self, precisions: Mapping[str, Precision], simulate: bool) -> int:
        used = {precisions[unit.name] for unit in self.partition.changed(precisions)}
        quantized = any(p.is_quantized for p in used)
        if not self.scheme.strongly_typed and not simulate:
            return OPSET_QDQ
        half = not {*used, *self.partition.sources.values(), self.carrier}.isdisjoint((Precision.FP16, Precision.BF16))
        # Simulated arithmetic is FP32, so that it needs no opset with half types.
        if not simulate and (Precision.BF16 in used or (quantized and self.carrier is Precision.BF16)):
            return OPSET_BF16
        if any(p.block or p.scaled_block for p in used):
            return OPSET_BLOCKS
        if Precision.FP8 in used or (quantized and half):
            return OPSET_HALF_SCALES
        return OPSET_QDQ

    def _fold(self, work: ir.Model, editor: GraphEditor, precisions: Mapping[str, Precision]) -> None:
        """Fold normalisations into the weights of lowered convolutions, and write ops as the scheme wants them."""
        lowered = self.partition.changed(precisions)
        FoldBatchNormPass(editor, [name for unit in lowered for name in unit.anchors])(work)
        products = [u for u in lowered if u.kind == "matmul" and precisions[u.name].is_quantized]
        for ranged in (False, True):
            some = [u for u in products if precisions[u.name].needs_ranges is ranged]
            if self.scheme.gemms_as_products or not ranged:
                GemmToMatMulPass(editor, [name for unit in some for name in unit.anchors], add=not ranged)(work)
        if self.scheme.norms_as_convs:
            quantized = [u for u in lowered if u.kind == "conv" and precisions[u.name].is_quantized]
            NormToConvPass(editor, [name for unit in quantized for name in unit.nodes])(work)
        if self.scheme.shortcuts_as_convs:
            ShortcutToConvPass(editor, padded_skips(work.graph, lowered))(work)

    def _scales(
        self, topology: Topology, placement: Placement, ranges: RangeTable | None, scale_type: Precision
    ) -> dict[tuple[str, Precision], QuantParams]:
        if not placement.activations:
            return {}
        values = {str(v.name): v for node in topology.nodes for v in node.outputs}
        values |= {str(v.name): v for v in topology.graph.inputs}
        scales = {}
        for point in placement.activations:
            names = [str(range_root(topology, values[name]).name) for name in self._sharers(placement, point.tensor)]
            exact = pair_params(point, [range_of(ranges, point, name) for name in names], self.scheme)
            scale = float(round_scale(np.array(exact.scale), scale_type))
            scales[point.tensor, point.precision] = QuantParams(scale, exact.zero_point, exact.signed)
        return scales

    def _sharers(self, placement: Placement, tensor: str) -> list[str]:
        return next((sorted(group) for group in placement.unified if tensor in group), [tensor])
