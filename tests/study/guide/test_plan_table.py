"""Plans as rows of numbers."""

from __future__ import annotations

import numpy as np

from autoprec.precision import Precision
from autoprec.study.guide.plan_table import PlanTable, kinds_of, plan_key

FP32, INT8 = Precision.FP32, Precision.INT8
PLANS = [{"b": FP32, "a": INT8}, {"b": INT8, "a": INT8}]


def test_a_table_gives_the_plans_back_with_their_keys() -> None:
    table = PlanTable.of(("b", "a"), PLANS)

    assert list(table) == PLANS
    assert list(table.keys()) == [plan_key(plan) for plan in PLANS]
    assert list(table.taken([1])) == PLANS[1:]
    assert list(table[1:]) == PLANS[1:]


def test_the_key_of_a_plan_does_not_depend_on_the_order_of_its_units() -> None:
    assert plan_key({"a": INT8, "b": FP32}) == plan_key(PLANS[0]) != plan_key(PLANS[1])


def test_rows_of_equal_codes_are_of_one_kind_whether_codes_are_few_or_many() -> None:
    codes = np.array([3, 0, 3, 7])
    for most in (8, 1 << 30):
        one, kinds = kinds_of(codes, most)

        assert (codes[one][kinds] == codes).all()
        assert len(one) == 3
