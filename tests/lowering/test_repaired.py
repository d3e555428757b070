"""A model with repairs: INT8 gains by them, plans in float types are written without them, and names may change."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from autoprec.backends.scheme import ORT_CPU, TENSORRT, Scheme
from autoprec.errors import PlanError
from autoprec.graph.model import check_model, to_bytes
from autoprec.graph.topology import Topology
from autoprec.lowering.repaired import RepairedModel, located, repaired, repairs_fingerprint, try_repairs
from autoprec.plan import Plan, Repair, RepairKind, load_plan
from autoprec.precision import Precision
from autoprec.units.keys import value_keys

from ..helpers.lowering_bench import Bench, loaded, ops
from ..helpers.renamed_models import renamed
from ..helpers.uneven_networks import SPREAD, uneven, unlike


def repair(proto: onnx.ModelProto, kind: RepairKind, value: str = "v_out") -> Repair:
    factors = () if kind is RepairKind.SPLIT else tuple(SPREAD.tolist())
    return Repair(kind=kind, value=value, key=value_keys(Topology(loaded(proto).graph))[value], factors=factors)


@pytest.mark.parametrize("scheme", [TENSORRT, ORT_CPU])
@pytest.mark.parametrize(
    ("proto", "kind"), [(uneven(), RepairKind.EQUALISE), (unlike(), RepairKind.SPLIT)], ids=["channels", "concat"]
)
def test_uniform_int8_loses_less_with_the_repair(proto: onnx.ModelProto, kind: RepairKind, scheme: Scheme) -> None:
    found = []
    for repairs in ((), (repair(proto, kind),)):
        one = Bench(proto, scheme, repairs=repairs)
        lowered = one.lower(one.uniform(Precision.INT8), simulate=True)
        check_model(one.lower(one.uniform(Precision.INT8)).ir)
        found.append(one.sqnr(lowered.ir))
    assert found[1] > found[0] + 3


def test_a_plan_in_float_types_is_written_without_repairs() -> None:
    plain, repaired_ = (Bench(unlike(), repairs=r) for r in ((), (repair(unlike(), RepairKind.SPLIT),)))
    for precision in (Precision.FP16, Precision.FP32):
        models = [to_bytes(one.lower(one.uniform(precision)).ir) for one in (plain, repaired_)]
        assert models[0] == models[1]
    assert len(ops(repaired_.lower(repaired_.uniform(Precision.INT8)).ir, "Conv")) == 4


def test_a_repair_that_does_not_fit_says_why_and_changes_nothing() -> None:
    model = loaded(uneven())
    other = Repair(kind=RepairKind.SPLIT, value="v_out", key="")
    with pytest.raises(PlanError, match=r"'v_out' cannot be repaired: .*Concat"):
        repaired(model, [other])
    found, refused = try_repairs(model, [other, repair(uneven(), RepairKind.EQUALISE)])
    assert list(refused) == ["v_out"]
    assert isinstance(found, RepairedModel)
    assert [each.kind for each in found.repairs] == [RepairKind.EQUALISE]
    assert found.dear == set()
    assert try_repairs(loaded(uneven("SiLU")), found.repairs)[0].dear == {"v_out"}  # type: ignore[attr-defined]
    assert found.weights_fingerprint == model.weights_fingerprint


def test_repairs_belong_to_what_ranges_depend_on() -> None:
    model, one = loaded(uneven()), repair(uneven(), RepairKind.EQUALISE)
    other = Repair(kind=one.kind, value=one.value, key=one.key, factors=(2.0, *one.factors[1:]))
    prints = [repairs_fingerprint(repaired(model, list(each))) for each in ((), (one,), (other,))]
    assert prints[0] == []
    assert prints[1] != prints[2]


def test_a_repair_is_found_in_an_export_with_other_names() -> None:
    one = repair(uneven(), RepairKind.EQUALISE)
    other = loaded(renamed(uneven(), "again/"))
    (found,) = located([one], other.graph)
    assert found.value != one.value
    assert isinstance(repaired(other, [found]), RepairedModel)


def test_a_plan_file_keeps_repairs_to_the_last_digit(tmp_path: Path) -> None:
    one = repair(uneven(), RepairKind.EQUALISE)
    plan = Plan(
        units={},
        carrier=Precision.FP16,
        scheme="tensorrt",
        backend="tensorrt",
        fingerprints={},
        evidence={},
        ranges=None,
        repairs=(one,),
    )
    plan.save(tmp_path / "plan.json")
    assert load_plan(tmp_path / "plan.json").repairs == (one,)


def test_a_convolution_that_was_split_keeps_its_name_and_its_unit() -> None:
    split = repaired(loaded(unlike()), [repair(unlike(), RepairKind.SPLIT)])
    assert isinstance(split, RepairedModel)
    names = {str(node.name) for node in split.graph if isinstance(node, ir.Node)}
    assert "reader" in names
    assert set(split.products["v_out"]) <= names
