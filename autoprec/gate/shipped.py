"""The size of what would be shipped, the precision of each unit as it ran, and what else changed since the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autoprec.gate.evidence import Evidence
from autoprec.gate.limits import Limits
from autoprec.gate.verdict import Check, Status
from autoprec.proof.verification import UnitStatus, Verification

_ROUNDING = 1e-9
_MACHINE = ("autoprec", "hardware", "driver", "clocks", "threads", "batch")


def judge_size(committed: int, now: int, limits: Limits) -> Check:
    """The lowered model's bytes against the baseline's, and against a bound of their own.

    Args:
        committed: the bytes of the baseline's lowered model.
        now: the bytes of the model that is judged.
        limits: the limits, of which `max_size` and `max_bytes` count.
    """
    share = now / committed - 1
    bounds = []
    if limits.max_size is not None:
        bounds.append((f"+{limits.max_size:.1%}", share > limits.max_size + _ROUNDING))
    if limits.max_bytes is not None:
        bounds.append((f"{limits.max_bytes:,} bytes", now > limits.max_bytes))
    allowed = " and ".join(text for text, _ in bounds)
    worse = any(broken for _, broken in bounds)
    status = Status.SKIPPED if not bounds else Status.WORSE if worse else Status.FINE
    sentence = f"the lowered model has {now:,} bytes, {now / committed:.3f} of the baseline's"
    if worse:
        sentence += f", more than the {allowed} allowed; see which units or weights grew, or allow it by --max-size"
    if not bounds:
        sentence += "; --max-size sets a bound"
    return Check(
        name="size",
        status=status,
        baseline=f"{committed:,} bytes",
        now=f"{now:,} bytes",
        change=f"{share:+.1%}",
        allowed=allowed or "-",
        sentence=sentence,
    )


def judge_precision(committed: Mapping[str, Any], renamed: Mapping[str, str], now: Verification) -> Check:
    """Each unit that ran as asked at the time of the baseline must still do so.

    Args:
        committed: the baseline's verification record.
        renamed: unit -> its name at the time of the baseline.
        now: the verification of the model that is judged, in the same runtime.
    """
    refused_then, units_then = set(committed["refused"]), committed["units"]
    lost = [unit for unit in now.refused if renamed.get(unit.unit, unit.unit) not in refused_then]
    known = [unit for unit in now.refused if unit not in lost]
    unproven_then = set(committed.get("unproven", ()))
    doubtful = [unit for unit in now.unproven if renamed.get(unit.unit, unit.unit) not in unproven_then]
    details = [unit.describe() for unit in (*lost, *doubtful)]
    details += [f"{unit.describe()} (as at the time of the baseline)" for unit in known]
    changed = [
        f"{unit.unit} ran in {units_then[old].get('ran')} and runs in {unit.ran}"
        for unit in now.units
        if (old := renamed.get(unit.unit, unit.unit)) in units_then
        and unit.ran is not None
        and units_then[old].get("ran") not in (None, str(unit.ran))
        and unit not in now.refused
    ]
    sentence = "every unit whose precision matters runs as at the time of the baseline"
    if lost:
        sentence = (
            f"{len(lost)} unit{'s' * (len(lost) != 1)} no longer run{'s' * (len(lost) == 1)} in the precision of the "
            f"plan: the runtime did not honour it; tune again with this runtime, or pin them to what they ran in"
        )
    elif doubtful:
        sentence = (
            f"{len(doubtful)} unit{'s' * (len(doubtful) != 1)} whose precision was proven at the time of the baseline "
            f"cannot be proven now: merged into other layers, or not named by the engine"
        )
    return Check(
        name="precision",
        status=Status.NOT_HONOURED if lost else Status.CANNOT_JUDGE if doubtful else Status.FINE,
        baseline=_counts(committed["counts"]),
        now=_counts(now.counts),
        change=f"{len(lost)} lost" if lost else "none lost",
        allowed="none lost",
        sentence=sentence,
        details=(*details, *changed),
    )


def changes(committed: Evidence, now: Evidence) -> tuple[str, ...]:
    """One line for people for each fingerprint that differs from the baseline's."""
    pairs = [
        ("model", committed.model["path"], now.model["path"]),
        ("graph", committed.model["graph"], now.model["graph"]),
        ("weights", committed.model["weights"], now.model["weights"]),
        ("lowered model", committed.lowered["sha256"][:16], now.lowered["sha256"][:16]),
        ("samples", committed.data["report"], now.data["report"]),
        ("metric", committed.metric["fingerprint"], now.metric["fingerprint"]),
    ]
    pairs += [(key, committed.machine[key], now.machine[key]) for key in _MACHINE]
    before, after = committed.machine["describe"], now.machine["describe"]
    pairs += [(key, before.get(key, "not there"), after.get(key, "not there")) for key in sorted({*before, *after})]
    said: dict[str, None] = {}
    for name, old, new in pairs:
        if str(old) != str(new):
            said[f"{name}: {old} -> {new}"] = None
    return tuple(said)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {UnitStatus(status).text}" for status, count in counts.items() if count) or "no units"
