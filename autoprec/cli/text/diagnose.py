"""What `autoprec diagnose` says."""

from __future__ import annotations

from autoprec.cli.screen import print_table, say
from autoprec.proof.diagnosis.record import Diagnosis, UnitError
from autoprec.report.diagnosis import MEANING, conclusions, text_of

_ALL = 40
_AROUND = 2
_WORST = 8
_TITLES = ["#", "unit", "planned", "plan", "adds", "runtime", "adds ", ""]


def print_diagnosis(found: Diagnosis, everything: bool) -> None:
    """Print the table and what follows from it.

    Args:
        found: the diagnosis.
        everything: whether to print all units of a long network.
    """
    kept = _kept(found, everything)
    rows: list[list[str]] = []
    for index, unit in enumerate(found.units):
        if index in kept:
            rows.append(_row(index, unit))
        elif not rows or rows[-1][0]:
            rows.append(["", "...", *[""] * 6])
    for name, (plan, runtime) in found.outputs.items():
        rows.append(["", f"output {name}", "", text_of(plan.here), "", text_of(runtime.here), "", ""])
    marked = any(unit.parts for unit in found.units)
    width = len(_TITLES) if marked else len(_TITLES) - 1
    print_table(_TITLES[:width], [row[:width] for row in rows])
    say(f"\n{MEANING}")
    for line in conclusions(found):
        say(line)


def _kept(found: Diagnosis, everything: bool) -> set[int]:
    """The indices of the units to print: of a long network those that err most, with their neighbours."""
    count = len(found.units)
    if everything or count <= _ALL:
        return set(range(count))
    kept = {0, count - 1}
    parting = [i for i, unit in enumerate(found.units) if unit.parts]
    for index in parting[:_WORST]:
        kept.update(range(max(index - _AROUND, 0), min(index + _AROUND + 1, count)))
    for added in ([unit.plan.own for unit in found.units], [unit.runtime.own for unit in found.units]):
        kept.update(sorted(range(count), key=lambda i: -(added[i] or 0.0))[:_WORST])
    return kept


def _row(index: int, unit: UnitError) -> list[str]:
    shown = [text_of(n) for n in (unit.plan.here, unit.plan.own, unit.runtime.here, unit.runtime.own)]
    return [str(index + 1), unit.unit, unit.precision.value, *shown, "differs" if unit.parts else ""]
