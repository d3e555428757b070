"""A command ends at its limit and a tenth, whatever it is doing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from autoprec.cli.last_moment import last_moment


class _Timer:
    """A clock that rings when it is told to."""

    def __init__(self, seconds: float, ring: Callable[[], None]) -> None:
        self.seconds, self.ring, self.daemon, self.runs = seconds, ring, False, False

    def start(self) -> None:
        self.runs = True

    def cancel(self) -> None:
        self.runs = False


def test_it_ends_after_a_tenth_more_and_one_second_with_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    made: list[_Timer] = []
    codes: list[int] = []

    def timer(seconds: float, ring: Callable[[], None]) -> _Timer:
        made.append(_Timer(seconds, ring))
        return made[0]

    with last_moment(100.0, 30.0, timer=timer, end=codes.append):
        assert made[0].runs
        assert made[0].daemon, "it must not keep a process alive that has ended"
        assert made[0].seconds == pytest.approx(81.0)
        made[0].ring()

    assert codes == [2]
    assert not made[0].runs
    assert "the same command with more time goes on" in capsys.readouterr().err


def test_without_a_limit_there_is_no_timer() -> None:
    def timer(seconds: float, ring: Callable[[], None]) -> _Timer:
        raise AssertionError("no timer is needed")

    with last_moment(None, 5.0, timer=timer):
        pass
