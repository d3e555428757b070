"""What people see of a run: a bar on a terminal, a line at most every half minute in a log."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from autoprec.cli.screen import Screen


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("autoprec.cli.screen.time.monotonic", lambda: now[0])
    return now


def screen_on(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> tuple[Screen, io.StringIO]:
    file = io.StringIO()

    def console(**options: Any) -> Console:
        return Console(file=file, force_terminal=terminal, width=80, quiet=options["quiet"])

    monkeypatch.setattr("rich.console.Console", console)
    return Screen(quiet=False), file


def test_a_log_gets_a_line_every_half_minute_with_pass_share_and_time_left(
    monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    screen, file = screen_on(monkeypatch, terminal=False)
    screen.stage("ranges", "14 values")
    for percent in range(1, 101):
        clock[0] = 1.0 * percent
        screen.advance(percent / 100, "calibrators")

    lines = file.getvalue().splitlines()
    assert len(lines) == 4
    assert lines[1].strip() == "ranges: calibrators  30%, 29 s so far, about 68 s left"


def test_a_terminal_shows_a_bar_with_elapsed_and_remaining_time(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, file = screen_on(monkeypatch, terminal=True)
    screen.stage("sensitivity", "")
    screen.advance(0.5)
    screen.close()

    shown = file.getvalue()
    assert "50%" in shown
    assert "0:00:00" in shown
    assert "left" in shown
