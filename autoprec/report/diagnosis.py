"""Where the error is: the section of the report, and the sentences that say what follows from a diagnosis."""

from __future__ import annotations

import math

from autoprec.proof.diagnosis.record import Diagnosis, Noise, UnitError, Visibility, decibels
from autoprec.report.answer import shown_plan
from autoprec.report.read import RunRecord
from autoprec.report.sections import Cell, Column, Curves, Form, Section, Table

_NAMED = 8
"""So many units are named in a sentence."""
MEANING = (
    "Signal-to-noise ratio in dB; higher is better. plan: the plan in exact arithmetic against FP32. runtime: what the "
    "runtime computes against the plan in exact arithmetic. adds: the error of this unit alone, with the inputs that "
    "it had in the plan or in the runtime."
)


def diagnosis_section(run: RunRecord) -> Section | None:
    """What each unit computes in FP32, by the plan, and in the runtime; None where nobody looked."""
    found = run.diagnosis
    if found is None:
        return None
    now = shown_plan(run)
    other = bool(now) and any(now.get(unit.unit) is not unit.precision for unit in found.units)
    notes = [f"Of {found.plan}, on {found.samples} samples. {MEANING}", *map(_sentence, conclusions(found))]
    if other:
        notes.append("This is another plan than the answer above; run `autoprec diagnose` again to look at the answer.")
    columns = [
        Column("#", Form.COUNT),
        Column("unit"),
        Column("planned", Form.PRECISION),
        Column("plan", Form.NUMBER, "dB"),
        Column("plan adds", Form.NUMBER, "dB"),
        Column("runtime", Form.NUMBER, "dB"),
        Column("runtime adds", Form.NUMBER, "dB"),
        Column("runtime beside exact arithmetic"),
    ]
    rows: list[list[Cell]] = [
        [i + 1, unit.unit, unit.precision.value, *_cells(unit), "differs" if unit.parts else ""]
        for i, unit in enumerate(found.units)
    ]
    return Section(
        key="diagnosis",
        title="Where the error comes from",
        notes=notes,
        table=Table(columns, rows, frozenset(i for i, unit in enumerate(found.units) if unit.parts)),
        plots=[_curves(found)] if len(found.units) > 1 else [],
    )


def _cells(unit: UnitError) -> list[Cell]:
    """Decibels as numbers; exact is infinite."""
    noises = (unit.plan.here, unit.plan.own, unit.runtime.here, unit.runtime.own)
    return [
        None if n is None else "exact" if n == 0 else "not finite" if n == math.inf else decibels(n) for n in noises
    ]


def _curves(found: Diagnosis) -> Curves:
    def series(noises: list[float | None]) -> list[float]:
        known = [decibels(noise) for noise in noises]
        return [math.nan if value is None else value for value in known]

    return Curves(
        title="Error along the network",
        y="signal to noise, dB",
        series={
            "plan beside FP32": series([unit.plan.here for unit in found.units]),
            "runtime beside exact arithmetic": series([unit.runtime.here for unit in found.units]),
        },
        logarithmic=False,
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def text_of(noise: float | None) -> str:
    """Noise as people read it: in dB, "exact" or "not finite"; "-" where it is not known."""
    if noise is None:
        return "-"
    if not math.isfinite(noise):
        return "not finite"
    found = decibels(noise)
    return "exact" if found is None else f"{found:.1f}"


def conclusions(found: Diagnosis) -> list[str]:
    """What follows from a diagnosis, one sentence each."""
    return [*_of_plan(found), *_of_runtime(found), *_of_sight(found)]


def _of_plan(found: Diagnosis) -> list[str]:
    worst = found.worst
    if worst is None:
        return ["in exact arithmetic, the plan computes the same as FP32."]
    return [f"in the plan, {worst.unit} ({worst.precision}) adds most error: {_decibels(worst.plan)} by itself."]


def _of_runtime(found: Diagnosis) -> list[str]:
    if found.visibility is Visibility.NOTHING:
        return ["the runtime does not run on this machine, so only the plan was examined; diagnose where it runs."]
    first, parting = found.first, [unit.unit for unit in found.units if unit.parts]
    if first is None:
        return ["in every unit that can be judged, the runtime computes the same as exact arithmetic, up to rounding."]
    where = f"{first.unit} ({first.precision}), {_decibels(first.runtime)} by itself"
    told = f"first unit where {found.runtime} differs from exact arithmetic: {where}"
    lines = [f"{told}; rounding alone explains {text_of(first.tolerance)} dB."]
    if len(parting) > 1:
        more = f" and {len(parting) - 1 - _NAMED} more" if len(parting) - 1 > _NAMED else ""
        lines.append(f"other units that differ: {', '.join(parting[1 : _NAMED + 1])}{more}.")
    return lines


def _decibels(noise: Noise) -> str:
    text = text_of(noise.own)
    return f"{text} dB" if text[0].isdigit() or text[0] == "-" else text


def _of_sight(found: Diagnosis) -> list[str]:
    if found.visibility is Visibility.NOTHING:
        return []
    lines = []
    if found.visibility is Visibility.EXTRA_OUTPUTS:
        same = "; the outputs did not change, bit for bit" if found.disturbed == 0 else ""
        if found.disturbed:
            same = f"; reading them changed the outputs ({text_of(found.disturbed)} dB), so an error may be hidden"
        lines.append(f"values were read as extra outputs of the model: {_kernels(found.changed)}{same}.")
    else:
        lines.append("values were read as unfused debug tensors, which do not change how layers are fused.")
    if found.hidden:
        names = ", ".join(found.hidden[:_NAMED]) + (", ..." if len(found.hidden) > _NAMED else "")
        lines.append(f"{len(found.hidden)} units are fused into others, so their values cannot be seen: {names}.")
    return lines


def _kernels(changed: tuple[str, ...] | None) -> str:
    """What became of the kernels when values were looked at."""
    if changed is None:
        return "this may have changed how layers are fused, which the runtime does not tell"
    if not changed:
        return "the kernels stayed the same"
    names = ", ".join(changed[:_NAMED]) + (", ..." if len(changed) > _NAMED else "")
    return f"this changed the kernels of {len(changed)} units ({names})"
