"""What a user calls weights, values and nodes makes no difference: nothing is found by what a name looks like."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autoprec.backends.ort import OrtBackend
from autoprec.backends.scheme import ORT_CPU, SCHEMES, TENSORRT, Scheme
from autoprec.calibrate.choose import calibrate_model
from autoprec.data.dataset import Dataset
from autoprec.graph.model import check_model
from autoprec.metrics.metric import load_metric
from autoprec.precision import Precision
from autoprec.ranges.table import RangeTable
from autoprec.sensitivity.job import SensitivityJob
from autoprec.sensitivity.measure import sensitivities_of
from autoprec.sensitivity.table import Sensitivity

from ..helpers.hostile_names import with_hostile_names
from ..helpers.lowering_bench import Bench, bench, run
from ..helpers.networks import BUILDERS

FP32, FP16 = Precision.FP32, Precision.FP16
BACKEND = OrtBackend(threads=1)
FEW = settings(max_examples=2, suppress_health_check=[HealthCheck.too_slow], deadline=None)


def plans(one: Bench) -> list[list[Precision]]:
    """A precision for each unit, in the order of the units: uniform plans and mixed ones."""
    by_name = [one.uniform(p) for p in Precision] + [one.random_plan(seed) for seed in (1, 2)]
    return [[plan[unit.name] for unit in one.partition.units] for plan in by_name]


def named(one: Bench, plan: list[Precision]) -> dict[str, Precision]:
    return dict(zip([unit.name for unit in one.partition.units], plan, strict=True))


@pytest.mark.parametrize("name", BUILDERS)
@given(seed=st.integers(0, 10**6), scheme=st.sampled_from(sorted(SCHEMES)))
@FEW
def test_lowering_computes_the_same_whatever_things_are_called(name: str, seed: int, scheme: str) -> None:
    plain = bench(name, SCHEMES[scheme], FP16)
    hostile = Bench(with_hostile_names(plain.proto, seed), plain.scheme, plain.carrier)

    for plan in plans(plain):
        right = run(plain.lower(named(plain, plan), simulate=True).ir, plain.feed)
        found = run(hostile.lower(named(hostile, plan), simulate=True).ir, plain.feed)
        for output, array in right.items():
            np.testing.assert_array_equal(found[output], array, err_msg=f"{output} under {plan}")
        check_model(hostile.lower(named(hostile, plan)).ir)


def losses(one: Bench) -> list[Sensitivity]:
    """The sensitivities of all units, in their order."""
    job = SensitivityJob(
        lowerer=one.lowerer,
        possible=one.possible,
        backend=BACKEND,
        dataset=Dataset.from_arrays(one.feed),
        metric=load_metric("sqnr"),
        ranges=one.ranges,
        batch_size=8,
    )
    return list(sensitivities_of(job, tuple(Precision)).entries.values())


@pytest.mark.parametrize(("scheme", "carrier"), [(ORT_CPU, FP32), (TENSORRT, FP16)])
@pytest.mark.parametrize("name", ["mlp", "resnet_block", "concat_block", "conv_transpose_block", "mha_block"])
def test_sensitivities_are_the_same_whatever_things_are_called(name: str, scheme: Scheme, carrier: Precision) -> None:
    plain = bench(name, scheme, carrier)
    hostile = Bench(with_hostile_names(plain.proto, len(name)), scheme, carrier)

    assert losses(hostile) == losses(plain)


def spans(table: RangeTable) -> tuple[object, ...]:
    """What a table says, without names."""
    return table.method, list(table.clipped.values()), sorted(table.chosen.values()), dict(table.evidence)


@pytest.mark.parametrize("name", ["mlp", "depthwise_block"])
def test_ranges_are_the_same_whatever_things_are_called(name: str) -> None:
    plain = bench(name, ORT_CPU, FP32)
    hostile = Bench(with_hostile_names(plain.proto, len(name)), ORT_CPU, FP32)
    tables = [calibrate_model(one.calibration(BACKEND)) for one in (plain, hostile)]

    assert spans(tables[1]) == spans(tables[0])


def test_the_names_are_hostile() -> None:
    """Else the tests above would show nothing."""
    found = set()
    for seed in range(40):
        proto = with_hostile_names(BUILDERS["mlp"](), seed)
        values = [tensor.name for tensor in proto.graph.initializer] + [n.output[0] for n in proto.graph.node]
        found |= {(a[len(b) :]) for a in values for b in [*values, "x"] if a != b and a.startswith(b)}

    assert {"/scale", "/raw", "/exact", "/behind"} <= found
