"""Size, precision as it ran, and what changed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from autoprec.errors import UsageError
from autoprec.gate.baseline import load_baseline
from autoprec.gate.limits import Limits
from autoprec.gate.shipped import changes, judge_precision, judge_size
from autoprec.gate.verdict import Status
from autoprec.precision import Precision
from autoprec.proof.verification import UnitRan, UnitStatus, Verification

from .conftest import Tiny


def ran(
    unit: str, found: Precision | None, *, refused: bool = False, status: UnitStatus = UnitStatus.HONOURED
) -> UnitRan:
    """A heavy unit that was asked for in INT8."""
    return UnitRan(
        unit=unit,
        requested=Precision.INT8,
        written=Precision.INT8,
        ran=found,
        status=status,
        heavy=True,
        macs=10,
        layer="layer",
        refused=refused,
    )  # type: ignore[arg-type]


def then(*units: UnitRan) -> dict[str, object]:
    """The committed record of such units."""
    return Verification(units).to_record()


def test_growth_beyond_the_bound_is_worse() -> None:
    assert judge_size(1000, 1100, Limits(max_size=0.1)).status is Status.FINE
    found = judge_size(1000, 1101, Limits(max_size=0.1))
    assert found.status is Status.WORSE
    assert found.sentence.startswith("the lowered model has 1,101 bytes, 1.101 of the baseline's, more than the +10.0%")


def test_both_bounds_of_the_size_hold() -> None:
    assert judge_size(1000, 1050, Limits(max_size=0.1, max_bytes=1040)).status is Status.WORSE
    assert judge_size(1000, 1050, Limits(max_size=0.1, max_bytes=1060)).allowed == "+10.0% and 1,060 bytes"
    assert judge_size(1000, 900, Limits(max_size=0.0)).status is Status.FINE


def test_a_unit_that_is_no_longer_honoured_is_a_failure_of_its_own() -> None:
    before = then(ran("a", Precision.INT8), ran("b", Precision.INT8))
    now = Verification(
        (ran("a", Precision.INT8), ran("b", Precision.FP32, refused=True, status=UnitStatus.NOT_HONOURED))
    )
    found = judge_precision(before, {}, now)

    assert found.status is Status.NOT_HONOURED
    assert found.sentence.startswith(
        "1 unit no longer runs in the precision of the plan: the runtime did not honour it"
    )
    assert found.details[0].startswith("b was asked for in int8 but runs in fp32")


def test_a_unit_that_never_was_honoured_is_no_regression() -> None:
    refused = ran("b", Precision.FP32, refused=True, status=UnitStatus.NOT_HONOURED)
    found = judge_precision(then(refused), {}, Verification((refused,)))

    assert found.status is Status.FINE
    assert found.details[0].endswith("(as at the time of the baseline)")


def test_a_renamed_unit_is_known_by_its_old_name() -> None:
    refused = ran("old", Precision.FP32, refused=True, status=UnitStatus.NOT_HONOURED)
    now = Verification((replace(refused, unit="new"),))

    assert judge_precision(then(refused), {"new": "old"}, now).status is Status.FINE
    assert judge_precision(then(refused), {}, now).status is Status.NOT_HONOURED


def test_a_unit_of_which_nothing_can_be_told_any_more_is_doubtful() -> None:
    fused = ran("a", None, status=UnitStatus.FUSED)

    assert judge_precision(then(ran("a", Precision.INT8)), {}, Verification((fused,))).status is Status.CANNOT_JUDGE
    assert judge_precision(then(fused), {}, Verification((fused,))).status is Status.FINE


def test_changes_name_what_differs_and_nothing_else(tiny: Tiny) -> None:
    evidence = load_baseline(tiny.baseline).evidence
    other = replace(
        evidence,
        model={**evidence.model, "weights": "abc"},
        machine={**evidence.machine, "describe": {**evidence.machine["describe"], "driver": "580"}},
    )

    assert changes(evidence, evidence) == ()
    assert changes(evidence, other) == (f"weights: {evidence.model['weights']} -> abc", "driver: not there -> 580")


@pytest.mark.parametrize("name", ["max_drop", "max_slowdown", "max_size", "max_range_bits"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_bound_must_be_a_number_from_0_on(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"--{name.replace('_', '-')} must be a number from 0 on"):
        Limits(**{name: value})
