"""The plan that says what ran."""

from __future__ import annotations

from autoprec.precision import Precision
from autoprec.proof.as_it_ran import plan_as_it_ran
from autoprec.proof.verification import UnitStatus, Verification

from .test_verification import judged

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8


def test_only_units_that_ran_otherwise_and_may_do_so_are_changed() -> None:
    """Unit "a" ran as asked, "b" in FP16, "c" in FP32 that is not offered, "d" was merged, and "e" is not known."""
    verification = Verification(
        (
            judged("a", INT8, INT8, UnitStatus.HONOURED),
            judged("b", INT8, FP16, UnitStatus.NOT_HONOURED),
            judged("c", INT8, FP32, UnitStatus.NOT_HONOURED),
            judged("d", FP16, INT8, UnitStatus.FUSED),
            judged("e", FP16, None, UnitStatus.GONE),
        )
    )
    plan = {"a": INT8, "b": INT8, "c": INT8, "d": FP16, "e": FP16}

    found = plan_as_it_ran(verification, plan, dict.fromkeys(plan, (FP16, INT8)))

    assert found == {**plan, "b": FP16}
