"""Time of kernels that convert goes to the boundary that they stand on, or to the unit that they stay inside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoprec.backends.sharing import Kernel, share_out

UNITS = ("A", "B", "C")


def kernel(name: str, reads: str, writes: str, unit: str = "", *, converts: bool = True) -> Kernel:
    units = {unit: 1.0} if unit else {}
    return Kernel(
        name=name, units=units, reads=tuple(reads.split()), writes=tuple(writes.split()), converts=converts and not unit
    )


def shared(*kernels: Kernel, **times: float) -> tuple[dict[str, float], dict[tuple[str, str], float], list[str]]:
    found = share_out([(one, times[one.name]) for one in kernels if one.name in times], kernels)
    return dict(found.unit_ms), dict(found.boundary_ms), [name for name, _ in found.rest]


def test_a_conversion_is_of_the_boundary_that_it_stands_on() -> None:
    chain = kernel("a", "x", "1", "A"), kernel("cast", "1", "2"), kernel("b", "2", "y", "B")

    assert shared(*chain, cast=3.0) == ({}, {("A", "B"): 3.0}, [])


def test_a_conversion_between_kernels_of_one_unit_is_its_own() -> None:
    chain = kernel("a", "x", "1", "A"), kernel("cast", "1", "2"), kernel("also_a", "2", "y", "A")

    assert shared(*chain, a=1.0, cast=3.0) == ({"A": 4.0}, {}, [])


def test_a_conversion_of_constants_is_of_the_unit_that_reads_them() -> None:
    """And not of what enters the network."""
    chain = kernel("weights", "", "w"), kernel("a", "x w", "y", "A")

    assert shared(*chain, weights=2.0) == ({"A": 2.0}, {}, [])


def test_what_one_conversion_serves_is_shared_equally() -> None:
    """Of four pairs one stays inside a unit."""
    fork = (
        kernel("a", "x", "1", "A"),
        kernel("c", "x", "2", "C"),
        kernel("join", "1 2", "3"),
        kernel("b", "3", "4", "B"),
        kernel("also_a", "3", "5", "A"),
    )

    assert shared(*fork, join=8.0) == ({"A": 2.0}, {("A", "B"): 2.0, ("C", "B"): 2.0, ("C", "A"): 2.0}, [])


def test_the_network_begins_and_ends_outside_all_units() -> None:
    ends = kernel("in", "x", "1"), kernel("a", "1", "2", "A"), kernel("out", "2", "y")

    assert shared(*ends, **{"in": 1.0, "out": 2.0}) == ({}, {("", "A"): 1.0, ("A", ""): 2.0}, [])


def test_arithmetic_of_no_unit_is_listed_and_looked_through() -> None:
    chain = (
        kernel("a", "x", "1", "A"),
        kernel("cast", "1", "2"),
        kernel("slice", "2", "3", converts=False),
        kernel("b", "3", "y", "B"),
    )

    assert shared(*chain, cast=1.0, slice=2.0) == ({}, {("A", "B"): 1.0}, ["slice"])


def test_without_tensors_the_runtimes_own_words_count() -> None:
    lone = Kernel(name="reformat to a", units={}, converts=True, otherwise=(("", "A"),))

    assert share_out([(lone, 4.0)], [lone]).boundary_ms == {("", "A"): 4.0}


@given(st.data())
def test_no_time_is_lost_and_none_is_made(data: st.DataObject) -> None:
    names = st.lists(st.sampled_from("123456"), max_size=3).map(tuple)
    shares = st.sampled_from([{}, {"A": 1.0}, {"B": 1.0}, {"A": 0.25, "C": 0.75}])
    one = st.builds(Kernel, name=st.just("k"), units=shares, reads=names, writes=names, converts=st.booleans())
    kernels = data.draw(st.lists(one, min_size=1, max_size=8))
    timed = [(each, data.draw(st.floats(0, 100))) for each in kernels]
    found = share_out(timed, kernels)

    assert found.total_ms == pytest.approx(sum(ms for _, ms in timed))
    assert set(found.unit_ms) <= set(UNITS)
    assert all(before != after and {before, after} <= {*UNITS, ""} for before, after in found.boundary_ms)
