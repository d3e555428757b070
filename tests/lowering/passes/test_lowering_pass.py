"""Every pass is called with the model of its editor, and leaves each name there once."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir
import pytest

from autoprec.lowering.editor import GraphEditor
from autoprec.lowering.passes.isolate_floats import IsolateFloatsPass
from autoprec.lowering.passes.pack_constants import PackConstantsPass

from ...helpers.lowering_bench import loaded, node_named
from ...helpers.networks import BUILDERS


def same_value(model: ir.Model) -> None:
    node_named(model, "relu").outputs[0].name = "x"


def same_node(model: ir.Model) -> None:
    node_named(model, "relu").name = "fc1"


@pytest.mark.parametrize(("spoil", "text"), [(same_value, "two values are called 'x'"), (same_node, "two nodes")])
def test_a_name_that_is_there_twice_is_found(spoil: Callable[[ir.Model], None], text: str) -> None:
    model = loaded(BUILDERS["mlp"]()).ir
    spoil(model)
    with pytest.raises(ir.passes.PostconditionError, match=text):
        IsolateFloatsPass(GraphEditor(model))(model)


def test_the_editor_must_be_the_models() -> None:
    model, other = (loaded(BUILDERS["mlp"]()).ir for _ in range(2))
    with pytest.raises(ir.passes.PreconditionError, match="the editor must be the one of the model"):
        PackConstantsPass(GraphEditor(other))(model)
