"""Where the error is: a unit that computes something else is found, and nothing else is blamed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from autoprec.backends.ort import OrtBackend
from autoprec.backends.ort_engine import OrtEngine
from autoprec.backends.ort_sessions import products_are_exact
from autoprec.backends.scheme import ORT_CPU, ORT_CPU_7BIT, TENSORRT, Scheme
from autoprec.data.dataset import Dataset
from autoprec.files.json import write_json
from autoprec.graph.model import to_bytes
from autoprec.precision import Precision
from autoprec.proof.diagnosis.job import DiagnosisJob
from autoprec.proof.diagnosis.measure import diagnose
from autoprec.proof.diagnosis.record import Diagnosis, Visibility, read_diagnosis

from ...helpers.lowering_bench import Bench, bench
from ...helpers.networks import BUILDERS

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8
MODEL = "resnet_block"


class RoundsDown(OrtBackend):
    """A runtime that rounds the codes of one value down instead of to the nearest."""

    def __init__(self, codes: str) -> None:
        super().__init__(threads=1)
        self._codes = codes

    def build(self, model: bytes, *, exact: bool = False, threads: int | None = None) -> OrtEngine:
        return super().build(model if exact else self._spoilt(model), exact=exact, threads=threads)

    def _spoilt(self, content: bytes) -> bytes:
        model = ir.from_proto(onnx.load_from_string(content))
        node = next(node for node in model.graph if node.outputs[0].name == self._codes)
        half = ir.node("Constant", [], {"value": ir.tensor(np.float32(0.5))})
        down = ir.node("Mul", [node.inputs[1], half.outputs[0]])
        less = ir.node("Sub", [node.inputs[0], down.outputs[0]])
        node.replace_input_with(0, less.outputs[0])
        model.graph.insert_before(node, [half, down, less])
        return to_bytes(model)


def job(one: Bench, plan: Mapping[str, Precision], backend: OrtBackend | None = None, **others: Any) -> DiagnosisJob:
    return DiagnosisJob(
        title="a plan",
        lowerer=one.lowerer,
        plan=plan,
        ranges=one.ranges,
        backend=backend or OrtBackend(threads=1),
        data=Dataset.from_arrays(one.feed),
        batch_size=8,
        **others,
    )


def cpu_bench(scheme: Scheme = ORT_CPU_7BIT) -> Bench:
    return bench(MODEL, scheme, FP32)


@pytest.fixture(name="healthy", scope="module")
def _healthy() -> Diagnosis:
    one = cpu_bench()
    return diagnose(job(one, one.uniform(INT8)))


def test_no_unit_parts_where_the_runtime_computes_what_the_plan_says(healthy: Diagnosis) -> None:
    assert healthy.first is None
    assert healthy.changed == ()
    assert healthy.disturbed == 0


def test_the_error_of_the_plan_is_that_of_its_simulation_at_the_outputs(healthy: Diagnosis) -> None:
    one = cpu_bench()
    simulated = one.sqnr(one.lower(one.uniform(INT8), simulate=True).ir)
    ((plan, _),) = healthy.outputs.values()

    assert plan.to_record()["sqnr_db"] == pytest.approx(simulated, abs=0.01)


def test_what_units_add_is_less_than_what_has_come_together_behind_them(healthy: Diagnosis) -> None:
    first, last = healthy.units[0], healthy.units[-1]

    assert first.plan.own == pytest.approx(first.plan.here)
    assert 0 < (last.plan.own or 0) < (last.plan.here or 0)


@pytest.mark.parametrize("index", [0, 1])
def test_a_unit_that_rounds_down_is_found_and_no_other(index: int) -> None:
    one = cpu_bench()
    unit = one.partition.units[index]

    found = diagnose(job(one, one.uniform(INT8), RoundsDown(f"{unit.outputs[0]}/q")))

    assert [row.unit for row in found.units if row.parts] == [unit.name]
    assert found.first is not None
    assert found.first.runtime.own is not None
    # One step in half of the codes that are not zero: three times the noise of rounding, of which a quarter is allowed.
    assert 8 * found.first.tolerance < found.first.runtime.own < 24 * found.first.tolerance


@pytest.mark.skipif(products_are_exact(), reason="this CPU adds 8-bit products exactly")
def test_the_first_unit_whose_8_bit_sums_saturate_is_found() -> None:
    one = Bench(BUILDERS[MODEL](), ORT_CPU, FP32)
    largest = {name: 20 * array for name, array in one.feed.items()}
    one.feed = {name: np.concatenate([array, largest[name]]) for name, array in one.feed.items()}

    assert diagnose(job(one, one.uniform(INT8))).first is not None
    assert diagnose(job(one, {})).first is None


def test_nothing_errs_where_nothing_is_lowered() -> None:
    found = diagnose(job(cpu_bench(), {}))

    assert {unit.plan.here for unit in found.units} == {0.0}
    assert found.worst is None
    assert found.first is None


def test_simulated_half_precision_and_pairs_at_readers_part_nowhere() -> None:
    one = bench(MODEL, TENSORRT, FP16)
    plan = one.uniform(INT8)

    found = diagnose(job(one, {**plan, one.partition.units[-1].name: FP16}))

    assert [unit.unit for unit in found.units if unit.runtime.own is None] == []
    assert found.first is None


def test_values_too_large_to_be_looked_at_together_give_the_same(
    healthy: Diagnosis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autoprec.proof.diagnosis.sides.CAPTURE_BYTES", 1)
    monkeypatch.setattr("autoprec.proof.diagnosis.measure.PORTION_BYTES", 1)
    one = cpu_bench()

    found = diagnose(job(one, one.uniform(INT8)))

    for row, other in zip(found.units, healthy.units, strict=True):
        assert row.plan.own == pytest.approx(other.plan.own)
        assert row.runtime.here == pytest.approx(other.runtime.here, abs=1e-9)


def test_a_runtime_that_is_elsewhere_leaves_the_error_of_the_plan() -> None:
    one, elsewhere = cpu_bench(), OrtBackend(threads=1)
    elsewhere.runs_here = False

    found = diagnose(job(one, one.uniform(INT8), elsewhere))

    assert found.visibility is Visibility.NOTHING
    assert found.worst is not None
    assert {unit.runtime.here for unit in found.units} == {None}


def test_a_model_in_a_file_is_what_the_runtime_runs() -> None:
    one = cpu_bench()
    plan = one.uniform(INT8)
    written = one.lower(plan).ir
    node = next(node for node in written.graph if node.op_type == "QuantizeLinear")
    scale = node.inputs[1]
    assert scale is not None
    assert scale.const_value is not None
    scale.const_value = ir.tensor(np.float32(4) * scale.const_value.numpy(), name=scale.name)

    found = diagnose(job(one, plan, written=written))

    assert found.first is not None
    assert found.first.unit == one.partition.units[0].name


def test_a_diagnosis_is_read_back_as_it_was_written(healthy: Diagnosis, tmp_path: Any) -> None:
    broken = replace(healthy.units[0], runtime=replace(healthy.units[0].runtime, here=math.inf))
    diagnosis = replace(healthy, units=(broken, *healthy.units[1:]))
    write_json(tmp_path / "diagnosis.json", diagnosis.to_record())

    assert read_diagnosis(tmp_path / "diagnosis.json") == diagnosis


class Shows(OrtBackend):
    """A runtime that shows what is written between kernels, except where kernels are fused."""

    def build_showing(self, model: bytes, values: Mapping[str, str]) -> OrtEngine:
        shown = ir.from_proto(onnx.load_from_string(model))
        made = {str(value.name): value for node in shown.graph for value in node.outputs}
        for name in list(values)[1:]:
            assert made[name].producer().name == values[name]  # type: ignore[union-attr]
            shown.graph.outputs.append(made[name])
        return self.build(to_bytes(shown))


def test_debug_tensors_leave_the_engine_as_it_is_and_units_without_one_are_named(healthy: Diagnosis) -> None:
    one = cpu_bench()

    found = diagnose(job(one, one.uniform(INT8), Shows(threads=1)))

    assert found.visibility is Visibility.DEBUG_TENSORS
    assert found.hidden == (one.partition.units[0].name,)
    assert found.units[1].runtime.own is None  # what it read is not known
    assert found.units[2].runtime.here == pytest.approx(healthy.units[2].runtime.here, abs=1e-9)
