"""Which units keep a plan over the bound, on made-up losses."""

from __future__ import annotations

import pytest

from autoprec.plan import Assignment
from autoprec.precision import Precision
from autoprec.run.answer.blocking import Blocking, find_blocking

UNITS = [f"u{n}" for n in range(20)]
ALL_INT8 = dict.fromkeys(UNITS, Precision.INT8)


class Machine:
    """Adds up losses of lowered units, and counts how often it is asked."""

    def __init__(self, **losses: float) -> None:
        self.losses, self.calls = {**dict.fromkeys(UNITS, 0.0001), **losses}, 0

    def __call__(self, plan: Assignment) -> float:
        self.calls += 1
        return sum(self.losses[unit] for unit, precision in plan.items() if precision is not Precision.FP32)


def test_one_bad_unit_is_named_with_the_drop_without_it() -> None:
    machine = Machine(u7=0.5)
    found = find_blocking(ALL_INT8, machine.losses, machine, 0.01)

    assert found.units == ("u7",)
    assert found.text == "u7 blocks it: with it in FP32, the drop is 0.0019"


def test_units_whose_sensitivity_misled_are_taken_back() -> None:
    """Alone u1 is the noisiest, in the plan it costs nothing."""
    machine = Machine(u7=0.5, u9=0.4, u1=0.0)
    found = find_blocking(ALL_INT8, {**machine.losses, "u1": 9.0}, machine, 0.01)

    assert set(found.units) == {"u7", "u9"}


def test_many_small_losses_need_many_units_and_few_measurements() -> None:
    machine = Machine(**dict.fromkeys(UNITS, 0.01))
    found = find_blocking(ALL_INT8, machine.losses, machine, 0.055)

    assert len(found.units) == 15
    assert machine.calls <= 10
    assert found.text.startswith("u0, u1, u2, u3 and 11 more block it: with them in FP32, the drop is 0.05")


def test_where_nothing_but_fp32_meets_the_bound_all_lowered_units_block() -> None:
    machine = Machine(**dict.fromkeys(UNITS, 0.01))

    assert find_blocking(ALL_INT8, machine.losses, machine, 0.0) == Blocking(tuple(UNITS), 0.0)


def test_units_in_fp32_are_never_named() -> None:
    machine = Machine(u7=0.5)
    found = find_blocking({**ALL_INT8, "u3": Precision.FP32}, machine.losses, machine, 0.0)

    assert "u3" not in found.units


def test_without_time_the_noisiest_are_named_as_such() -> None:
    machine = Machine(u7=0.5, u2=0.4)
    found = find_blocking(ALL_INT8, machine.losses, machine, 0.01, out_of_time=lambda: True)

    assert machine.calls == 0
    assert found.drop is None
    assert found.text.startswith("by their sensitivities, u7, u2, ")


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13, 20])
def test_the_fewest_of_equally_bad_units_are_found(count: int) -> None:
    bad = UNITS[:count]
    machine = Machine(**dict.fromkeys(bad, 1.0))

    assert find_blocking(ALL_INT8, machine.losses, machine, 0.5).units == tuple(bad)
