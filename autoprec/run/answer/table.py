"""The final table."""

from __future__ import annotations

import math

from autoprec.run.answer.report import candidate_record
from autoprec.run.answer.result import TuneResult
from autoprec.stats.drop import Drop


def table_rows(tuned: TuneResult) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the final table: one row for each candidate."""
    metric = tuned.task.metric
    milliseconds = "ms" if tuned.task.backend.clock.kind == "measured" else "ms, modelled"
    bound = tuned.task.settings.max_drop
    level = tuned.task.settings.level
    bounded = math.isfinite(bound)
    extra = {"throughput": ["samples/s"], "size": ["bytes"]}.get(tuned.goal.objective, [])
    header = [
        "plan",
        metric.name,
        f"drop ({100 * level:g} %)",
        *([f"within {bound:g}"] if bounded else []),
        "agreement",
        "KL",
        milliseconds,
        "vs FP32",
        *extra,
        "MACs",
    ]
    rows = []
    for name, candidate in tuned.candidates.items():
        record = candidate_record(tuned, candidate)
        drop, ratio = record["estimated_drop"], record["latency_vs_fp32"]
        rows.append(
            [
                f"{name} *" if name == tuned.chosen else name,
                metric.describe(record["score"]),
                f"{drop['estimate']:+.4f} ({drop['low']:+.4f} .. {drop['high']:+.4f})",
                *([_certificate(candidate.drop, bound)] if bounded else []),
                "-" if record["agreement"] is None else f"{record['agreement']:.4f}",
                "-" if record["kl"] is None else f"{record['kl']:.2g}",
                f"{record['latency_ms']:.2f}",
                f"{ratio['estimate']:.3f}",
                *([f"{record['samples_per_s']:,.0f}"] if "samples_per_s" in record else []),
                *([f"{record['bytes']:,}"] if tuned.goal.objective == "size" else []),
                " ".join(f"{share:.0%} {p}" for p, share in record["mac_share"].items()),
            ]
        )
    return header, rows


def _certificate(drop: Drop, bound: float) -> str:
    """Whether fresh samples prove that the bound is met, in a cell."""
    if drop.certifies(bound):
        return "certified"
    needed = drop.samples_to_certify(bound)
    return "no" if needed is None else f"not certified: {needed:,} samples"
