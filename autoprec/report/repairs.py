"""What each exact change of the model bought."""

from __future__ import annotations

import math

from autoprec.report.read import RunRecord
from autoprec.report.sections import Cell, Column, Form, Section, Table

_COLUMNS = (
    Column("value"),
    Column("repair"),
    Column("noise / signal of its units without", Form.TINY),
    Column("with", Form.TINY),
    Column("bought", Form.NUMBER, "dB"),
    Column("why not"),
)


def repairs_section(run: RunRecord) -> Section | None:
    """The repairs that were kept, what each bought, and why others were not kept."""
    found = run.repairs
    if found is None or not (found.kept or found.refused):
        return None
    rows: list[list[Cell]] = [
        [r.value, r.kind.value, r.noise_before, r.noise_after, bought_db(r.noise_before, r.noise_after), ""]
        for r in found.kept
    ]
    rows += [[value, "none", None, None, None, why] for value, why in found.refused.items()]
    notes = [f"{len(found.kept)} of {len(rows)} exact changes of the model are kept, in all plans that quantise it."]
    if found.kept:
        gain = bought_db(found.noise_without, found.noise_with)
        notes.append(
            f"On {found.samples} calibration samples that proposed none of them, uniform INT8 gains {gain:.1f} dB: its "
            f"noise / signal falls from {found.noise_without:.2g} to {found.noise_with:.2g}."
        )
    return Section(key="repairs", title="Repairs", notes=notes, table=Table(_COLUMNS, rows))


def bought_db(before: float, after: float) -> float:
    """The decibels by which a noise fell."""
    return 10 * math.log10(before / after) if before > 0 and after > 0 else 0.0
