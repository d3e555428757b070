"""Values behind operators of another domain have the type that they have in a run."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from autoprec.graph.model import Model, load_model
from autoprec.units.find import find_units
from autoprec.units.foreign import complete_types_in_run, units_of

from ..helpers.networks import mlp, write
from ..helpers.onnx_builder import Builder

FOREIGN = "com.microsoft"


def _foreign_chain() -> onnx.ModelProto:
    """Nothing typed is beside the nodes in the middle, and their one constant, an exponent, may be of any type."""
    b = Builder()
    x = b.node("MatMul", "first", [b.input("x", ["N", 16]), b.weight("first.w", 16, 16)])
    x = b.node("QuickGelu", "before", [x], domain=FOREIGN)
    x = b.node("Softmax", "middle", [x])
    x = b.node("QuickGelu", "behind", [x], domain=FOREIGN)
    b.output(b.node("MatMul", "last", [x, b.weight("last.w", 16, 16)]), ["N", 16])
    model = b.model(check=False)
    model.opset_import.append(onnx.helper.make_opsetid(FOREIGN, 1))
    return model


@pytest.fixture(name="chain")
def _chain(tmp_path: Path) -> Model:
    return load_model(write(_foreign_chain(), tmp_path))


def test_what_lies_between_foreign_operators_becomes_a_unit(chain: Model) -> None:
    assert "type is not known" in find_units(chain.graph).reasons["middle"]

    found = units_of(chain)

    assert {node for unit in found.units for node in unit.nodes} == {"first", "middle", "last"}
    assert set(found.reasons) == {"before", "behind"}


def test_a_plan_of_an_earlier_version_keeps_its_units(chain: Model) -> None:
    names = [unit.name for unit in find_units(chain.graph).units]

    assert [unit.name for unit in units_of(chain, names).units] == names


def test_a_model_whose_types_are_known_is_not_run(tmp_path: Path) -> None:
    assert not complete_types_in_run(load_model(write(mlp(), tmp_path)))


def test_an_operator_that_no_runtime_knows_leaves_the_types_unknown(tmp_path: Path) -> None:
    model = _foreign_chain()
    for node in model.graph.node:
        node.op_type = node.op_type.replace("QuickGelu", "NobodyKnowsIt")
    loaded = load_model(write(model, tmp_path))

    assert not complete_types_in_run(loaded)
    assert "type is not known" in units_of(loaded).reasons["middle"]
