"""The shapes that engines are built for where a model leaves them open."""

from __future__ import annotations

import pytest

from autoprec.backends.tensorrt.open_shapes import shape_profiles
from autoprec.backends.tensorrt.records import ShapeProfile
from autoprec.errors import UsageError


def best(inputs: dict[str, tuple[int | None, ...]], sizes: dict[str, tuple[int, ...]], batch: int) -> tuple[int, ...]:
    profile = shape_profiles(inputs, {}, sizes, batch)["x"]
    assert profile.least == profile.best == profile.largest
    return profile.best


def test_open_sizes_come_from_a_sample_of_the_data_and_the_batch_from_the_user() -> None:
    assert best({"x": (None, 3, None, None)}, {"x": (1, 3, 32, 48)}, 4) == (4, 3, 32, 48)
    assert best({"x": (None, None, 3)}, {"x": (12, 1, 3)}, 4) == (12, 4, 3)
    assert best({"x": (None, 3)}, {}, 4) == (4, 3)


def test_a_free_size_that_nobody_says_is_refused_and_never_one() -> None:
    with pytest.raises(UsageError, match=r"sizes of input 'x', .* \?x3x\?x\?, .* --shapes x:1x3x224x224, or as"):
        shape_profiles({"x": (None, 3, None, None)}, {}, {}, 1)


def test_the_users_shapes_go_before_those_of_the_data() -> None:
    given = {"x": ShapeProfile((1, 8), (2, 8), (4, 8))}

    assert shape_profiles({"x": (None, None)}, given, {"x": (1, 5)}, 1) == given
