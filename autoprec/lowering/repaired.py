"""A model with the repairs of a plan in it, which computes what the model does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir as ir

from autoprec.errors import PlanError
from autoprec.files.json import fingerprint
from autoprec.graph.model import Model
from autoprec.graph.preparation import infer_types
from autoprec.graph.topology import Topology
from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.scale_channels import ScaleChannelsPass, ScaleResult
from autoprec.lowering.passes.split_products import SplitProductsPass, SplitResult
from autoprec.plan import Repair, RepairKind
from autoprec.precision import Precision
from autoprec.units.keys import value_keys
from autoprec.units.records import Partition


@dataclass(frozen=True, slots=True, kw_only=True)
class RepairedModel(Model):
    """A model whose prepared graph has repairs in it.

    Its interface, its original and its fingerprints are those of the model as the user gave it.

    Attributes:
        before: the model without repairs.
        repairs: the repairs, in the order in which they were made.
        products: the value of each repair -> the names of the products of the repaired graph that it is made for.
        dear: the values whose repair adds a node to the graph, which takes time.
    """

    before: Model
    repairs: tuple[Repair, ...]
    products: Mapping[str, tuple[str, ...]]
    dear: frozenset[str]


def repaired(model: Model, repairs: Sequence[Repair]) -> Model:
    """Return the model with the repairs; the model itself where there are none.

    Raises:
        PlanError: a repair does not fit the model.
    """
    if not repairs:
        return model
    done, refused = try_repairs(model, repairs)
    if refused:
        value, reason = next(iter(refused.items()))
        raise PlanError(
            f"a repair of the plan must fit the model, but {value!r} cannot be repaired: {reason}; tune this model, or "
            f"give the one that the plan was made for"
        )
    return done


def try_repairs(model: Model, repairs: Sequence[Repair]) -> tuple[Model, dict[str, str]]:
    """Return the model with those repairs that fit it, and for each other one its value and why it does not."""
    work = model.ir.clone()
    editor = GraphEditor(work, model.store)
    kept: list[Repair] = []
    products: dict[str, tuple[str, ...]] = {}
    refused: dict[str, str] = {}
    dear: set[str] = set()
    for repair in repairs:
        result = _apply(repair, editor, work)
        if repair.value in result.refused:
            refused[repair.value] = result.refused[repair.value]
            continue
        kept.append(repair)
        products[repair.value] = result.products[repair.value]
        if not isinstance(result, ScaleResult) or repair.value in result.inserted:
            dear.add(repair.value)
    if not kept:
        return model, refused
    work.graph.sort()
    infer_types(work)
    fields = {name: getattr(model, name) for name in Model.__dataclass_fields__}
    made = RepairedModel(
        **{**fields, "ir": work}, before=model, repairs=tuple(kept), products=products, dear=frozenset(dear)
    )
    return made, refused


def _apply(repair: Repair, editor: GraphEditor, model: ir.Model) -> ScaleResult | SplitResult:
    if repair.kind is RepairKind.SPLIT:
        found = SplitProductsPass(editor, [repair.value])(model)
        assert isinstance(found, SplitResult)
        return found
    result = ScaleChannelsPass(editor, {repair.value: np.array(repair.factors)})(model)
    assert isinstance(result, ScaleResult)
    return result


def repairs_in(model: Model) -> tuple[Repair, ...]:
    """Return the repairs that are in a model."""
    return model.repairs if isinstance(model, RepairedModel) else ()


def repairs_fingerprint(model: Model) -> list[str]:
    """Return what a fingerprint must hold besides the model's own graph and weights; nothing without repairs."""
    found = [(r.kind.value, r.value, np.array(r.factors).tobytes().hex()) for r in repairs_in(model)]
    return [fingerprint(text for each in found for text in each)] if found else []


def located(repairs: Sequence[Repair], graph: ir.Graph) -> tuple[Repair, ...]:
    """Return the repairs with the names that their values have in another export of the model."""
    if not repairs:
        return ()
    by_key = {key: name for name, key in value_keys(Topology(graph)).items()}
    return tuple(replace(repair, value=by_key.get(repair.key, repair.value)) for repair in repairs)


def on_unrepaired(plain: Partition, partition: Partition, precisions: Mapping[str, Precision]) -> dict[str, Precision]:
    """Return an assignment for the units of the model before its repairs; what was split has its first part's."""
    home = partition.unit_of()
    found = {}
    for unit in plain.units:
        units = [home[name] for name in (*unit.anchors, *unit.nodes) if name in home]
        found[unit.name] = precisions.get(units[0].name, units[0].source) if units else unit.source
    return found


def needs_no_repairs(model: Model, precisions: Mapping[str, Precision]) -> bool:
    """Return whether a plan of a repaired model has float types alone, which gain nothing by repairs."""
    return isinstance(model, RepairedModel) and not any(precision.is_quantized for precision in precisions.values())
