"""A committed plan on another export of its model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.errors import BaselineError
from autoprec.gate.baseline import load_baseline
from autoprec.gate.mapping import check_interface, fit_plan
from autoprec.gate.rebuild import rebuild_plan
from autoprec.graph.interface import Interface, TensorSpec
from autoprec.graph.model import load_model
from autoprec.graph.topology import Topology
from autoprec.testing import tiny_data
from autoprec.units.foreign import units_of
from autoprec.units.keys import value_keys

from ..helpers.renamed_models import renamed
from .conftest import Tiny


def test_the_plan_of_a_renamed_model_computes_the_same(tiny: Tiny, tmp_path: Path) -> None:
    onnx.save(renamed(onnx.load(tiny.model), "other/"), tmp_path / "renamed.onnx")
    baseline = load_baseline(tiny.baseline)
    first, second = (rebuild_plan(path, baseline) for path in (tiny.model, tmp_path / "renamed.onnx"))
    feed = {"x": tiny_data(tiny.model, 16)["x"]}

    assert sorted(second.precisions.values()) == sorted(first.precisions.values())
    assert set(second.precisions).isdisjoint(first.precisions)
    with OrtBackend(1).build(first.lowered) as one, OrtBackend(1).build(second.lowered) as two:
        np.testing.assert_array_equal(one.run(feed)["scores"], two.run(feed)["scores"])


def test_a_rebuilt_model_is_the_runs_own_byte_for_byte(tiny: Tiny) -> None:
    found = rebuild_plan(tiny.model, load_baseline(tiny.baseline))
    assert found.lowered == (tiny.run / "model.onnx").read_bytes()
    assert found.notes == ()


def test_keys_of_values_survive_renaming_and_tell_values_apart(tiny: Tiny, tmp_path: Path) -> None:
    onnx.save(renamed(onnx.load(tiny.model), "other/"), tmp_path / "renamed.onnx")
    first, second = (value_keys(Topology(load_model(path).graph)) for path in (tiny.model, tmp_path / "renamed.onnx"))

    assert list(first.values()) == list(second.values())
    assert len(set(first.values())) == len(first)
    assert set(first) & set(second) == {"x", "scores"}


def spec(*shape: int | str | None, name: str = "x", dtype: str = "float32") -> TensorSpec:
    return TensorSpec(name, np.dtype(dtype), shape)


def test_names_of_open_dimensions_may_differ() -> None:
    check_interface(Interface((spec("N", 3),), ()), Interface((spec("batch", 3),), ()), "m.onnx")
    check_interface(Interface((spec("N", 3),), ()), Interface((spec(None, 3),), ()), "m.onnx")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (spec("N", 4), r"input 'x' was float32\[N, 3\] and is float32\[N, 4\]"),
        (spec("N", 3, 1), r"input 'x' was float32\[N, 3\] and is float32\[N, 3, 1\]"),
        (spec(8, 3), r"input 'x' was float32\[N, 3\] and is float32\[8, 3\]"),
        (spec("N", 3, dtype="int64"), r"input 'x' was float32\[N, 3\] and is int64\[N, 3\]"),
        (spec("N", 3, name="y"), r"input 'x' was float32\[N, 3\] and is not there"),
    ],
)
def test_another_interface_is_said_in_full(found: TensorSpec, words: str) -> None:
    with pytest.raises(BaselineError, match=rf"m\.onnx has another interface than the baseline's model: {words}"):
        check_interface(Interface((spec("N", 3),), ()), Interface((found,), ()), "m.onnx")


def test_a_new_output_is_another_interface() -> None:
    committed, found = Interface((), (spec("N"),)), Interface((), (spec("N"), spec("N", name="more")))
    with pytest.raises(BaselineError, match=r"output 'more' was not there and is float32\[N\]"):
        check_interface(committed, found, "m.onnx")


def test_moments_are_given_the_names_of_a_renamed_model(tiny: Tiny, tmp_path: Path) -> None:
    onnx.save(renamed(onnx.load(tiny.model), "other/"), tmp_path / "renamed.onnx")
    baseline, model = load_baseline(tiny.baseline), load_model(tmp_path / "renamed.onnx")
    assert baseline.plan.ranges is not None
    name = next(name for name in baseline.plan.ranges["ranges"] if name != "x")
    ranges = {**baseline.plan.ranges, "moments": {name: "of channels"}, "patches": {name: {"3x3": "of patches"}}}

    topology = Topology(model.graph)
    fitted = fit_plan(
        replace(baseline.plan, ranges=ranges), dict(baseline.evidence.values), topology, units_of(model), "renamed.onnx"
    ).plan.ranges

    assert fitted is not None
    assert list(fitted["patches"].values()) == [{"3x3": "of patches"}]
    assert list(fitted["patches"]) == list(fitted["moments"]) != [name]
