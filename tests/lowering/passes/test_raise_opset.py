"""Models raised to the opset that a plan needs."""

from __future__ import annotations

import pytest

from autoprec.errors import ModelError
from autoprec.lowering.passes import raise_opset as module
from autoprec.lowering.passes.raise_opset import raise_opset

from ...helpers.lowering_bench import loaded, run, sqnr_db
from ...helpers.networks import BUILDERS, random_feed


def test_a_model_that_is_new_enough_is_returned_itself() -> None:
    model = loaded(BUILDERS["mlp"]()).ir

    assert raise_opset(model, 17) is model
    assert raise_opset(model, 13) is model


@pytest.mark.parametrize("target", [19, 22])
def test_raising_keeps_names_and_results(target: int) -> None:
    for name in ("resnet_block", "mha_block", "pool_block", "if_body"):
        proto = BUILDERS[name]()
        model = loaded(proto).ir
        raised = raise_opset(model, target)
        feed = random_feed(proto, 2)

        assert raised.opset_imports[""] == target
        assert {n.name for n in model.graph} <= {n.name for n in raised.graph}
        # Runtimes have other kernels for other opsets: the order of sums may change, nothing else.
        assert sqnr_db(run(model, feed), run(raised, feed)) > 110


def test_a_refusal_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("no adapter for Foo")

    monkeypatch.setattr(module.onnx.version_converter, "convert_version", refuse)
    with pytest.raises(ModelError, match=r"from opset 17 to 22 .* refused: no adapter for Foo; export it at opset 22"):
        raise_opset(loaded(BUILDERS["mlp"]()).ir, 22)
