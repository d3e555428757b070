"""What viewers show of a written model, and that runtimes take it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from autoprec.backends.ort import OrtBackend
from autoprec.backends.scheme import ORT_CPU
from autoprec.graph.model import check_model, load_model, to_bytes
from autoprec.lowering.lowerer import Lowerer
from autoprec.lowering.node_metadata import note_plan
from autoprec.precision import Precision
from autoprec.testing import tiny_data, tiny_model
from autoprec.units.find import find_units

FP16, FP32 = Precision.FP16, Precision.FP32


def noted(path: Path, plan: dict[str, Precision]) -> tuple[bytes, bytes]:
    """The tiny model lowered by a plan, before and after the plan was noted."""
    model = load_model(path)
    lowerer = Lowerer(model, find_units(model.graph), ORT_CPU, FP32)
    lowered = lowerer.lower(plan, None)
    before = to_bytes(lowered.ir)
    note_plan(lowered, lowerer.partition, plan)
    check_model(lowered.ir)
    return before, to_bytes(lowered.ir)


def test_each_node_of_a_unit_says_its_precision_and_the_rest_say_nothing(tmp_path: Path) -> None:
    _, after = noted(tiny_model(tmp_path), {"conv2": FP16})
    said = {n.name: {p.key: p.value for p in n.metadata_props} for n in onnx.load_from_string(after).graph.node}

    assert said["conv2"] == {"autoprec.planned": "fp16"}
    assert said["head"] == {"autoprec.planned": "fp32"}
    assert [name for name, keys in said.items() if "Cast" in name and keys] == []


def test_the_outputs_are_the_same_bits(tmp_path: Path) -> None:
    path = tiny_model(tmp_path)
    x = tiny_data(path, 3)["x"]
    outputs = []
    for data in noted(path, {"conv2": FP16}):
        with OrtBackend(threads=1).build(data, threads=1) as engine:
            outputs.append(engine.run({"x": x})["scores"])

    np.testing.assert_array_equal(*outputs)


def test_a_model_that_no_plan_changes_stays_as_it_was_read(tmp_path: Path) -> None:
    before, after = noted(tiny_model(tmp_path), {})

    assert before == after
