"""Why units stay in a high precision."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from autoprec.calibrate.drift import ValueDrift
from autoprec.precision import Precision
from autoprec.report.advice import Cause, UnitFigures, advice_of

QUIET = ValueDrift(-1.0, 1.0, 0.0, 1.5)
PLAIN = UnitFigures(
    planned=Precision.FP32,
    lower=Precision.INT8,
    values={"x": (1.0, 1.0, QUIET)},
    noise=1e-6,
    allowed=1e-3,
    planned_ms=2.0,
    lower_ms=1.0,
)


def with_value(peak: float = 1.0, kept: float = 1.0, drift: ValueDrift = QUIET) -> UnitFigures:
    return replace(PLAIN, values={"calm": (1.0, 1.0, QUIET), "x": (peak, kept, drift)})


@pytest.mark.parametrize(
    ("unit", "cause", "figure"),
    [
        (
            replace(with_value(peak=7e4), lower=Precision.FP16),
            Cause.OVERFLOW,
            "x reaches 70,000; the largest FP16 number is 65,504",
        ),
        (replace(PLAIN, lower_ms=2.5), Cause.NO_GAIN, "2.5 ms in INT8, 2 ms in FP32"),
        (with_value(drift=ValueDrift(-1.0, 1.5, 0.02, 1.0)), Cause.DRIFT, "1.50 times its calibrated range; 2.00%"),
        (with_value(kept=0.4), Cause.SATURATION, "INT8 keeps 40% of the range of x"),
        (
            with_value(drift=ValueDrift(-1.0, 1.0, 0.0, 40.0)),
            Cause.OUTLIER,
            "one channel of x is on average 40 times as large",
        ),
        (replace(PLAIN, noise=8e-4), Cause.OWN_ERROR, "noise / signal 0.0008; the whole answer has 0.001"),
        (PLAIN, Cause.ACCUMULATED, "alone it adds noise / signal 1e-06; all units of the answer together have 0.001"),
    ],
)
def test_each_cause_is_told_with_its_figure(unit: UnitFigures, cause: Cause, figure: str) -> None:
    advice = advice_of(unit)

    assert advice.cause is cause
    assert figure in advice.figure
    assert advice.remedy


def test_what_was_not_measured_is_no_cause() -> None:
    bare = UnitFigures(planned=Precision.FP32, lower=Precision.INT8, values={"x": (1.0, 1.0, None)})

    assert advice_of(bare) == advice_of(replace(bare, noise=math.nan))
    assert advice_of(bare).cause is Cause.UNKNOWN
    assert advice_of(replace(bare, total=1e-3)).cause is Cause.ACCUMULATED
    assert advice_of(replace(bare, total=1e-3)).figure == "it was not measured alone"


def test_fp16_neither_clips_nor_saturates() -> None:
    unit = replace(with_value(kept=0.1, drift=ValueDrift(-9.0, 9.0, 0.5, 99.0)), lower=Precision.FP16)

    assert advice_of(unit).cause is Cause.ACCUMULATED


@pytest.mark.parametrize(("halves", "cause"), [(True, Cause.OVERFLOW), (False, Cause.ACCUMULATED)])
def test_fp16_overflows_only_where_it_would_carry_the_value(halves: bool, cause: Cause) -> None:
    assert advice_of(replace(with_value(peak=7e4), halves=halves)).cause is cause


def test_an_outlier_channel_is_named_before_the_saturation_that_follows_from_it() -> None:
    assert advice_of(with_value(kept=0.1, drift=ValueDrift(-1.0, 1.0, 0.0, 40.0))).cause is Cause.OUTLIER


def test_an_error_comes_before_missing_gain_only_where_the_unit_errs_as_much_as_others() -> None:
    slow = replace(with_value(kept=0.4), lower_ms=2.5, mean=1e-7)
    loud, quiet = advice_of(slow), advice_of(replace(slow, mean=1e-5))

    assert loud.cause is Cause.SATURATION
    assert loud.figure.endswith("; nor is it faster: 2.5 ms in INT8, 2 ms in FP32")
    assert quiet.cause is Cause.NO_GAIN


def test_without_an_answer_in_lower_precision_a_unit_is_compared_with_what_all_units_add() -> None:
    unit = replace(PLAIN, allowed=math.nan, noise=3e-3, total=4e-3)

    assert advice_of(unit).cause is Cause.OWN_ERROR
    assert advice_of(unit).figure == "alone it adds noise / signal 0.003, 75% of what all units add in INT8"
