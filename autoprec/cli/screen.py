"""What people see: the progress of a run on standard error, and tables and JSON on standard output."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from autoprec.cli.verbosity import is_quiet
from autoprec.files.columns import fitted, screen_width, without_spare, wrapped
from autoprec.files.printable import printable

if TYPE_CHECKING:
    from rich.progress import Progress

    from autoprec.study.goal import Goal
    from autoprec.study.trial import Trial

JSON_SCHEMA = 1
"""The version of what verbs print as JSON, where a record does not say its own."""
_REPEAT_S = 30.0
"""A log gets a line about the same stage no more often than this."""
_PER_S = 4
"""How often a bar is drawn: seldom, since a busy process disturbs what is timed."""


class Screen:
    """Shows the progress of a run: a bar on a terminal, and a line now and then in a log.

    Args:
        quiet: whether to show nothing.
    """

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, quiet=quiet or is_quiet())
        self._live = self._console.is_terminal and not self._console.quiet
        self._bar: Progress | None = None
        self._name = self._pass = ""
        self._said = self._began = self._since = time.monotonic()
        self._best: tuple[float, float] | None = None
        self._goal: Goal | None = None

    def stage(self, name: str, detail: str) -> None:
        """Show that a stage begins."""
        self.close()
        self._name, self._pass, detail = name, "", printable(detail)
        self._said = self._since = time.monotonic()
        if not name:
            return
        elapsed = self._since - self._began
        self._console.print(
            f"[dim]{elapsed:6.1f} s[/dim]  [bold]{name:<12}[/bold] {detail}", highlight=False, soft_wrap=True
        )
        if self._live:
            self._bar = _bar(self._console, name)
            self._bar.start()

    def advance(self, share: float, what: str = "") -> None:
        """Show the share of the stage, or of one pass of it, that is done.

        Args:
            share: from 0 to 1.
            what: the name of the pass, empty where the stage is one pass.
        """
        if what != self._pass:
            self._pass, self._since = what, time.monotonic()
            if self._bar is not None:
                self.close()
                self._bar = _bar(self._console, f"{self._name}: {what}")
                self._bar.start()
        now = time.monotonic()
        if self._bar is not None:
            for task in self._bar.task_ids:
                self._bar.update(task, total=1.0, completed=share)
        elif now - self._said >= _REPEAT_S:
            self._said = now
            self._console.print(f"          {self._how_far(share, now)}", highlight=False, soft_wrap=True)

    def _how_far(self, share: float, now: float) -> str:
        """The stage, its pass, the share that is done, and the time that it takes."""
        spent, name = now - self._since, f"{self._name}: {self._pass}" if self._pass else self._name
        left = f", about {spent * (1 - share) / share:.0f} s left" if 0 < share < 1 else ""
        return printable(f"{name} {share:4.0%}, {spent:.0f} s so far{left}")

    def trial(self, trial: Trial) -> None:
        """Show what was measured of a plan."""
        measured = trial.measured
        star = " "
        cost = self._cost(trial)
        if trial.feasible and (self._best is None or cost < self._best):
            self._best, star = cost, "*"
        verdict = "within the bound" if trial.feasible else "over the bound"
        unit = "FP32" if self._goal is None else self._goal.unit_text
        latency = f"{measured.latency_ratio:6.3f} x {unit}" if measured.timed else "     not timed"
        size = ""
        if self._goal is not None and self._goal.objective == "size":
            size = f"{measured.bytes or 0:>13,} bytes   "
        if self._goal is not None and self._goal.objective == "throughput":
            latency = f"{1 / measured.latency_ratio:6.3f} x {unit}'s throughput" if measured.timed else latency
        self._console.print(
            f"          {star} trial {trial.number:<3} {size}{latency}   "
            f"drop {measured.judged_drop:+.4f}  {verdict:<16}  {printable(trial.origin)}",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )

    def aim(self, goal: Goal) -> None:
        """Set what the plans that follow are compared by."""
        self._goal = goal

    def _cost(self, trial: Trial) -> tuple[float, float]:
        m = trial.measured
        if self._goal is None:
            return m.latency_ratio, m.judged_drop
        return self._goal.cost(m.judged_drop, m.latency_ratio, m.bytes, m.noise)

    def note(self, text: str) -> None:
        """Show a message that the user should read now."""
        self._console.print(f"          {printable(text)}", highlight=False, soft_wrap=True, markup=False)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _bar(console: Any, name: str) -> Progress:
    """A bar with the elapsed and the remaining time, which is gone when the stage has ended."""
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        refresh_per_second=_PER_S,
    )
    bar.add_task(printable(name), total=None)
    return bar


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]], spare: Sequence[str] = ()) -> None:
    """Print an aligned table without frames, which is also readable in a log, no wider than the terminal.

    Args:
        header: the titles.
        rows: the cells.
        spare: the titles of columns that are left out where they do not fit, the most important one first.
    """
    rows = [[printable(" ".join(cell.split())) for cell in row] for row in rows]
    width = screen_width()
    titles, kept = without_spare(header, rows, spare, width)
    for line in fitted(titles, kept, width):
        click.echo(line)


def say(text: str) -> None:
    """Print a paragraph, on a terminal in lines that are broken between words; a log and a pipe get one line."""
    shown = printable(text)
    click.echo(wrapped(shown, screen_width()) if sys.stdout.isatty() else shown)


def print_json(record: Mapping[str, Any]) -> None:
    """Print one JSON document, with the version of its schema, see `autoprec --json-schema`."""
    from autoprec.files.json import as_json

    click.echo(as_json({"schema": JSON_SCHEMA, **record}))
