"""Engines that take turns in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from autoprec.precision import Array
from autoprec.run.turns import Turns


class Counted:
    """An engine that says when it is freed."""

    size_bytes = 0

    def __init__(self, name: str, alive: list[str]) -> None:
        self.name, self.alive = name, alive
        alive.append(name)

    def run(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        return dict(feed)

    def time_ms(self, feed: Mapping[str, Array], runs: int) -> list[float]:
        return [1.0] * runs

    def __enter__(self) -> Counted:
        return self

    def __exit__(self, *_: object) -> None:
        self.alive.remove(self.name)


def test_the_engine_that_was_used_longest_ago_gives_way_and_comes_again() -> None:
    alive: list[str] = []

    def builder(name: str) -> Callable[[], Counted]:
        return lambda: Counted(name, alive)

    turns = Turns(2)
    first, second, third = (turns.engine(builder(name), 1) for name in "abc")
    with first, second:
        assert alive == ["a", "b"]
        first.time_ms({}, 1)
        with third:
            assert alive == ["a", "c"]
            assert second.time_ms({}, 3) == [1.0] * 3
            assert sorted(alive) == ["b", "c"]
    assert alive == []


def test_an_engine_larger_than_the_limit_is_alone() -> None:
    alive: list[str] = []
    turns = Turns(2)
    small, large = turns.engine(lambda: Counted("s", alive), 1), turns.engine(lambda: Counted("l", alive), 3)
    with small, large:
        assert alive == ["l"]
