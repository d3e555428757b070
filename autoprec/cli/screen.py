"""What people see: the progress of a run on standard error, and tables and JSON on standard output."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from autoprec.files.printable import printable

if TYPE_CHECKING:
    from autoprec.study.goal import Goal
    from autoprec.study.trial import Trial

_REPEAT_S = 5.0


class Screen:
    """Shows the progress of a run: a live line on a terminal, and a line now and then in a log.

    Args:
        quiet: whether to show nothing.
    """

    def __init__(self, quiet: bool) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, quiet=quiet)
        self._status = self._console.status("") if self._console.is_terminal and not quiet else None
        self._name = ""
        self._said = self._began = time.monotonic()
        self._best: tuple[float, float] | None = None
        self._goal: Goal | None = None

    def stage(self, name: str, detail: str) -> None:
        """Show that a stage begins."""
        self._name, detail = name, printable(detail)
        if self._status is not None:
            self._status.stop()
        if name:
            elapsed = time.monotonic() - self._began
            self._console.print(
                f"[dim]{elapsed:6.1f} s[/dim]  [bold]{name:<12}[/bold] {detail}", highlight=False, soft_wrap=True
            )
            if self._status is not None:
                self._status.update(f"{name} ...")
                self._status.start()
        self._said = time.monotonic()

    def advance(self, share: float) -> None:
        """Show the share of the stage that is done."""
        if self._status is not None:
            self._status.update(f"{self._name} {share:4.0%}")
        elif time.monotonic() - self._said > _REPEAT_S:
            self._console.print(f"          {self._name} {share:4.0%}", highlight=False, soft_wrap=True)
            self._said = time.monotonic()

    def trial(self, trial: Trial) -> None:
        """Show what was measured of a plan."""
        measured = trial.measured
        star = " "
        cost = self._cost(trial)
        if trial.feasible and (self._best is None or cost < self._best):
            self._best, star = cost, "*"
        verdict = "within the bound" if trial.feasible else "over the bound"
        latency = f"{measured.latency_ratio:6.3f} x FP32" if measured.timed else "     not timed"
        size = ""
        if self._goal is not None and self._goal.objective == "size":
            size = f"{measured.bytes or 0:>13,} bytes   "
        if self._goal is not None and self._goal.objective == "throughput":
            latency = f"{1 / measured.latency_ratio:6.3f} x FP32's throughput" if measured.timed else latency
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
        """Remove the live line."""
        if self._status is not None:
            self._status.stop()


def print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print an aligned table without frames, which is also readable in a log."""
    rows = [[printable(" ".join(cell.split())) for cell in row] for row in rows]
    widths = [max(len(row[location]) for row in [header, *rows]) for location in range(len(header))]
    for row in [header, ["-" * width for width in widths], *rows]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_json(record: Mapping[str, Any]) -> None:
    """Print one JSON document."""
    from autoprec.files.json import as_json

    click.echo(as_json(record))
