"""The table that a tune ends with: one row for each candidate."""

from __future__ import annotations

import math

from autoprec.run.answer.candidate import Candidate
from autoprec.run.answer.result import TuneResult
from autoprec.stats.drop import Drop
from autoprec.timing.compare import Timing
from autoprec.units.shares import mac_share

_FIDELITY = {"agreement": "agreement", "kl": "KL"}
"""Metric -> the title of its column beside that of another metric."""


def table_rows(tuned: TuneResult) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the final table: one row for each candidate."""
    settings = tuned.task.settings
    bounded = math.isfinite(settings.max_drop)
    header = [
        "plan",
        tuned.task.metric.name,
        "drop",
        f"{100 * settings.level:g} % interval",
        *([f"within {settings.max_drop:g}"] if bounded else []),
        *(title for name, title in _FIDELITY.items() if name != tuned.task.metric.name),
        _milliseconds(tuned),
        f"vs {tuned.goal.unit_text}",
        *(text for name in tuned.unit.elsewhere for text in (f"ms, {name}", f"vs {tuned.goal.unit_text}")),
        *{"throughput": ["samples/s"], "size": ["bytes"]}.get(tuned.goal.objective, []),
        "MACs",
    ]
    return header, [_row(tuned, candidate) for candidate in tuned.candidates.values()]


def _milliseconds(tuned: TuneResult) -> str:
    situation, clock = tuned.task.settings.situation, tuned.task.backend.clock
    modelled = [] if clock.kind == "measured" else ["modelled"]
    return ", ".join(["ms", *([] if situation is None else [situation.name]), *modelled])


def _row(tuned: TuneResult, candidate: Candidate) -> list[str]:
    outcome, drop, bound = candidate.outcome, candidate.drop, tuned.task.settings.max_drop
    shares = mac_share(tuned.task.subject.partition, candidate.plan)
    fidelity = {
        "agreement": "-" if outcome.agreement is None else f"{outcome.agreement:.4f}",
        "kl": "-" if outcome.kl is None else f"{outcome.kl:.2g}",
    }
    extra = {
        "throughput": [f"{tuned.samples_per_s(candidate):,.0f}"],
        "size": [f"{candidate.size:,}"],
    }
    return [
        f"{candidate.name} *" if candidate.name == tuned.chosen else candidate.name,
        tuned.task.metric.describe(float(outcome.scores.mean())),
        f"{drop.estimate:+.4f}" if outcome.finite else "infinite",
        f"{drop.low:+.4f}, {drop.high:+.4f}" if outcome.finite and drop.low < drop.high else "-",
        *([_certificate(drop, bound)] if math.isfinite(bound) else []),
        *(cell for name, cell in fidelity.items() if name != tuned.task.metric.name),
        f"{candidate.latency.median_ms:.2f}",
        f"{candidate.latency.ratio_to(tuned.unit.latency).estimate:.3f}",
        *(text for name, rival in tuned.unit.elsewhere.items() for text in _beside(candidate.elsewhere[name], rival)),
        *extra.get(tuned.goal.objective, []),
        " ".join(f"{share:.0%} {p}" for p, share in shares.items()),
    ]


def _beside(timing: Timing, unit: Timing) -> tuple[str, str]:
    return f"{timing.median_ms:.2f}", f"{timing.ratio_to(unit).estimate:.3f}"


def _certificate(drop: Drop, bound: float) -> str:
    """Whether held-out samples prove that the bound is met, in a cell."""
    if drop.certifies(bound):
        return "certified"
    if math.isinf(drop.estimate):
        return "no: NaN or infinity"
    needed = drop.samples_to_certify(bound)
    return "no" if needed is None else f"needs {needed:,} samples"
