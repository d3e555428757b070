"""Which part of refused plans the runtime cannot do."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from autoprec.precision import Precision
from autoprec.study.guide.refusals import forbidden

FP32, INT8 = Precision.FP32, Precision.INT8
UNITS = [f"u{n}" for n in range(24)]


def plan(*low: str) -> dict[str, Precision]:
    return {unit: INT8 if unit in low else FP32 for unit in UNITS}


@given(st.sampled_from(UNITS))
def test_a_bad_part_is_found_by_halves(culprit: str) -> None:
    """Among 24 units in at most six refusals: everything but what is forbidden goes into the next plan."""
    refused, built = [plan(*UNITS)], [plan()]
    for _ in range(12):
        avoided = forbidden(refused, built)
        if avoided == {(culprit, INT8)}:
            break
        tried = plan(*(unit for unit in UNITS if (unit, INT8) not in avoided))
        (refused if tried[culprit] is INT8 else built).append(tried)

    assert forbidden(refused, built) == {(culprit, INT8)}
    assert len(refused) <= 6


@given(st.sets(st.sampled_from(UNITS), min_size=2, max_size=3))
def test_several_bad_parts_are_found_one_after_the_other(culprits: set[str]) -> None:
    refused, built = [plan(*UNITS)], [plan()]
    for _ in range(60):
        avoided = forbidden(refused, built)
        tried = plan(*(unit for unit in UNITS if (unit, INT8) not in avoided))
        if not culprits & {unit for unit, p in tried.items() if p is INT8}:
            built.append(tried)
        elif tried not in refused:
            refused.append(tried)

    cleared = {unit for p in built for unit, precision in p.items() if precision is INT8}
    assert cleared
    assert not cleared & culprits


def test_a_combination_forbids_nothing_by_itself() -> None:
    assert forbidden([plan("u0", "u1")], [plan("u0"), plan("u1")]) == frozenset()


def test_without_refusals_nothing_is_forbidden() -> None:
    assert forbidden([], [plan("u0")]) == frozenset()


def test_a_pair_that_the_runtime_named_is_bad_at_once_whatever_was_built() -> None:
    assert forbidden([plan("u3", "u4", "u5"), {"u4": INT8}], [plan("u4"), plan()]) == {("u4", INT8)}
