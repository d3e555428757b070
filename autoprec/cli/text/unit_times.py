"""The profile by unit as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from autoprec.cli.screen import print_table

if TYPE_CHECKING:
    from autoprec.proof.unit_times import UnitTimes
    from autoprec.proof.verification import Verification

_NETWORK = {"before": "(input)", "after": "(output)"}


def print_times(times: UnitTimes, verification: Verification) -> None:
    """Units, boundaries and the rest on standard output, then how much of the engine's time that is."""
    modelled = "" if times.clock.kind == "measured" else ", modelled"
    columns = [f"ms{modelled}", "share"]
    batch = ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in times.shapes.items())

    def figures(milliseconds: float) -> list[str]:
        return [f"{milliseconds:.4f}", f"{times.share(milliseconds):.1%}"]

    units = times.units(verification)
    click.echo(f"\ntime by unit, {times.clock.text}, for {batch}:")
    print_table(["unit", *columns, "ran in"], [[unit, *figures(ms), ran] for unit, ms, ran in units if ms > 0])
    if idle := [unit for unit, ms, _ in units if not ms > 0]:
        click.echo(f"without time of their own: {', '.join(idle)}")
    _print_part(
        f"time between units (reformats, casts, copies, Q/DQ), {times.clock.text}",
        ["boundary", *columns],
        [
            [f"{before or _NETWORK['before']} -> {after or _NETWORK['after']}", *figures(ms)]
            for before, after, ms in times.boundaries()
        ],
    )
    _print_part(
        f"the rest, of no unit and no boundary, {times.clock.text}",
        ["layer", *columns],
        [[layer, *figures(ms)] for layer, ms in times.rest()],
    )
    found = times.attribution
    click.echo(f"\n{found.share:.1%} of the time of layers is attributed to units and boundaries{modelled}")
    click.echo(
        f"the layers add up to {found.total_ms:.4f} ms, {times.layers_over_engine:.2f} of the whole engine's median of "
        f"{times.engine_ms:.4f} ms ({times.clock.text})"
    )


def _print_part(title: str, header: list[str], rows: list[list[str]]) -> None:
    click.echo(f"\n{title}:{'' if rows else ' none'}")
    if rows:
        print_table(header, rows)
