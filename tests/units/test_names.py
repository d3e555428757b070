"""Names of units by the paths of modules that torch's exporter writes into the nodes."""

from __future__ import annotations

from dataclasses import replace

import onnx
import onnx_ir as ir

from autoprec.graph.preparation import prepare
from autoprec.units.find import find_units
from autoprec.units.homes import homes_of, renamed
from autoprec.units.records import Partition, Unit
from tests.helpers.onnx_builder import Builder

PATHS = {
    "front": ["", "mul"],
    "stem": ["", "stem", "stem.1", "batch_norm"],  # a folded normalisation leaves its own path
    "body": ["", "body", "body.0", "conv2d_1"],
    "again": ["", "body", "body.0", "conv2d_2"],
    "head": ["", "head", "linear"],
}


def exported(*, front: bool = False, number: int = 0, paths: bool = True) -> onnx.ModelProto:
    """A network whose nodes are numbered as torch does, perhaps with one more operator in front."""
    b = Builder()
    x = b.input("x", ["N", 3, 8, 8])
    calls = ["stem", "body", "again"]
    x = b.node("Conv", "front", [x, b.weight("k", 3, 3, 1, 1)]) if front else x
    for name, cin in zip(calls, (3, 8, 8), strict=True):
        weight = "stem.0.weight" if name == "stem" else f"val_{name}"
        x = b.node("Relu", f"{name}_r", [b.node("Conv", name, [x, b.weight(weight, 8, cin, 1, 1)])])
    pooled = b.node("Flatten", "flat", [b.node("GlobalAveragePool", "pool", [x])])
    b.output(b.node("MatMul", "head", [pooled, b.weight("val_head", 8, 4)]), ["N", 4])
    proto = b.model()
    for index, node in enumerate(proto.graph.node):
        scopes = PATHS.get(node.name.removesuffix("_r"))
        node.name = f"node_{index + number}"
        if scopes is not None and paths:
            node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=repr(scopes))
    return proto


def units_of(proto: onnx.ModelProto) -> Partition:
    return find_units(prepare(ir.from_proto(proto)).graph)


def names(proto: onnx.ModelProto) -> list[str]:
    return [unit.name for unit in units_of(proto).units]


def test_units_are_called_by_their_modules_and_several_of_one_module_by_their_kind() -> None:
    assert names(exported()) == ["stem.0", "body.0/conv", "body.0/conv_1", "node_6", "head"]


def test_an_operator_in_front_shifts_no_name() -> None:
    before, after = names(exported()), names(exported(front=True, number=1))

    assert after[0] == "/conv"
    assert [name for name in after[1:] if "node" not in name] == [name for name in before if "node" not in name]


def test_a_unit_answers_to_its_name_its_nodes_and_their_modules() -> None:
    stem = units_of(exported()).units[0]

    assert all(stem.answers_to(name.__eq__) for name in ("stem.0", "stem.1", "node_0"))
    assert not stem.answers_to("body.0".__eq__)


def test_a_plan_with_earlier_names_is_read_by_keys_and_nodes() -> None:
    found, earlier = units_of(exported()), units_of(exported(paths=False))
    keys = {unit.name: unit.key for unit in earlier.units}
    homes = homes_of(found, keys)

    assert homes == {new.name: old.name for new, old in zip(found.units, earlier.units, strict=True)}
    assert renamed(found, homes).edges == earlier.edges
    assert homes_of(found, dict.fromkeys(keys, "another key"))["stem.0"] == "node_0"
    assert homes_of(replace(found, units=(_strange(found.units[0]),)), keys) == {}


def _strange(unit: Unit) -> Unit:
    return replace(unit, name="new", key="new", nodes=("new",), anchors=("new",))
